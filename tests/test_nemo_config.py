"""The configuration of NeMo-RL's logger: what is taken, and what is refused at once."""

import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rl_logging.compat.nemo_rl import Logger, MLflowLogger, TensorboardLogger, WandbLogger
from rl_logging.errors import MissingBackendError

REFUSED = [
    ({"wandb_enable": True}, "no key 'wandb_enable'.*did you mean 'wandb_enabled'"),
    ({"wandb_enabled": "yes"}, "wandb_enabled is true or false, not 'yes'"),
    ({"wandb_enabled": 1}, "wandb_enabled is true or false, not 1"),
    ({"wandb_enabled": True}, "wandb_enabled is true, but the configuration has no section 'wandb'"),
    ({"mlflow_enabled": True, "tensorboard": {}}, "no section 'mlflow'"),
    ({"wandb": "grpo"}, "wandb is a mapping, not 'grpo'"),
    ({"wandb": {"project": 5}}, "wandb.project is a text, not 5"),
    ({"wandb_enabled": True, "wandb": {"projekt": "x"}}, "wandb has no argument 'projekt'"),
    ({"mlflow_enabled": True, "mlflow": {"experiment": "x"}}, "no argument 'experiment'"),
    ({"tensorboard_enabled": True, "tensorboard": {"logdir": "x"}}, "did you mean 'tensorboard.log_dir'"),
    ({"gpu_monitoring": {"interval": 1}}, "no key 'gpu_monitoring.interval'.*collection_interval"),
    ({"gpu_monitoring": {"flush_interval": 0}}, "flush_interval is a number of seconds above 0, not 0"),
    ({"gpu_collection_interval": -1}, "collection_interval is a number of seconds above 0, not -1"),
    ({"gpu_flush_interval": "10"}, "gpu_flush_interval is a number, not '10'"),
    ({"num_val_samples_to_print": -1}, "a whole number from 0 on, not -1"),
    ({"num_val_samples_to_print": 1.5}, "num_val_samples_to_print is a whole number, not 1.5"),
    ({"log_dir": 5}, "log_dir is a text or a path, not 5"),
    ({"log_dir": OmegaConf.create({"a": 1})}, "log_dir is a text or a path, not"),
    (OmegaConf.create({"log_dir": "???"}), "Missing mandatory value: log_dir"),
    ({"logger": ["wandb"]}, r"the section 'logger' is a mapping, not \['wandb'\]"),
    (["wandb"], r"the logger's configuration is a mapping, not \['wandb'\]"),
]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("config", "told"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_wrong_is_named(config, told: str) -> None:
    """A run of a day must not be without its tracker for a letter."""
    with pytest.raises((ValueError, TypeError), match=told):
        Logger(config)

    assert list(Path.cwd().iterdir()) == []  # no folder is used up


def test_only_what_is_enabled_is_needed(tmp_path: Path) -> None:
    """Sections of trackers that are off may stand there, or not."""
    with Logger({"log_dir": "logs", "wandb": {"project": "p"}, "mlflow_enabled": False}) as logger:
        logger.log_metrics({"loss": 1}, step=1)

    assert logger.core.output_formats == []
    assert logger.gpu_monitor is None
    assert (tmp_path / "logs" / "journal.jsonl").exists()


def test_without_a_folder_each_run_has_its_own(tmp_path: Path) -> None:
    """And no configuration at all is enough."""
    folders = []
    for _ in range(2):
        with Logger({}) as logger:
            folders.append(logger.base_log_dir)

    assert folders == ["logs/exp_001", "logs/exp_002"]


YAML = """
logger:
  log_dir: logs
  tensorboard_enabled: true
  wandb_enabled: false
  tensorboard:
    log_dir: tb_logs
  wandb:
  num_val_samples_to_print: 10
  monitor_gpus: false
  gpu_monitoring:
    collection_interval: 10
    flush_interval: 2.5
policy:
  model_name: tiny
"""


@pytest.mark.parametrize("kind", ["path", "text", "OmegaConf", "section"])
def test_yaml_and_omegaconf(kind: str, tmp_path: Path) -> None:
    """As a job's configuration is kept."""
    file = tmp_path / "grpo.yaml"
    file.write_text(YAML)
    config = OmegaConf.load(file)
    given = {"path": file, "text": str(file), "OmegaConf": config, "section": config.logger}[kind]

    with Logger(given) as logger:
        logger.log_metrics({"loss": 0.5}, step=1)

    assert logger.num_val_samples_to_print == 10
    assert [output.history() for output in logger.core.output_formats] == [{"loss": [(1, 0.5)]}]
    assert list((tmp_path / "logs" / "tb_logs").glob("*tfevents*"))


def test_an_empty_section_is_one(tmp_path: Path) -> None:
    """And a folder may be a path."""
    with Logger({"logger": None}) as logger:
        assert logger.base_log_dir == "logs/exp_001"
    with Logger({"log_dir": tmp_path / "path"}) as logger:
        assert logger.base_log_dir == str(tmp_path / "path")


def test_tensorboard_alone_keeps_its_own_folder(tmp_path: Path) -> None:
    """``log_dir`` of its section is documented."""
    with TensorboardLogger({"log_dir": "own"}, "logs") as backend:
        backend.log_metrics({"loss": 0.5}, step=1)

    assert list((tmp_path / "logs" / "own").glob("*tfevents*"))


def test_omegaconf_refers_to_itself(tmp_path: Path) -> None:
    """``${…}`` is what it refers to."""
    config = OmegaConf.create({"name": "exp", "logger": {"log_dir": "logs/${name}"}})

    with Logger(config) as logger:
        assert logger.base_log_dir == "logs/exp"


def test_more_keys_of_a_section_go_to_the_tracker(tmp_path: Path) -> None:
    """``wandb.init`` has many more than NeMo-RL documents."""
    section = {"project": "p", "name": "n", "group": "g", "tags": ["a"], "notes": None}
    with Logger({"log_dir": "logs", "wandb_enabled": True, "wandb": section}) as logger:
        (output,) = logger.core.output_formats

    assert (output.project, output.run_name, output.init) == ("p", "n", {"group": "g", "tags": ["a"]})


def test_a_missing_package_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that mends it."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("rl_logging.formats.find_spec", lambda name: None)
    with pytest.raises(MissingBackendError, match=r"pip install 'rl_logging\[wandb\]'"):
        Logger({"wandb_enabled": True, "wandb": {}})
    with pytest.raises(MissingBackendError, match=r"pip install 'rl_logging\[ray\]'"):
        Logger({"monitor_gpus": True})

    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("kind", [WandbLogger, TensorboardLogger, MLflowLogger])
def test_a_backend_checks_its_section(kind) -> None:
    """Alone, too."""
    with pytest.raises((ValueError, TypeError), match="nonsense"):
        kind({"nonsense": 1}, "logs")
