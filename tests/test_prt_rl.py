"""prt_rl's loggers: the names of its page, iterations that count themselves, what FileLogger writes."""

import ast
import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import child
from waiting import wait_until

import rl_logging.compat.prt_rl as prt_rl
from rl_logging.compat.prt_rl import FileLogger, Logger
from rl_logging.errors import RunInUseError

PAGE = (Path(__file__).parent / "data" / "prt_rl_names.txt").read_text().splitlines()
METHODS = (
    "should_log log_parameters log_scalar log_metrics log_artifact log_file log_directory log_figure "
    + ("log_tags save_agent save_policy close __enter__ __exit__")
)


def scalars(folder: Path) -> Any:
    return json.loads((folder / "scalars.json").read_text())


def documented() -> list[Any]:
    """Each class and method of the page, with its signature, by its path in the module."""
    found, owner = [], ""
    for line in PAGE:
        owner = line.removeprefix("class ").partition("(")[0] if line.startswith("class ") else owner
        name = "" if line.startswith("class ") else f".{line.strip().partition('(')[0]}"
        signature = line.partition("(")[2].rpartition(")")[0]
        found.append(pytest.param(owner + name, signature, id=owner + name))
    return found


def parameters(signature: str) -> dict[str, tuple[str, Any]]:
    """The kind and the default of each parameter in a text such as ``a: int, *, b: str = 'c'``."""
    arguments = ast.parse(f"def f({signature}): ...").body[0].args  # type: ignore[attr-defined]
    positional = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
    pairs = [*zip(arguments.args, positional, strict=True)]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return {
        argument.arg: (
            "keyword" if argument in arguments.kwonlyargs else "any",
            inspect.Parameter.empty if default is None else ast.literal_eval(default),
        )
        for argument, default in pairs
    }


# Names and signatures


@pytest.mark.parametrize(("path", "signature"), documented())
def test_each_name_of_the_page_takes_what_it_says(path: str, signature: str) -> None:
    """Code that was written for prt_rl is called with these arguments, by these names."""
    found: Any = prt_rl
    for name in path.split("."):
        found = getattr(found, name)
    ours = {name: p for name, p in inspect.signature(found).parameters.items() if name != "self"}

    for name, (kind, default) in parameters(signature).items():
        assert ours[name].default == default
        assert (ours[name].kind is inspect.Parameter.KEYWORD_ONLY) == (kind == "keyword")
    more = ours.keys() - parameters(signature).keys()
    assert [name for name in more if ours[name].default is inspect.Parameter.empty] == []


@pytest.mark.parametrize("name", prt_rl.__all__)
def test_every_logger_has_every_method(name: str) -> None:
    """Which logger a run gets is a setting; the algorithm calls the same methods of each."""
    kind = getattr(prt_rl, name)

    assert [method for method in METHODS.split() if not callable(getattr(kind, method, None))] == []


@pytest.mark.parametrize("freq", [0, -1, 1.5, "2", None, True])
def test_a_frequency_that_is_none_is_refused_at_once(freq: Any) -> None:
    """It would be a division by zero somewhere in the training."""
    with pytest.raises(ValueError, match="logging_freq is a whole number above 0, not"):
        Logger(freq)


# When to log, and at which iteration


@pytest.mark.parametrize(
    ("freq", "iterations", "expected"),
    [
        (1, range(4), [0, 1, 2, 3]),
        (3, range(10), [2, 5, 8]),
        (3, [0, 7, 8, 9, 10, 11], [7, 8, 11]),  # several at once: an interval that was skipped counts
        (10, [4, 4, 9, 9], [9]),
        (np.int64(2), range(4), [1, 3]),
    ],
)
def test_logging_is_due_when_an_interval_is_over(freq: int, iterations: Any, expected: list[int]) -> None:
    """Collectors count in batches, which do not hit every multiple."""
    logger = Logger(freq)

    assert [iteration for iteration in iterations if logger.should_log(iteration)] == expected


