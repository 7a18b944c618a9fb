"""Killing runs at random moments, again and again, and counting what is left of them.

A run folder is resumed by one process after the other. Each dumps as fast as it can, and is
killed; its courier with it, or alone, or not at all; in the end ``rl-logging sync`` delivers
the rest. The processes are forks of a server that has imported SB3: that import costs seconds.
"""

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from runs import couriers
from waiting import wait_until

from rl_logging import configure
from rl_logging.cursor import CursorFile
from rl_logging.formats.mlflow import MLflowSender
from rl_logging.journal import read
from rl_logging.record import METRICS, Record

PATIENCE_S = 120.0
LONGEST_S = 0.5  # of dumps in one life
_MEAN_S = 0.02
_DUMPS_A_STEP = 10  # so that identical values have one step, and often one millisecond
_STARTS = 1_000_000  # dumps of one life, at most
_WAYS = {"both": 80, "trainer": 8, "courier": 4, "late courier": 2, "sync": 1}

Point = tuple[str, int, int, float]  # key, step, milliseconds, value


def seed() -> int:
    """A new one each time, unless ``CHAOS_SEED`` says which; pytest shows it when a test fails."""
    number = int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(4), "big"))
    sys.stdout.write(f"CHAOS_SEED={number}\n")
    return number


@dataclass
class Score:
    """What became of the records of runs that were killed.

    :param kills: processes that were killed in full swing
    :param acknowledged: records whose ``dump()`` had returned
    :param journaled: records in the journals
    :param delivered: records in MLflow
    :param missing: acknowledged and not in the journal, or in the journal and not in MLflow
    :param duplicates: what is there more than once
    :param torn: damaged lines, records with half of their values, values that nobody logged
    :param unasked: records in the journals whose ``dump()`` had not returned, beyond one a kill
    """

    kills: int = 0
    acknowledged: int = 0
    journaled: int = 0
    delivered: int = 0
    missing: int = 0
    duplicates: int = 0
    torn: int = 0
    unasked: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def is_clean(self) -> bool:
        """Whether nothing is missing, and nothing too many."""
        return not (self.missing or self.duplicates or self.torn or self.unasked)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills: {self.acknowledged} records acknowledged, {self.journaled} in the journal, "
            f"{self.delivered} in MLflow; {self.missing} missing, {self.duplicates} duplicates, "
            f"{self.torn} torn"
        )


