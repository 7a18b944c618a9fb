"""prt_rl's loggers for MLflow and ClearML, read back from the real trackers."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nvml_stand_in
import psutil
import pytest
import torch
from nvml_stand_in import StandInGpu
from runs import ARRIVAL_S, DEAD_SERVER, child, empty_store
from waiting import wait_until

from rl_logging.compat import prt_system
from rl_logging.compat.prt_rl import ClearMLLogger, Logger, MLFlowLogger
from rl_logging.errors import MissingBackendError
from rl_logging.readers import read_records

WHO_LOOKS = """if True:
    import json, mlflow
    runs = mlflow.search_runs(experiment_names=["cart/pole"], output_format="list")
    print(json.dumps([[run.info.run_name, run.data.metrics, run.data.params] for run in runs]))
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    empty_store(tmp_path)


def finish(logger: Logger) -> None:
    """Close it, and wait as long as a slow machine needs."""
    assert logger.core is not None
    assert logger.core.flush(ARRIVAL_S)
    logger.core.close(ARRIVAL_S)


def history(logger: MLFlowLogger, key: str) -> list[tuple[int, float]]:
    output: Any = logger.core.output_formats[0]
    return [
        (point.step, point.value) for point in output.client.get_metric_history(logger.run.info.run_id, key)
    ]


def artifacts(logger: MLFlowLogger, folder: str) -> list[str]:
    output: Any = logger.core.output_formats[0]
    return [file.path for file in output.client.list_artifacts(logger.run.info.run_id, folder)]


# MLflow


def test_mlflow_has_what_each_call_logs(tmp_path: Path) -> None:
    """The documented calls, by MLflow's own client."""
    from matplotlib import pyplot as plt

    (tmp_path / "note.txt").write_text("a")
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a.txt").write_text("b")
    logger = MLFlowLogger("cart/pole", run_name="first")
    logger.log_parameters({"lr": 1e-3, "net": {"layers": [64, 64]}})
    for step in range(3):
        logger.log_scalar("loss", 1.0 / (step + 1))
        logger.log_metrics({"reward": 10.0 * step, "length": step})
    logger.log_scalar("eval", 5.0, 100)
    logger.log_tags({"machine": "a"})
    logger.log_artifact(str(tmp_path / "note.txt"), type="text")
    logger.log_file(str(tmp_path / "note.txt"), "moved", move=True)
    logger.log_directory(str(tmp_path / "plots"), "pictures")
    logger.log_figure(plt.figure(), "curve", 7)
    logger.save_agent({"type": "ppo"})
    logger.save_policy(torch.nn.Linear(2, 1))
    finish(logger)
    run = logger.run

    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert run.data.params == {"lr": "0.001", "net/layers": "[64, 64]"}
    assert run.data.tags["machine"] == "a"
    assert history(logger, "loss") == [(0, 1.0), (1, 0.5), (2, 1.0 / 3)]
    assert history(logger, "reward") == [(0, 0.0), (1, 10.0), (2, 20.0)]
    assert history(logger, "length") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert history(logger, "eval") == [(100, 5.0)]
    assert artifacts(logger, "artifacts/note/step_100") == ["artifacts/note/step_100/note.txt"]
    assert artifacts(logger, "artifacts/moved/step_100") == ["artifacts/moved/step_100/note.txt"]
    assert artifacts(logger, "artifacts/pictures/step_100/plots") == [
        "artifacts/pictures/step_100/plots/a.txt"
    ]
    assert artifacts(logger, "artifacts/agent/step_100") == ["artifacts/agent/step_100/agent.pkl"]
    assert artifacts(logger, "models/policy/step_100") == ["models/policy/step_100/policy.pt"]
    assert [path for path in artifacts(logger, "images") if path.startswith("images/curve+step+7+")]
    assert not (tmp_path / "note.txt").exists()
    assert plt.get_fignums() == []


def test_mlflow_ui_shows_the_run_where_it_was_started(tmp_path: Path) -> None:
    """Without an address, prt_rl asked for a server on this machine that nobody had started."""
    logger = MLFlowLogger("cart/pole")
    logger.log_parameters({"lr": 0.1})
    logger.log_scalar("loss", 0.5)
    finish(logger)

    shown = subprocess.run([sys.executable, "-c", WHO_LOOKS], capture_output=True, text=True, check=True)

    ((name, metrics, params),) = json.loads(shown.stdout)
    assert (metrics, params) == ({"loss": 0.5}, {"lr": "0.1"})
    assert name
    assert logger.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["cart_pole_001"]


def test_the_environment_says_where_mlflow_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with MLflow itself; what the constructor is told comes first."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    named, told = MLFlowLogger("a"), MLFlowLogger("a", tracking_uri=DEAD_SERVER)
    addresses = named.tracking_uri, told.tracking_uri
    for logger in (named, told):
        logger.core.close(timeout_s=0.0)

    assert addresses == (f"sqlite:///{tmp_path}/mlflow.db", DEAD_SERVER)


def test_a_run_that_fails_is_said_to_have_failed() -> None:
    """In the list of runs, the one that crashed is not to look like the others."""
    with pytest.raises(ZeroDivisionError), MLFlowLogger("cart/pole") as logger:
        logger.log_scalar("loss", 1 / 0)
    assert logger.core.flush(ARRIVAL_S)
    wait_until(lambda: logger.run.info.status == "FAILED", ARRIVAL_S)


def test_system_metrics_have_a_clock_of_their_own() -> None:
    """They go on while the training stands still."""
    logger = MLFlowLogger("cart/pole", log_system_metrics=True)
    wait_until(lambda: "system/cpu_util" in logger.run.data.metrics, ARRIVAL_S)
    finish(logger)

    metrics = logger.run.data.metrics
    assert metrics["system/mem_total_gb"] <= psutil.virtual_memory().total / 2**30
    assert metrics["system/process.mem_gb"] > 0
    steps = [step for step, _ in history(logger, "system/mem_gb")]
    assert steps == sorted(set(steps))