ITERATIONS: list[Any] = [
    ("a b a b", {"a": [0, 1], "b": [0, 1]}, 2),
    ("a a b a b b", {"a": [0, 1, 2], "b": [1, 2, 3]}, 4),
    ("a@10 a", {"a": [10, 11]}, 12),
    ("a@10 b a", {"a": [10, 11], "b": [10]}, 12),
    ("a@10 b@20", {"a": [10], "b": [20]}, 20),
    ("a@20 b@10", {"a": [20], "b": [10]}, 20),
    ("a a a@1 b", {"a": [0, 1, 1], "b": [1]}, 2),
    ("a a@1 a b", {"a": [0, 1, 2], "b": [2]}, 3),
    ("a a a@0 a", {"a": [0, 1, 0, 2]}, 3),
    ("a,b c a,b c", {"a": [0, 1], "b": [0, 1], "c": [0, 1]}, 2),
    ("a b,a b", {"a": [0, 1], "b": [1, 2]}, 3),
    ("a b a e@10 a,b e@3 a", {"a": [0, 1, 10, 11], "b": [0, 10], "e": [10, 3]}, 12),
    ("a,b@5 c a", {"a": [5, 6], "b": [5], "c": [5]}, 7),
]


@pytest.mark.parametrize(("calls", "steps", "iteration"), ITERATIONS, ids=[row[0] for row in ITERATIONS])
def test_iterations_count_themselves(calls: str, steps: Any, iteration: int, tmp_path: Path) -> None:
    """Two values of one round belong to one iteration, and no name gets the same one twice."""
    with FileLogger(str(tmp_path)) as logger:
        for call in calls.split():
            names, _, given = call.partition("@")
            at = int(given) if given else None
            if "," in names:
                logger.log_metrics(dict.fromkeys(names.split(","), 1.0), at)
            else:
                logger.log_scalar(names, 1.0, at)

        assert logger.iteration == iteration
    assert {name: [at for at, _ in points] for name, points in scalars(tmp_path).items()} == steps


def test_an_iteration_that_is_set_is_the_next_one(tmp_path: Path) -> None:
    """A training that goes on from a checkpoint sets it; the attribute is a documented one."""
    with FileLogger(str(tmp_path)) as logger:
        logger.log_scalar("a", 1.0)
        logger.iteration = 100
        logger.log_scalar("a", 2.0)

    assert scalars(tmp_path) == {"a": [[0, 1.0], [100, 2.0]]}


def test_an_iteration_that_is_no_number_is_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A slip in a call must not end hours of training, nor go unseen."""
    with FileLogger(str(tmp_path)) as logger:
        logger.log_scalar("a", 1.0, "first")  # type: ignore[arg-type]
        logger.log_scalar("a", 2.0, float("nan"))  # type: ignore[arg-type]
        logger.log_scalar("a", 3.0, np.int64(7))

    assert scalars(tmp_path) == {"a": [[0, 1.0], [1, 2.0], [7, 3.0]]}
    assert "not 'first'; it is counted instead (test_prt_rl.py:" in caplog.text


# The base class


def test_metrics_go_through_the_log_scalar_of_a_subclass() -> None:
    """A logger of the user's own writes this one method."""
    got = []

    class Mine(Logger):
        def log_scalar(self, name: str, value: float, iteration: int | None = None) -> None:
            got.append((name, value, iteration))

    with Mine(logging_freq=2) as logger:
        logger.log_metrics({"a": 1.0, "b": 2.0})
        logger.log_metrics({"a": 3.0})
        logger.log_metrics({"a": 4.0}, 9)

    assert got == [("a", 1.0, 0), ("b", 2.0, 0), ("a", 3.0, 1), ("a", 4.0, 9)]


