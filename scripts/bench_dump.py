"""What a dump costs: each output alone and all together, against SB3's own logger.

Every contestant lives in a process of its own. They take turns, a round of dumps each,
so that what else the machine does hits all of them; a ratio is the median of the rounds'
ratios. A tracker alone writes to its local or offline mode and is called in line, which
is what ``delivery="inline"`` costs; all together are delivered to by the courier, as they
are by default.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from bench_process import Process
from bench_report import progress, quantile, show, us
from bench_values import offline, values_for
from stable_baselines3.common import logger as sb3

import rl_logging
from rl_logging.formats import TRACKERS, check_names, make_output

TEXT = ("stdout", "log", "csv", "json")
SB3_HAS = (*TEXT, "tensorboard")
_WARM_UP = 5  # dumps before the first that counts: trackers open their run in the first


class Contestant(NamedTuple):
    """One logger to measure.

    :param side: ``"ours"`` or ``"sb3"``
    :param outputs: the outputs' names
    :param journal: whether ours keeps a journal too, as it does for a run folder
    :param delivery: who delivers to trackers
    """

    side: str
    outputs: tuple[str, ...]
    journal: bool = False
    delivery: str = "inline"

    def logger(self, folder: Path) -> sb3.Logger:
        """Make the logger; what it writes stays in ``folder``."""
        if self.side == "sb3":
            return sb3.Logger(
                str(folder), [sb3.make_output_format(name, str(folder)) for name in self.outputs]
            )
        local = offline(f"sqlite:///{folder}/mlflow.db")
        outputs: list[sb3.KVWriter] = [
            make_output(name, folder, **local.get(name, {})) for name in self.outputs
        ]
        return rl_logging.Logger(str(folder) if self.journal else None, outputs, delivery=self.delivery)


class Row(NamedTuple):
    """One line of the table: the same outputs on both sides."""

    name: str
    ours: Contestant
    theirs: Contestant | None = None


def rows_for(outputs: Sequence[str]) -> list[Row]:
    """The lines of the table for these outputs."""
    rows = [Row("(none)", Contestant("ours", ()), Contestant("sb3", ()))]
    for name in outputs:
        theirs = Contestant("sb3", (name,)) if name in SB3_HAS else None
        rows.append(
            Row(f"{name}, in line" if name in TRACKERS else name, Contestant("ours", (name,)), theirs)
        )
    if set(TEXT) <= set(outputs):
        rows.append(
            Row("journal + " + " + ".join(TEXT), Contestant("ours", TEXT, True), Contestant("sb3", TEXT))
        )
    together = tuple(name for name in outputs if name != "journal")
    if len(together) > len(TEXT):
        rows.append(Row("all of them, by courier", Contestant("ours", together, True, "auto")))
    return rows


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure each output, and show them."""
    outputs = options.outputs.split(",")
    check_names(outputs)
    rounds, dumps = (3, 10) if options.quick else (options.rounds or 20, options.dumps or 100)
    counts = ["20"] if options.quick else options.scalars.split(",")
    multiprocessing.set_forkserver_preload(["rl_logging.compose", "numpy"])
    lines = []
    for number, (count, row) in enumerate((int(count), row) for count in counts for row in rows_for(outputs)):
        progress(f"{row.name}, {count} scalars")
        slow = row.ours.delivery == "inline" and set(row.ours.outputs) & set(TRACKERS)
        lines.append(_line(row, count, rounds, dumps // 10 if slow else dumps, folder / str(number)))
    columns = [
        "output", "scalars", "ours, median", "ours, 99 %", "SB3, median", "SB3, 99 %", "ratio",
        "ours, record()", "SB3, record()", "ratio with record()",
    ]  # fmt: skip
    show(
        columns,
        [[line.get(column, "") for column in columns] for line in lines],
        f"Microseconds a dump, {rounds} rounds of {dumps} dumps (trackers in line: a tenth); "
        "values are PPO's, then float32; stdout is a pseudo-terminal.",
    )
    if "csv" in outputs:
        progress("csv with new keys")
        print()
        print(measure_new_keys(*((1, 500) if options.quick else (5, 5000)), folder))


# In a contestant's process


def serve(connection: Connection, folder: Path, contestant: Contestant) -> None:
    """Do what is asked for, until it is nothing."""
    logger, done = contestant.logger(folder), 0
    for task, *arguments in iter(connection.recv, None):
        if task == "new keys":
            connection.send(new_key_time(logger, *arguments))
        else:
            count, dumps = arguments
            connection.send(dump_times(logger, count, done, dumps))
            done += dumps
    logger.close()


def dump_times(logger: sb3.Logger, count: int, first: int, dumps: int) -> list[tuple[int, int]]:
    """Nanoseconds that recording and dumping took, for each dump."""
    times = []
    for dump in range(first, first + dumps):
        values = values_for(count, dump)
        start = time.perf_counter_ns()
        for key, value in values.items():
            logger.record(key, value)
        recorded = time.perf_counter_ns()
        logger.dump(dump)
        times.append((recorded - start, time.perf_counter_ns() - recorded))
    return times


def new_key_time(logger: sb3.Logger, dumps: int) -> float:
    """Seconds for dumps of 20 scalars, among them a new key every 50 dumps."""
    rows = [{**values_for(20, dump), f"new/{dump // 50}": dump} for dump in range(dumps)]
    start = time.perf_counter()
    for dump, row in enumerate(rows):
        for key, value in row.items():
            logger.record(key, value)
        logger.dump(dump)
    return time.perf_counter() - start


# The turns that they take


def _line(row: Row, count: int, rounds: int, dumps: int, folder: Path) -> dict[str, str]:
    """One line of the table: both sides take turns, in changing order."""
    sides = {"ours": row.ours} | ({"SB3": row.theirs} if row.theirs else {})
    processes = {side: Process(serve, folder / side, sides[side]) for side in sides}
    times: dict[str, list[list[tuple[int, int]]]] = {side: [] for side in sides}
    try:
        for process in processes.values():
            process.ask("dump", count, _WARM_UP)
        for number in range(rounds):
            for side in sorted(sides, reverse=number % 2 == 1):
                times[side].append(processes[side].ask("dump", count, dumps))
    finally:
        for process in processes.values():
            process.close()
    return {"output": row.name, "scalars": str(count), **_summary(times)}


def _summary(times: dict[str, list[list[tuple[int, int]]]]) -> dict[str, str]:
    cells = {}
    for side, of_rounds in times.items():
        dumps = [dump for of_round in of_rounds for _, dump in of_round]
        cells[f"{side}, median"] = us(statistics.median(dumps))
        cells[f"{side}, 99 %"] = us(quantile(dumps, 0.99))
        cells[f"{side}, record()"] = us(statistics.median(r for of_round in of_rounds for r, _ in of_round))
    if len(times) == 2:
        for name, cost in (("ratio", lambda pair: pair[1]), ("ratio with record()", sum)):
            ratios = [
                statistics.median(map(cost, ours)) / statistics.median(map(cost, theirs))
                for ours, theirs in zip(times["ours"], times["SB3"], strict=True)
            ]
            cells[name] = f"{statistics.median(ratios):.2f}"
    return cells


def measure_new_keys(rounds: int, dumps: int, folder: Path) -> str:
    """CSV files whose columns grow: both sides take turns, each time with a new file."""
    seconds: dict[str, list[float]] = {"ours": [], "sb3": []}
    for number in range(rounds):
        for side in sorted(seconds, reverse=number % 2 == 1):
            with Process(serve, folder / f"new keys {side} {number}", Contestant(side, ("csv",))) as process:
                seconds[side].append(process.ask("new keys", dumps))
    ratio = statistics.median(ours / theirs for ours, theirs in zip(*seconds.values(), strict=True))
    ours, theirs = map(statistics.median, seconds.values())
    return (
        f"CSV, {dumps:,} dumps of 20 scalars and a new key every 50: "
        f"ours {ours:.2f} s, SB3's {theirs:.2f} s, ratio {ratio:.2f}"
    )
