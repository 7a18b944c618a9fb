"""Runs, for tests: what arrived at their trackers, their couriers, and children that write them."""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from waiting import wait_until

from rl_logging import Logger
from rl_logging.formats.base import History
from rl_logging.formats.mlflow import MLflowSender
from rl_logging.formats.tensorboard import TensorBoardSender
from rl_logging.journal import read
from rl_logging.record import Record

DEAD_SERVER = "http://127.0.0.1:9"
ARRIVAL_S = 60.0  # for a courier's start, its SDK's import, and a slow machine


def dump(logger: Logger, *steps: int) -> None:
    """Log one number at each step."""
    for step in steps:
        logger.record("a", step)
        logger.dump(step)


def points(*steps: int) -> History:
    """What a tracker has of them."""
    return {"a": [(step, float(step)) for step in steps]}


def in_tensorboard(run: Path) -> History:
    """The numbers in a run's event files, by TensorBoard's own reader."""
    folder = run / "tb"
    return TensorBoardSender(folder).read_back({}) if folder.exists() else {}


def in_mlflow(run: Path) -> History:
    """The numbers in the one MLflow run of a run folder, by MLflow's own client."""
    return _store(run).read_back({"run_id": mlflow_run(run).info.run_id})


def mlflow_run(run: Path) -> Any:
    """The one MLflow run of a run folder, whose store stands beside it."""
    (found,) = mlflow_runs(run)
    return found


def mlflow_runs(run: Path) -> list[Any]:
    """All runs in the store beside a run folder."""
    client = _store(run).client
    return list(client.search_runs([each.experiment_id for each in client.search_experiments()]))


def _store(run: Path) -> MLflowSender:
    return MLflowSender(tracking_uri=f"sqlite:///{run.parent}/mlflow.db")


def empty_store(folder: Path) -> None:
    """Put an MLflow store without runs into a folder: to make one anew takes seconds."""
    shutil.copy(_template(), folder / "mlflow.db")


@functools.cache
def _template() -> Path:
    store = MLflowSender(folder=tempfile.mkdtemp(prefix="store-"))
    store.client.search_experiments()
    return store.local_folder / "mlflow.db"


def events(run: Path) -> list[tuple[Any, Any]]:
    """What the journal says of the run's own life."""
    return [(record.values["event"], record.values.get("status")) for record in lifecycle(run)]


def lifecycle(run: Path) -> list[Record]:
    """The journal's records of the run itself."""
    return [record for record in read(run / "journal.jsonl") if record.kind == "lifecycle"]


def couriers(run: Path) -> list[int]:
    """The processes that deliver a run's journal now, by their command lines."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"rl_logging.courier" in words and str(run).encode() in words:
                found.append(int(process.name))
    return found


def the_courier(run: Path) -> int:
    """The one process that delivers a run's journal; it is waited for."""
    wait_until(lambda: len(couriers(run)) == 1, ARRIVAL_S)
    return couriers(run)[0]


def wait_for_end_of_courier(run: Path) -> None:
    wait_until(lambda: not couriers(run), ARRIVAL_S)


@contextlib.contextmanager
def child(code: str, *arguments: object, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A Python process of its own, which does not outlive the test."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **{**pipes, **options}) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_line(process: "subprocess.Popen[str]", expected: str) -> None:
    """Read what a child prints until it prints this line."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.rstrip("\n") == expected:
            return
    raise AssertionError(f"the child ended without {expected!r}: status {process.wait()}")


def killed(process: "subprocess.Popen[str]") -> None:
    """Kill a child, as the system does that has no memory left."""
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def read_terminal(master: int, timeout_s: float = ARRIVAL_S) -> str:
    """What is written to a terminal, until nobody has it open any more."""
    shown, deadline = b"", time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            data = os.read(master, 1 << 16)
        except OSError:  # Linux's word for the end
            break
        if not data:
            break
        shown += data
    return shown.decode()