def train(folder: str, first: int, told: str, dumping: Any) -> None:
    """Dump as fast as possible, and print a line for each dump that has returned."""
    os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 1)
    os.dup2(os.open(f"{folder}.stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
    logger = configure(folder, ["mlflow"])
    for number in range(first, first + _STARTS):
        logger.record("number", number)
        logger.record("same", 7.0)
        logger.dump(number // _DUMPS_A_STEP)
        os.write(1, b"%d\n" % number)
        if number == first:
            dumping.set()


class DoomedRun:
    """A run folder whose processes are killed.

    :param folder: the run folder, whose MLflow store stands beside it
    :param chance: where the random moments come from
    """

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self.kills = self._lives = 0
        self._chance = chance
        self._told = folder.with_suffix(".told")
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["rl_logging.compose", "rl_logging.formats.trackers"])

    def live_and_die(self, way: str = "") -> None:
        """Train for a random while, and kill somebody at a random moment.

        :param way: ``"both"``, ``"trainer"``, ``"courier"`` (and then both), ``"late courier"`` (and
            then both, when it delivers), ``"sync"`` (after both); by default one of them by chance
        """
        way = way or self._chance.choices(list(_WAYS), list(_WAYS.values()))[0]
        dumping = self._processes.Event()
        arguments = (str(self.folder), self._lives * _STARTS, str(self._told), dumping)
        trainer = self._processes.Process(target=train, args=arguments)
        before = self._handed()
        trainer.start()
        self._lives += 1
        try:
            if self._chance.random() < 0.9:  # else it may die while it is made
                assert dumping.wait(PATIENCE_S), Path(f"{self.folder}.stderr").read_text()
            self._pause()
            if way == "courier":
                self._kill_couriers()
                self._pause()
        finally:
            trainer.kill()
            trainer.join()
        self.kills += 1
        if way == "late courier":
            wait_until(lambda: self._handed() != before or not couriers(self.folder), PATIENCE_S)
            self._pause()
        if way != "trainer":
            self._kill_couriers()
        if way == "sync":
            self._kill_sync()

    def sync(self) -> int:
        """Deliver the rest; of a run that was killed before it had a journal, there is none.

        :return: the exit status of ``rl-logging sync``
        """
        if not (self.folder / "journal.jsonl").exists():
            return 0
        return subprocess.run(self._sync_command(), stdout=subprocess.DEVNULL, timeout=PATIENCE_S).returncode

    def score(self) -> Score:
        """Compare what was acknowledged, what is in the journal, and what is in MLflow."""
        told = self._told.read_bytes().splitlines(keepends=True) if self._told.exists() else []
        acknowledged = {int(line) for line in told if line.endswith(b"\n")}
        damaged: list[int] = []
        journal = read(self.folder / "journal.jsonl", lambda number, _: damaged.append(number))
        records = [record for record in journal if record.kind == METRICS]
        numbers = Counter(record.values.get("number") for record in records)
        expected = Counter(point for record in records for point in _points(record))
        found = self._in_mlflow()
        shown = Counter(value for key, *_, value in found.elements() if key == "number")
        torn = sum(set(record.values) != {"number", "same"} for record in records)
        return Score(
            kills=self.kills,
            acknowledged=len(acknowledged),
            journaled=len(records),
            delivered=len(shown),
            missing=len(acknowledged - set(numbers)) + (expected - found).total(),
            duplicates=sum((numbers - Counter(set(numbers))).values()) + (shown.total() - len(shown)),
            torn=len(damaged) + torn + len(found.keys() - expected.keys()),
            unasked=max(len(set(numbers) - acknowledged) - self._lives, 0),
        )

    def run_ids(self) -> list[str]:
        """The runs in MLflow that have a number."""
        client = self._client()
        experiments = [each.experiment_id for each in client.search_experiments()]
        runs = client.search_runs(experiments, f"attributes.run_name = '{self.folder.name}'")
        return [run.info.run_id for run in runs if run.data.metrics]

    def status(self) -> str:
        """How MLflow says that the run went."""
        (run_id,) = self.run_ids()
        return str(self._client().get_run(run_id).info.status)

    def _in_mlflow(self) -> Counter[Point]:
        return Counter(
            (key, point.step, point.timestamp, point.value)
            for run_id in self.run_ids()
            for key in ("number", "same")
            for point in self._client().get_metric_history(run_id, key)
        )

    def _client(self) -> Any:
        return MLflowSender(folder=self.folder.parent).client

    def _pause(self) -> None:
        """A random while: it ends anywhere in what the processes do."""
        threading.Event().wait(min(self._chance.expovariate(1 / _MEAN_S), LONGEST_S))

    def _kill_couriers(self) -> None:
        for courier in couriers(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(courier, signal.SIGKILL)
        wait_until(lambda: not couriers(self.folder), PATIENCE_S)

    def _kill_sync(self) -> None:
        before = self._handed()
        with subprocess.Popen(self._sync_command(), stdout=subprocess.DEVNULL) as process:
            wait_until(lambda: self._handed() != before or process.poll() is not None, PATIENCE_S)
            process.kill()

    def _handed(self) -> int:
        cursor = CursorFile(self.folder, "mlflow").load()
        return cursor.handed if cursor else 0

    def _sync_command(self) -> list[str]:
        return [sys.executable, "-m", "rl_logging.cli", "sync", str(self.folder)]


def _points(record: Record) -> list[Point]:
    return [
        (key, record.step, round(record.time * 1000), float(str(value)))
        for key, value in record.values.items()
    ]
