"""NeMo-RL's loggers at work: alone, together, with loggers of the user's own."""

import json
import logging
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from repositories import make_project
from waiting import wait_until

from rl_logging.compat import nemo_rl
from rl_logging.compat.nemo_rl import (
    Logger,
    LoggerInterface,
    MLflowLogger,
    RayGpuMonitorLogger,
    SwanlabLogger,
    TensorboardLogger,
    WandbLogger,
    flatten_dict,
    get_next_experiment_dir,
)
from rl_logging.formats.base import History
from rl_logging.formats.wandb_log import WandBLog

LONG_S = 60.0


class Mine(LoggerInterface):
    """A logger of the user's own: what it must have, and no more."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def log_metrics(self, metrics, step, prefix="", step_metric=None) -> None:
        self.got.append((metrics, step, prefix, step_metric))

    def log_hyperparams(self, params) -> None:
        self.got.append(params)


class Broken(Mine):
    """One that fails."""

    def log_metrics(self, metrics, step, prefix="", step_metric=None) -> None:
        raise RuntimeError("the wiki is down")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def history(backend: Any) -> History:
    """What a backend's tracker has, by its own reader."""
    (output,) = backend.core.output_formats
    found: History = output.history()
    return found


def test_the_pages_example_runs(tmp_path: Path) -> None:
    """As it is documented, with its own slip mended: the name of the variable."""
    logging_config = {
        "wandb_enabled": True,
        "tensorboard_enabled": False,
        "mlflow_enabled": True,
        "wandb": {"project": "grpo-dev", "name": "grpo-dev-logging"},
        "swanlab": {"project": "nemo-rl", "name": "grpo-dev-logging"},
        "tensorboard": {"log_dir": "logs"},
        "mlflow": {
            "experiment_name": "nemo-rl-experiment",
            "run_name": "grpo-dev-run",
            "tracking_uri": None,  # Use local tracking
        },
    }
    logger = Logger(cfg=logging_config)
    logger.log_metrics({"loss": 0.123}, step=10)
    logger.close()

    histories = {output.name: output.history() for output in logger.core.output_formats}
    assert histories == {"wandb": {"loss": [(10, 0.123)]}, "mlflow": {"loss": [(10, 0.123)]}}
    assert (tmp_path / "logs" / "exp_001" / "journal.jsonl").exists()