def test_system_metrics_without_psutil_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a thread that ends where nobody sees it."""
    monkeypatch.setitem(sys.modules, "psutil", None)

    with pytest.raises(MissingBackendError, match=r"pip install 'rl_logging\[system\]'"):
        MLFlowLogger("cart/pole", log_system_metrics=True)

    assert not (tmp_path / "runs").exists()


def test_gpus_are_among_the_system_metrics(nvml_library: Path, tmp_path: Path) -> None:
    """They are what a training pays for; their names, which are texts, would be a file at each sample."""
    program = "import json; from rl_logging.compat.prt_system import Machine; print(json.dumps(Machine()()))"
    nvml_stand_in.write_gpus(tmp_path / "gpus", [StandInGpu(name="A100", util=42)])
    environment = {**os.environ, **nvml_stand_in.environment(nvml_library, tmp_path / "gpus")}

    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )

    values = json.loads(shown.stdout)
    assert (values["gpu.0.util"], values["mem_gb"] > 0) == (42, True)
    assert {type(value) for value in values.values()} <= {int, float}


def test_a_machine_without_gpus_has_the_rest() -> None:
    """The package that asks for them is installed nearly everywhere, a driver is not."""
    machine = prt_system.Machine()

    first, second = machine(), machine()

    assert first["mem_gb"] > 0
    assert second.keys() == first.keys()


# ClearML


def test_clearml_has_what_each_call_logs(tmp_path: Path) -> None:
    """The documented calls, by the offline session's own files."""
    logger = ClearMLLogger("Demo/PRT", "PPO CartPole")
    logger.log_parameters({"algo": "PPO", "lr": 3e-4})
    for step in range(3):
        logger.log_scalar("loss/train", 1.0 / (step + 1))
        logger.log_scalar("reward", 0.5 * step)
    logger.log_scalar("reward", 9.0, 50)
    logger.log_tags({"machine": "a"})
    (tmp_path / "note.txt").write_text("a")
    logger.log_file(str(tmp_path / "note.txt"), "note")
    logger.save_agent({"type": "ppo"})
    logger.save_policy(torch.nn.Linear(2, 1))
    task = logger.task
    finish(logger)
    (output,) = logger.core.output_formats

    assert type(task).__module__.partition(".")[0] == "clearml"
    assert (task.name, logger.project_name, logger.task_name) == ("PPO CartPole", "Demo/PRT", "PPO CartPole")
    assert logger.task is task
    assert output.history() == {  # type: ignore[attr-defined]
        "loss/train": [(0, 1.0), (1, 0.5), (2, 1.0 / 3)],
        "metrics/reward": [(0, 0.0), (1, 0.5), (2, 1.0), (50, 9.0)],
    }
    contents = output.contents()  # type: ignore[attr-defined]
    assert contents == {"hyperparameter": 2, "tag": 1, "artifact": 2, "model": 1}
    assert logger.iteration == 50


def test_the_task_is_one_whoever_asks_first(tmp_path: Path) -> None:
    """The thread that delivers opens it, while others ask for it: a second one would split the run."""
    logger = ClearMLLogger("Demo/PRT", "PPO CartPole", logging_freq=5)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(logger.task)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number in range(20):
        logger.log_scalar("a", number)
    for thread in threads:
        thread.join()
    finish(logger)

    assert len({id(task) for task in found}) == 1
    assert len(found) == 8
    sessions = list((tmp_path / "runs/PPO_CartPole_001/clearml/offline").glob("*.zip"))
    assert [path.stem for path in sessions] == [found[0].id]
    assert list(logger.core.urls()) == ["clearml"]
    assert logger.logging_freq == 5


def test_a_missing_tracker_is_said_before_a_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an ImportError, as prt_rl's page says, with the line that mends it."""
    monkeypatch.setitem(sys.modules, "clearml", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)

    with pytest.raises(ImportError, match=r"pip install 'rl_logging\[clearml\]'"):
        ClearMLLogger("a", "b")
    with pytest.raises(ImportError, match=r"pip install 'rl_logging\[mlflow\]'"):
        MLFlowLogger("a")

    assert not (tmp_path / "runs").exists()


def test_a_server_that_is_away_holds_nothing_up() -> None:
    """A training on a cluster must not wait for a network; prt_rl's constructor did."""
    began = time.monotonic()
    logger = MLFlowLogger("a", tracking_uri=DEAD_SERVER)
    for number in range(100):
        logger.log_scalar("loss", number)
    took_s = time.monotonic() - began
    logger.core.close(timeout_s=0.0)

    assert took_s < 10  # one attempt of MLflow's to reach a server takes longer
    assert len(read_records(logger.core.get_dir())) >= 100  # type: ignore[arg-type]


def test_a_clearml_server_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    """prt_rl's constructor waits for it for minutes."""
    program = """if True:
        import sys, time
        from rl_logging.compat.prt_rl import ClearMLLogger
        began = time.monotonic()
        logger = ClearMLLogger("a", "b")
        for number in range(100):
            logger.log_scalar("loss", number)
        print(time.monotonic() - began, flush=True)
        sys.stdin.read()
    """
    account = {"CLEARML_API_HOST": DEAD_SERVER, "CLEARML_API_ACCESS_KEY": "a", "CLEARML_API_SECRET_KEY": "b"}
    with child(program, env={**os.environ, **account}) as process:
        assert process.stdout is not None
        took_s = float(process.stdout.readline())

    assert took_s < 10
    assert len(read_records(tmp_path / "runs/b_001")) >= 100
