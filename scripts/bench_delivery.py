"""What the journal and five trackers add to ``dump()``, in the process that trains.

One process trains: pure Python, with a dump of 50 scalars every 20 ms. It has four
loggers, which take turns: SB3's and ours without any output, one with a journal, one with
the journal and five trackers, which the courier delivers to. What delivers has caught up
before the next one's turn. What is added is told against ours without any output.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from bench_process import Process, Watch
from bench_report import progress, quantile, show, us
from bench_store import Store, closed_port, mute_port, uri
from bench_values import offline, values_for
from stable_baselines3.common import logger as sb3

from rl_logging import Logger, configure
from rl_logging.formats import TRACKERS

_SCALARS = 50
_EVERY_NS = 20_000_000
_WARM_UP = 20  # dumps before the first that counts
_CATCH_UP_S = 60.0
_SB3, _NOTHING, _JOURNAL, _ALL = "SB3's, nothing", "ours, nothing", "journal", "journal and five trackers"


class Turn(NamedTuple):
    """One turn of one logger: nanoseconds of each dump, and how much the process trained."""

    dump_ns: list[int]
    work_per_s: float


class Case(NamedTuple):
    """MLflow in one state.

    :param name: the state
    :param mlflow_uri: where it is
    :param answers: whether it does
    """

    name: str
    mlflow_uri: str
    answers: bool = False


class Found(NamedTuple):
    """What was measured in one case: the turns by logger, and what the courier used."""

    turns: dict[str, list[Turn]]
    cpu_s: float
    cpu_s_in_turns: float
    peak_mb: float


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure with MLflow in three states, and show what was added."""
    rounds, dumps = (2, 10) if options.quick else (options.rounds or 10, options.dumps or 200)
    with Store(folder / "store", options.quick) as store, closed_port() as closed, mute_port() as mute:
        cases = [
            Case("all healthy", store.uri, answers=True),
            Case("MLflow down", uri(closed)),
            Case("MLflow hanging", uri(mute)),
        ]
        found = {}
        for case in cases[: 1 if options.quick else 3]:
            progress(case.name)
            found[case.name] = _find(case, folder / case.name, rounds, dumps)
        _show(found, f"{rounds} turns of {dumps} dumps of {_SCALARS} scalars, one every 20 ms; {store.kind}.")
        _show_courier(found, rounds * dumps)


def _find(case: Case, folder: Path, rounds: int, dumps: int) -> Found:
    with Process(train, folder, case, rounds, dumps) as process:
        watch = Watch(process.pid)
        process.receive(watch.look)
        before_s = watch.look().cpu_s
        process.send("go")
        turns = process.receive(watch.look)
        after_s = watch.look().cpu_s
        process.ask("close")
        watch.look()
    return Found(turns, watch.cpu_s, after_s - before_s, watch.peak_mb)


# In the process that trains


def train(connection: Connection, folder: Path, case: Case, rounds: int, dumps: int) -> None:
    """Let the loggers take turns."""
    loggers: dict[str, sb3.Logger] = {
        _SB3: sb3.Logger(None, []),
        _NOTHING: Logger(None, []),
        _JOURNAL: configure(folder / "journal", []),
        _ALL: (logged := configure(folder / "run", TRACKERS, linger_s=1.0, **offline(case.mlflow_uri))),
    }
    turns: dict[str, list[Turn]] = {name: [] for name in loggers}
    for logger in loggers.values():
        take_turn(logger, 0, _WARM_UP)
    catch_up(logged, case)
    connection.send("warm")
    connection.recv()
    for number in range(rounds):
        for name in sorted(loggers, reverse=number % 2 == 1):
            turns[name].append(take_turn(loggers[name], _WARM_UP + number * dumps, dumps))
            catch_up(logged, case)
    connection.send(turns)
    connection.recv()
    logged.close(timeout_s=30.0 if case.answers else 1.0)
    connection.send("closed")


def take_turn(logger: sb3.Logger, first: int, dumps: int) -> Turn:
    """Train, and dump every 20 ms."""
    dump_ns, work = [], 0
    begin = due = time.perf_counter_ns()
    for dump in range(first, first + dumps):
        for key, value in values_for(_SCALARS, dump).items():
            logger.record(key, value)
        start = time.perf_counter_ns()
        logger.dump(dump)
        dump_ns.append(time.perf_counter_ns() - start)
        due += _EVERY_NS
        while time.perf_counter_ns() < due:
            _work()
            work += 1
    return Turn(dump_ns, work / (time.perf_counter_ns() - begin) * 1e9)


def _work() -> int:
    total = 0
    for number in range(200):
        total += number * number
    return total


def catch_up(logger: Logger, case: Case) -> None:
    """Wait until the courier has nothing to do, so that it does not disturb the next turn."""
    pause, deadline = threading.Event(), time.monotonic() + _CATCH_UP_S
    waited_for = [name for name in TRACKERS if case.answers or name != "mlflow"]
    while any(logger.health()[name].waiting for name in waited_for) and time.monotonic() < deadline:
        pause.wait(0.1)


# What is shown


def _show(found: dict[str, Found], how: str) -> None:
    columns = ["", *(f"{name}, us" for name in (_SB3, _NOTHING, _JOURNAL, _ALL))]
    columns += ["journal adds, us", "all adds, us: median", "99 %", "work lost: journal", "all"]
    rows = []
    for name, (turns, *_) in found.items():
        times = {side: [ns for turn in turns[side] for ns in turn.dump_ns] for side in turns}
        medians = {side: statistics.median(times[side]) for side in times}
        tails = {side: quantile(times[side], 0.99) for side in times}
        rows.append(
            [
                name,
                *(f"{us(medians[side])} ({us(tails[side])})" for side in (_SB3, _NOTHING, _JOURNAL, _ALL)),
                us(medians[_JOURNAL] - medians[_NOTHING]),
                us(medians[_ALL] - medians[_NOTHING]),
                us(tails[_ALL] - tails[_NOTHING]),
                *(f"{_lost(turns, side):.1%}" for side in (_JOURNAL, _ALL)),
            ]
        )
    show(columns, rows, f"One dump(): median (99 %). {how} Work is pure Python between the dumps.")


def _lost(turns: dict[str, list[Turn]], side: str) -> float:
    """The share of the training's work that is not done, by the rounds' median."""
    pairs = zip(turns[side], turns[_NOTHING], strict=True)
    return 1 - statistics.median(ours.work_per_s / none.work_per_s for ours, none in pairs)


def _show_courier(found: dict[str, Found], records: int) -> None:
    rows: Sequence[list[str]] = [
        [name, f"{of.cpu_s:.1f}", f"{of.cpu_s_in_turns * 1000 / records:.2f}", f"{of.peak_mb:,.0f}"]
        for name, of in found.items()
    ]
    columns = ["the courier, and its children", "CPU s in all", "CPU s per 1,000 records", "peak RSS, MB"]
    show(
        columns,
        rows,
        f"From /proc, looked at twice a second. {records:,} records, each to five trackers; "
        "in all: with the SDKs' imports and the runs' ends.",
    )
