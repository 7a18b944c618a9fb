"""A tracker that is down for a long run, and comes back: what it takes, and that all arrives.

One process dumps one scalar a record while nobody listens at MLflow's port. Then a server
starts there, and the run's courier delivers all. With ``--quick`` it is ``rl-logging sync
--offline`` that delivers, into a local store.
"""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from bench_process import Process, Watch, usage_of
from bench_report import progress, show
from bench_store import closed_port, points_in, uri

from rl_logging import configure
from rl_logging.cursor import CursorFile
from rl_logging.mlflow_server import MLflowServer

_PARTS = 10
_PATIENCE_S = 4 * 3600.0


class Outage:
    """A run whose tracker is down, and what its processes use meanwhile.

    :param folder: for the run, and for the store
    :param records: how many are dumped
    """

    def __init__(self, folder: Path, port: int, records: int) -> None:
        self.run = folder / "trainer/run"
        self.records = records
        self.memory: list[tuple[str, float, float]] = []  # when; the trainer's and the courier's, in MB
        self.dump_s = self.deliver_s = 0.0
        self.process = Process(train, folder / "trainer", uri(port))
        self._store = folder / "store"
        self._watch = Watch(self.process.pid)
        self._port = port

    def dump(self) -> None:
        """Train while nobody listens at the port."""
        for part in range(1, _PARTS + 1):
            self.dump_s += self.process.ask("dump", self.records // _PARTS)
            self._note(f"{part * self.records // _PARTS:,} dumped")

    def deliver_by_courier(self) -> Path:
        """Start a server, and wait until the courier has delivered all; return its database."""
        self._store.mkdir()
        progress("starting an MLflow server")
        with MLflowServer(self._store, self._port):
            start = time.perf_counter()
            self.process.send("flush")
            if not self.process.receive(self._tenths(), _PATIENCE_S):
                raise RuntimeError("the courier did not deliver all")
            self.deliver_s = time.perf_counter() - start
            self._note("all delivered")
            self.process.ask("close", 60.0)
        return self._store / "mlflow.db"

    def deliver_by_sync(self) -> Path:
        """Close the run as it is, deliver by the command, and return the local database."""
        self.process.ask("close", 0.1)
        start = time.perf_counter()
        command = [sys.executable, "-m", "rl_logging.cli", "sync", str(self.run), "--offline"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.deliver_s = time.perf_counter() - start
        return self.run.parent / "mlflow.db"

    def _tenths(self) -> Callable[[], None]:
        """Note the memory whenever another tenth is delivered."""
        cursor_file, noted = CursorFile(self.run, "mlflow"), 0

        def look() -> None:
            nonlocal noted
            cursor = cursor_file.load()
            delivered = cursor.handed if cursor else 0
            if noted < delivered * _PARTS // self.records < _PARTS:
                noted = delivered * _PARTS // self.records
                self._note(f"{delivered:,} delivered")

        return look

    def _note(self, when: str) -> None:
        progress(when)
        self.memory.append((when, usage_of(self.process.pid).memory_mb, self._watch.look().memory_mb))


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Go through an outage; show the memory, the time, and what arrived."""
    records = 1000 if options.quick else options.records or 1_000_000
    with contextlib.ExitStack() as stack:
        with closed_port() as port:
            outage = Outage(folder, port, records)
            stack.enter_context(outage.process)
            outage.dump()
        database = outage.deliver_by_sync() if options.quick else outage.deliver_by_courier()
    _show(outage, points_in(database))


def train(connection: Connection, folder: Path, mlflow_uri: str) -> None:
    """Dump one scalar a record, as often as is asked for."""
    logger = configure(folder / "run", ["mlflow"], linger_s=1.0, mlflow={"tracking_uri": mlflow_uri})
    first = 1
    for task, *arguments in iter(connection.recv, None):
        start = time.perf_counter()
        if task == "dump":
            for step in range(first, first + arguments[0]):
                logger.record("train/loss", 1 / step)
                logger.dump(step)
            first += arguments[0]
            connection.send(time.perf_counter() - start)
        elif task == "flush":
            connection.send(logger.flush(_PATIENCE_S))
        else:
            logger.close(*arguments)
            connection.send("closed")


def _show(outage: Outage, points: int) -> None:
    rows = [[when, f"{trainer:,.0f}", f"{courier:,.0f}"] for when, trainer, courier in outage.memory]
    show(
        ["", "trainer's RSS, MB", "courier's RSS, MB"],
        rows,
        f"{outage.records:,} records of one scalar, MLflow's port closed meanwhile; from /proc.",
    )
    counts = [
        f"{outage.dump_s:.1f}",
        f"{outage.records / outage.dump_s:,.0f}",
        f"{outage.deliver_s:.1f}",
        f"{outage.records / outage.deliver_s:,.0f}",
        f"{points:,} of {outage.records:,}",
    ]
    show(
        ["dumping, s", "records/s", "delivering, s", "records/s", "points in MLflow's table"],
        [counts],
        "Delivering: from the moment the server answers until logger.flush() returns.",
    )