def test_mlflow_ui_shows_the_run(tmp_path: Path) -> None:
    """Started with no arguments where the training was, as the page tells."""
    section = {"experiment_name": "nemo", "run_name": "shown", "tracking_uri": None}
    with Logger({"log_dir": "logs", "mlflow_enabled": True, "mlflow": section}) as logger:
        logger.log_metrics({"loss": 0.5}, step=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(port), "--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }

    def runs() -> list[str]:
        question = json.dumps({"experiment_ids": ["0", "1", "2"]}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/search",
            question,
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return [run["info"]["run_name"] for run in json.load(answer).get("runs", [])]
        except OSError:
            return []

    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            wait_until(lambda: runs() == ["shown"], LONG_S)
        finally:
            server.terminate()


def test_backends_stand_alone_on_one_folder(tmp_path: Path) -> None:
    """Each with its own tracker, and none in the way of another."""
    kinds = [WandbLogger, TensorboardLogger, MLflowLogger, SwanlabLogger, TensorboardLogger]
    backends = [kind({}, log_dir="logs") for kind in kinds]
    for number, backend in enumerate(backends[:4]):
        backend.log_metrics({"loss": number}, step=1, prefix="train")
    for backend in backends:
        backend.close()

    assert [history(backend) for backend in backends[:4]] == [
        {"train/loss": [(1, float(number))]} for number in range(4)
    ]
    assert list((tmp_path / "logs").glob("events.out.tfevents*"))


def test_a_backend_takes_what_its_class_documents(tmp_path: Path) -> None:
    """Hyperparameters, figures, histograms; then it is closed, twice."""
    from matplotlib.figure import Figure

    with MLflowLogger({"experiment_name": "e"}, "logs") as backend:
        backend.log_hyperparams({"a": {"b": 1}})
        backend.log_plot(Figure(figsize=(1, 1)), 1, "plot")
        backend.log_histogram([1.0, 2.0], 1, "lengths")
    backend.close()

    (output,) = backend.core.output_formats
    assert output.contents() == {"hyperparameter": 1, "figure": 1, "histogram": 1}


def test_define_metric_draws_against_another(tmp_path: Path) -> None:
    """W&B's rows then have that axis, whatever the step."""
    with WandbLogger({}, "logs") as backend:
        backend.define_metric("ray/*", step_metric="ray/ray_step")
        backend.define_metric("loss")
        backend.log_metrics({"ray/ray_step": 30, "ray/util": 0.5, "loss": 1.0}, step=2)

    assert history(backend) == {"ray/ray_step": [(30, 30.0)], "ray/util": [(30, 0.5)], "loss": [(2, 1.0)]}


def test_code_and_its_changes_are_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was run can be seen in W&B, as with NeMo-RL's own."""
    project = make_project(tmp_path / "project", monkeypatch)
    (project / "train.py").write_text("lr = 2e-3\n")
    monkeypatch.chdir(project)
    monkeypatch.delenv("RL_LOGGING_PROVENANCE")
    with WandbLogger({}, str(tmp_path / "logs")) as backend:
        backend.log_metrics({"loss": 0.5}, step=1)

    entries = WandBLog(backend.core.output_formats[0].located["log"]).entries()
    code = [entry.artifact for entry in entries if entry.artifact.type == "code"]
    kept = {file.path for artifact in code for file in artifact.manifest.contents}
    assert {"code.zip", "uncommitted.diff"} <= kept


def test_loggers_of_the_users_own_get_all(caplog: pytest.LogCaptureFixture) -> None:
    """One that fails is named, and stops nothing."""
    caplog.set_level(logging.INFO, "rl_logging")
    mine, broken = Mine(), Broken()
    with Logger({"log_dir": "logs", "tensorboard_enabled": True, "tensorboard": {}}) as logger:
        logger.loggers += [broken, mine]
        logger.log_metrics({"loss": 0.5}, step=1, prefix="train")
        logger.log_hyperparams({"lr": 0.1})
        logger.log_histogram([1.0], 1, "lengths")
        logger.log_plot(None, 1, "plot")

    assert mine.got == [({"loss": 0.5}, 1, "train", None), {"lr": 0.1}]
    assert broken.got == [{"lr": 0.1}]
    assert "Broken failed: RuntimeError: the wiki is down. Training goes on." in caplog.text
    assert "Mine shows no histograms: 'lengths' is left out" in caplog.text
    assert "Mine shows no figures: 'plot' is left out" in caplog.text
    assert history(logger) == {"train/loss": [(1, 0.5)]}


def test_a_logger_as_the_page_shows_it_gets_all() -> None:
    """It has no step metric, and is not called after the end."""

    got: list[Any] = []

    class Shown(LoggerInterface):
        def log_metrics(self, metrics, step, prefix="") -> None:
            got.append((metrics, step, prefix))

        def log_hyperparams(self, params) -> None:
            got.append(params)

    with Logger({"log_dir": "logs"}) as logger:
        logger.loggers.append(Shown())
        logger.log_metrics({"loss": 0.5}, step=1, prefix="train")
    logger.log_metrics({"loss": 0.5}, step=2)

    assert got == [({"loss": 0.5}, 1, "train")]


def test_a_run_that_goes_on_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    """A folder is used again by mistake, too."""
    for _ in range(2):
        with Logger({"log_dir": "logs"}) as logger:
            logger.log_metrics({"loss": 0.5}, step=7)

    told = "Resuming the run in logs after step 7. A new run needs another log_dir."
    assert [line for line in capsys.readouterr().out.splitlines() if "Resuming" in line] == [told]


@pytest.mark.parametrize("metrics", [None, 5, "loss", [1, 2]], ids=str)
def test_what_is_no_mapping_is_said(metrics: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing raises in a training loop."""
    with Logger({"log_dir": "logs"}) as logger:
        logger.log_metrics(metrics, step=1)

    assert "metrics are a mapping" in caplog.text


def test_values_of_any_kind_stop_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Metrics that hold themselves, texts, None, steps that are none."""
    import numpy as np

    loop: dict[str, Any] = {"a": 1}
    loop["loop"] = loop
    trackers = {"wandb_enabled": True, "wandb": {}, "tensorboard_enabled": True, "tensorboard": {}}
    with Logger({"log_dir": "logs", **trackers}) as logger:
        logger.log_metrics(loop, step=1)
        logger.log_metrics({"none": None, "text": "x", "empty": {}, "list": [], 3: 4}, step=2)
        logger.log_metrics({"x": np.zeros(3), "axis": np.zeros(3)}, step=3, step_metric="axis")
        logger.log_metrics({"x": 1}, step="five")
        logger.log_histogram(["a"], 1, "bad")
        logger.log_plot("no figure", 1, "bad")

    assert [output.history()["3"] for output in logger.core.output_formats] == [[(2, 4.0)]] * 2


def test_flatten_dict_does_what_it_documents() -> None:
    """Users call it for their own purposes."""
    assert flatten_dict({"a": 1, "b": {"c": 2}}) == {"a": 1, "b.c": 2}
    assert flatten_dict({"a": [1, 2], "b": {"c": [3, 4]}}) == {"a.0": 1, "a.1": 2, "b.c.0": 3, "b.c.1": 4}
    assert flatten_dict({"a": [{"b": 1}, {"c": 2}], "t": (1, 2)}) == {"a.0.b": 1, "a.1.c": 2, "t": (1, 2)}
    assert flatten_dict({"a": {"b": 1}}, sep="/") == {"a/b": 1}


def test_experiment_folders_are_numbered(tmp_path: Path) -> None:
    """As NeMo-RL names them; they are made at once."""
    (tmp_path / "logs" / "exp_004").mkdir(parents=True)

    assert get_next_experiment_dir("logs") == "logs/exp_005"
    assert (tmp_path / "logs" / "exp_005").is_dir()


def test_rich_logging_is_configured_once() -> None:
    """In a process of its own: it belongs to Python's root logger."""
    code = """
import logging
from rl_logging.compat.nemo_rl import configure_rich_logging
configure_rich_logging("warning", show_time=False, show_path=False)
configure_rich_logging("DEBUG")
logging.getLogger("mine").info("not shown")
logging.getLogger("mine").warning("[bold]a model said so[/nonsense]")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (done.stdout.rstrip(), done.stderr) == ("WARNING  [bold]a model said so[/nonsense]", "")
    with pytest.raises(ValueError, match="level is one of DEBUG, INFO"):
        nemo_rl.configure_rich_logging("loud")


def test_a_monitor_without_ray_has_no_samples() -> None:
    """It waits for Ray, and never starts it."""
    mine = Mine()
    monitor = RayGpuMonitorLogger(0.05, 0.05, "ray", "ray/ray_step", parent_logger=mine)
    monitor.start()
    monitor.flush()
    monitor.stop()

    assert (monitor.metrics_buffer, mine.got) == ([], [])
    with pytest.raises(ValueError, match="above 0"):
        RayGpuMonitorLogger(0, 1, "ray", "ray/ray_step")
