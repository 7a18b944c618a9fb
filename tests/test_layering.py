"""The layout of the package: who may import whom, and what an import costs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rl_logging

PACKAGE = Path(rl_logging.__file__).parent
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}

# A module may import what stands in a line above its own.
LAYERS = """
__init__ errors mlflow_server interpreter distributed.place
rich
values texttable histograms secret_names key_shapes distributed.__init__ distributed.bins
tensors distributed.stats conversations episodes excerpts jsonable llm_stats
assignments encoders program distributed.reductions
distributed.parts distributed.buffer distributed.timers
distributed.methods distributed.wire distributed.reducer
distributed.torch_reducer distributed.ray_reducer
distributed.ranks
redaction encoding hyperparams git
worktree samples
diffs
samples_view record appendfile lock verdict cursor manifest lifetime provenance
line axes contents batches media_files distributed.recorder
distributed.handle distributed.inbox
media journal_reader
journal artifacts models run_folders
health
sources.sampled sources.scrape sources.ray_page sources.ray_names
sources.asked sources.ray_metrics sources.nvml sources.system sources.prometheus sources.__init__
sources.ray_cluster
sources.ray_child
sources.ray_gpu
sources.ray_monitor
formats.__init__ formats.bounds
formats.base llm_plots
handover inline backlog
formats.sb3 formats.tracker formats.mlflow_store formats.media
formats.sessions
formats.csv formats.human formats.json formats.memory compat.prt_files
formats.wandb_log formats.clearml_session formats.wandb_config formats.wandb_settings formats.mlflow_draft
formats.wandb_contents formats.clearml_files formats.mlflow_files formats.mlflow_models
formats.swanlab_values formats.tensorboard_values
formats.wandb_about formats.clearml_values formats.mlflow_facts formats.swanlab_log formats.tensorboard_page
formats.wandb_values formats.swanlab_records
formats.tensorboard formats.mlflow formats.wandb formats.clearml formats.swanlab
formats.trackers
delivery
deliveries
courier supervision
dispatch
fanout recording formats.journal
reducing
journaled
direct
rollouts
logger
compose readers plots callbacks
sync_plan demo_chaos demo_ray demo_report demo_values
sync
compat.__init__ compat.prt_base compat.prt_system compat.nemo_config compat.nemo_names compat.nemo_functions
compat.nemo_backends compat.prt_rl
compat.nemo_gpu
compat.nemo_rl
demo
demo_llm
cli
"""
LEVELS = {name: level for level, line in enumerate(LAYERS.split("\n")) for name in line.split()}
TRACKERS = ["tensorboard", "mlflow", "wandb", "clearml", "swanlab"]
OUTPUTS = ["csv", "human", "json", "journal", "memory", *TRACKERS]


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The (module, name) of every import, those inside functions too, but not those for types only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the package"
            yield from ((str(node.module), alias.name) for alias in node.names)
        else:
            yield from _imports(node)


def _ours(module: str) -> set[str]:
    """The modules of the package that a module imports."""
    found = set()
    for source, name in _imports(ast.parse(MODULES[module].read_text("utf-8"))):
        if source.split(".")[0] == "rl_logging":
            path = ".".join([*source.split(".")[1:], name]).strip(".")
            path = path if path in MODULES else path.rpartition(".")[0]
            found.add(path if path in MODULES else f"{path}.__init__".strip("."))
    return found


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"__init__"}))
def test_module_imports_only_what_stands_above_it(module):
    """So that each part can be read, tested and removed without those that use it."""
    below = {used for used in _ours(module) if LEVELS.get(used, 99) >= LEVELS[module]}

    assert below == set()


def test_layers_name_every_module():
    """A new module gets its place, and a removed one loses it."""
    assert LEVELS.keys() | {"__init__"} == MODULES.keys()


def test_outputs_do_not_know_each_other():
    """A tracker whose company closes is one file to delete."""
    known = {
        (one, other) for one in OUTPUTS for other in OUTPUTS if f"formats.{other}" in _ours(f"formats.{one}")
    }

    assert known == set()


def test_names_in_all_are_those_that_load():
    """A name that is missing in one of the lists is found by nobody, or by nothing."""
    assert set(rl_logging.__all__) == set(rl_logging._HOME)
    assert {name for name in rl_logging.__all__ if getattr(rl_logging, name, None) is None} == set()
    assert set(rl_logging.__all__) <= set(dir(rl_logging))


def test_names_in_all_are_sorted_and_each_there_once():
    """Constants, then classes, then functions; ``dir()`` and the documentation list them so."""

    def place(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    assert rl_logging.__all__ == sorted(set(rl_logging.__all__), key=place)


def test_type_checkers_see_what_is_loaded():
    """The imports for type checkers and the table for the rest say the same."""
    tree = ast.parse(MODULES["__init__"].read_text("utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))

    assert {
        name: module for node in typed.body for module, name in _imports(ast.Module([node], []))
    } == rl_logging._HOME


def test_no_public_name_is_a_modules():
    """Importing the module would replace the function: ``rl_logging.configure`` would be a module."""
    modules = {name.split(".")[0] for name in MODULES}

    assert set(rl_logging.__all__) & modules == set()


def test_unknown_name_is_an_attribute_error():
    """As with every module, so that ``hasattr`` works."""
    with pytest.raises(AttributeError, match="module 'rl_logging' has no attribute 'Loger'"):
        _ = rl_logging.Loger


HEAVY = ("torch", "stable_baselines3", "pandas", "matplotlib", *TRACKERS)


@pytest.mark.parametrize(
    "modules",
    [
        "rl_logging",
        "rl_logging.cli, rl_logging.readers, rl_logging.journal",
        *(f"rl_logging.formats.{name}" for name in TRACKERS),
    ],
)
def test_import_loads_nothing_heavy(modules):
    """The command line answers at once, and the process that delivers records stays small."""
    code = f"import sys, {modules}; print([name for name in {HEAVY} if name in sys.modules])"

    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout == "[]\n"