def test_the_base_alone_says_once_that_it_keeps_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever meant another one learns it at the first value, not after the run."""
    logger = Logger()
    for _ in range(3):
        logger.log_scalar("a", 1.0)
    logger.log_parameters({"lr": 1e-3})
    logger.log_tags({"a": "b"})
    logger.log_figure(None, "a")
    logger.log_file("a", "b", move=True)
    logger.log_directory("a")
    kept = [logger.log_artifact("a"), logger.save_agent({}), logger.save_policy({})]
    logger.close()

    assert kept == [None, None, None]
    said = [record.getMessage().partition(":")[0] for record in caplog.records]
    expected = "log_scalar log_parameters log_tags log_figure log_artifact save_agent save_policy"
    assert said == expected.split()
    assert "Logger keeps nothing of this; FileLogger, MLFlowLogger and ClearMLLogger do" in caplog.text


def test_a_subclass_may_log_when_it_is_closed(tmp_path: Path) -> None:
    """The end of a ``with`` closes the logger by its own method, and first."""

    class Mine(FileLogger):
        def close(self) -> None:
            self.log_scalar("last", 1.0)
            super().close()

    with Mine(str(tmp_path)):
        pass

    assert scalars(tmp_path) == {"last": [[0, 1.0]]}


# What FileLogger writes


def test_numbers_of_any_library_become_numbers(tmp_path: Path) -> None:
    """A tensor cannot stand in JSON, and is what a loss is."""
    values = [0.5, 3, True, np.float32(0.25), np.int64(7), torch.tensor(1.5), np.array([2.5]), math.inf]
    with FileLogger(str(tmp_path)) as logger:
        for value in values:
            logger.log_scalar("a/b", value)
        logger.log_scalar("step", math.nan)

    found = scalars(tmp_path)

    numbers = [0.5, 3, True, 0.25, 7, 1.5, 2.5, math.inf]
    assert found["a/b"] == [list(point) for point in enumerate(numbers)]
    assert [type(value) for _, value in found["a/b"][:3]] == [float, int, bool]
    (at, value), *_ = found["step"]
    assert (at, math.isnan(value)) == (7, True)


def test_values_that_are_no_numbers_stop_nothing(tmp_path: Path) -> None:
    """A mapping of one wrong value must not lose the right ones."""
    huge = 10**6000
    with FileLogger(str(tmp_path)) as logger:
        logger.log_metrics({"text": "x", "list": [1, 2], "none": None, "huge": huge, "nested": {"in": 1}})  # type: ignore[dict-item]
        logger.log_metrics({"array": np.arange(3), 5: 1.0, "ok": 2.0})  # type: ignore[dict-item]
        logger.log_metrics(None)  # type: ignore[arg-type]
        logger.log_scalar(["a"], 1.0)  # type: ignore[arg-type]

    assert scalars(tmp_path) == {
        "text": [[0, "x"]],
        "list": [[0, [1, 2]]],
        "none": [[0, None]],
        "huge": [[0, "<integer of 19932 bits>"]],
        "nested/in": [[0, 1]],
        "array": [[0, [0, 1, 2]]],
        "5 (int)": [[0, 1.0]],
        "ok": [[0, 2.0]],
        "['a'] (list)": [[0, 1.0]],
    }


def test_parameters_are_added_to_each_other_without_secrets(tmp_path: Path) -> None:
    """Agent and environment log theirs one after the other, and the file is shown to others."""
    with FileLogger(str(tmp_path)) as logger:
        logger.log_parameters({"lr": 1e-3, "net": {"layers": (64, 64)}, "seed": np.int64(1)})
        logger.log_parameters({"net": {"act": "relu"}, "seed": 2, "api_key": "abcdef"})
        found = json.loads((tmp_path / "parameters.json").read_text())

    assert found == {
        "lr": 1e-3,
        "net": {"layers": [64, 64], "act": "relu"},
        "seed": 2,
        "api_key": "<hidden>",
    }


def test_agents_policies_figures_and_folders_are_in_the_run_folder(tmp_path: Path) -> None:
    """The calls that prt_rl has for trackers work for files, too."""
    from matplotlib import pyplot as plt

    made = tmp_path / "made"
    made.mkdir()
    (made / "a.txt").write_text("a")
    policy = torch.nn.Linear(2, 1)
    with FileLogger(str(tmp_path / "out")) as logger:
        logger.log_scalar("a", 1.0, 4)
        agent = logger.save_agent({"type": "ppo"})
        saved = logger.save_policy(policy, step=9)
        logger.log_directory(str(made), "results")
        logger.log_artifact(str(made / "a.txt"), name="note", type="text", step=2)
        logger.log_figure(plt.figure(), "curve")

    out = tmp_path / "out"
    assert agent == out / "artifacts/agent/step_4/agent.pkl"
    assert saved == out / "artifacts/policy/step_9/policy.pt"
    assert torch.load(saved)["bias"].equal(policy.state_dict()["bias"])
    assert (out / "artifacts/results/step_4/made/a.txt").read_text() == "a"
    assert (out / "artifacts/note/step_2/a.txt").read_text() == "a"
    assert [path.name for path in out.glob("media/curve/*")] == ["step_4.png"]
    assert plt.get_fignums() == []


# Files that it is given


@pytest.mark.parametrize("move", [False, True])
def test_a_file_stands_under_its_name(move: bool, tmp_path: Path) -> None:
    """As prt_rl has it: output_dir/name/ and the file's own name, in place of an older one."""
    source = tmp_path / "video.mp4"
    with FileLogger(str(tmp_path / "out")) as logger:
        for content in ("old", "new"):
            source.write_text(content)
            logger.log_file(str(source), "videos/eval", move=move)

    assert [path.name for path in (tmp_path / "out/videos/eval").iterdir()] == ["video.mp4"]
    assert (tmp_path / "out/videos/eval/video.mp4").read_text() == "new"
    assert source.exists() is not move


def test_a_file_that_is_there_already_is_not_moved_away(tmp_path: Path) -> None:
    """To remove the source would remove the only copy."""
    with FileLogger(str(tmp_path)) as logger:
        kept = tmp_path / "plots" / "a.png"
        kept.parent.mkdir()
        kept.write_text("a")
        logger.log_file(str(kept), "plots", move=True)

    assert kept.read_text() == "a"


def link_out(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "elsewhere", target_is_directory=True)


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "/tmp", "", ".", "link", "link/x"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, move: bool, tmp_path: Path) -> None:
    """A name may come from an environment's or a data set's; nothing outside is written or removed."""
    source = tmp_path / "a.txt"
    source.write_text("a")
    (tmp_path / "elsewhere").mkdir()
    with FileLogger(str(tmp_path / "out")) as logger:
        link_out(tmp_path / "out")

        with pytest.raises(ValueError, match=r"is not in the log folder|name is that of a folder"):
            logger.log_file(str(source), name, move=move)

    assert source.read_text() == "a"
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["journal.jsonl", "Scalars.json", "parameters.json/x", "artifacts", "media/a"]
)
def test_the_runs_own_files_are_not_written_over(name: str, tmp_path: Path) -> None:
    """A journal that is gone is a run that is gone."""
    source = tmp_path / "a.txt"
    source.write_text("a")
    with (
        FileLogger(str(tmp_path / "out")) as logger,
        pytest.raises(ValueError, match=r"run's own files|name is that of a folder"),
    ):
        logger.log_file(str(source), name)


def test_a_file_that_is_not_there_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A video that was not written must not end the training."""
    with FileLogger(str(tmp_path)) as logger:
        logger.log_file(str(tmp_path / "gone.mp4"), "videos", move=True)
        logger.log_file(None, "videos")  # type: ignore[arg-type]
        logger.log_artifact(str(tmp_path / "gone.mp4"))

    assert "log_file: " in caplog.text
    assert "gone.mp4" in caplog.text
    assert not (tmp_path / "videos/gone.mp4").exists()


# Arguments


def made(folder: Path) -> dict[str, Callable[[], object]]:
    return {
        "a file": lambda: FileLogger(str(folder / "file")),
        "frequency": lambda: FileLogger(str(folder / "new"), 0),
        "no experiment": lambda: prt_rl.MLFlowLogger(""),
        "no text": lambda: prt_rl.MLFlowLogger(3),  # type: ignore[arg-type]
        "address": lambda: prt_rl.MLFlowLogger("x", tracking_uri="file:./mlruns"),
        "no task": lambda: prt_rl.ClearMLLogger("x", ""),
    }


@pytest.mark.parametrize("what", made(Path()))
def test_wrong_arguments_are_refused_where_they_are_given(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an hour later, by a thread; and no empty run folder is left."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()

    with pytest.raises((ValueError, OSError), match=r"\w"):
        made(tmp_path)[what]()

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_one_folder_has_one_writer(tmp_path: Path) -> None:
    """Two would overwrite each other's files."""
    program = "import sys; from rl_logging.compat.prt_rl import FileLogger; FileLogger(sys.argv[1]); input()"

    with child(program, tmp_path):
        wait_until(lambda: (tmp_path / "journal.jsonl").exists(), 60)

        with pytest.raises(RunInUseError):
            FileLogger(str(tmp_path))
