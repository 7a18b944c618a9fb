"""What a dump costs: each output alone and all together, against SB3's own logger.

Every contestant lives in a process of its own. They take turns, a round of dumps each,
so that what else the machine does hits all of them; a ratio is the median of the rounds'
ratios. The console is a pseudo-terminal of 120 columns that another process reads.
Trackers write to their local or offline mode, and are called in line.
"""

import argparse
import contextlib
import fcntl
import multiprocessing
import os
import pty
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common import logger as sb3

import rl_logging
from rl_logging.formats import FORMATS, TRACKERS, check_names, make_output

TEXT = ("stdout", "log", "csv", "json")
SB3_HAS = (*TEXT, "tensorboard")
_WARM_UP = 5  # dumps before the first that counts: trackers open their run in the first
_PATIENCE_S = 300
# What PPO records, with the types that it records; the rest are keys of the user's.
_PPO: dict[str, type] = {
    "rollout/ep_len_mean": float,
    "rollout/ep_rew_mean": float,
    "time/fps": int,
    "time/iterations": int,
    "time/time_elapsed": int,
    "time/total_timesteps": int,
    "train/approx_kl": np.float32,
    "train/clip_fraction": np.float64,
    "train/clip_range": float,
    "train/entropy_loss": float,
    "train/explained_variance": np.float32,
    "train/learning_rate": float,
    "train/loss": float,
    "train/n_updates": int,
    "train/policy_gradient_loss": np.float64,
    "train/value_loss": np.float64,
}


class Contestant(NamedTuple):
    """One logger to measure.

    :param side: ``"ours"`` or ``"sb3"``
    :param outputs: the outputs' names
    :param journal: whether ours keeps a journal too, as it does for a run folder
    """

    side: str
    outputs: tuple[str, ...]
    journal: bool = False

    def logger(self, folder: Path) -> sb3.Logger:
        """Make the logger; what it writes stays in ``folder``."""
        if self.side == "sb3":
            return sb3.Logger(
                str(folder), [sb3.make_output_format(name, str(folder)) for name in self.outputs]
            )
        outputs: list[sb3.KVWriter] = [
            make_output(name, folder, **_local(name, folder)) for name in self.outputs
        ]
        return rl_logging.Logger(str(folder) if self.journal else None, outputs)


class Row(NamedTuple):
    """One line of the table: the same outputs on both sides."""

    name: str
    ours: Contestant
    theirs: Contestant | None = None


def _local(name: str, folder: Path) -> dict[str, Any]:
    """Arguments that keep a tracker from reaching the user's own account or server."""
    return {
        "mlflow": {"tracking_uri": f"sqlite:///{folder}/mlflow.db"},
        "wandb": {"mode": "offline"},
        "clearml": {"offline": True},
        "swanlab": {"mode": "local"},
    }.get(name, {})


def rows_for(outputs: Sequence[str]) -> list[Row]:
    """The lines of the table for these outputs."""
    rows = [Row("(none)", Contestant("ours", ()), Contestant("sb3", ()))]
    for name in outputs:
        theirs = Contestant("sb3", (name,)) if name in SB3_HAS else None
        rows.append(Row(name, Contestant("ours", (name,)), theirs))
    if set(TEXT) <= set(outputs):
        rows.append(
            Row("journal + " + " + ".join(TEXT), Contestant("ours", TEXT, True), Contestant("sb3", TEXT))
        )
    together = tuple(name for name in outputs if name != "journal")
    if len(together) > len(TEXT):
        rows.append(Row("all of them", Contestant("ours", together, True)))
    return rows


def values_for(count: int, dump: int) -> dict[str, Any]:
    """So many scalars, as PPO and its user record them."""
    kinds = {**_PPO, **{f"custom/metric_{i}": np.float32 for i in range(count)}}
    number = 0.1 + dump / 7
    return {key: kind(number * (i + 1)) for i, (key, kind) in enumerate(list(kinds.items())[:count])}


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


def serve(contestant: Contestant, connection: Connection, folder: Path) -> None:
    """The contestant's process: does what it is asked to, until it is asked for nothing."""
    folder.mkdir()
    _own_terminal(folder / "output.txt")
    logger, done = contestant.logger(folder), 0
    for task, *arguments in iter(connection.recv, None):
        if task == "new keys":
            connection.send(new_key_time(logger, *arguments))
        else:
            count, dumps = arguments
            connection.send(dump_times(logger, count, done, dumps))
            done += dumps
    logger.close()


def _own_terminal(noise: Path) -> None:
    """Give this process a terminal that another process reads; keep SDKs' words off the user's."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    os.dup2(slave, 1)
    os.dup2(os.open(noise, os.O_WRONLY | os.O_CREAT), 2)
    sys.stdout.reconfigure(line_buffering=True)
    subprocess.Popen(["cat"], stdin=master, stdout=subprocess.DEVNULL, start_new_session=True)
    os.close(master)


class Process:
    """A contestant's process, seen from outside."""

    def __init__(self, contestant: Contestant, folder: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(contestant, theirs, folder))
        self._process.start()
        theirs.close()
        self._folder = folder

    def ask(self, *task: Any) -> Any:
        """Have it do something, and return what it measured."""
        self._connection.send(task)
        if not self._connection.poll(_PATIENCE_S):
            raise TimeoutError(f"no answer in {_PATIENCE_S} s; see {self._folder}/output.txt")
        try:
            return self._connection.recv()
        except EOFError:
            raise RuntimeError(f"it died; see {self._folder}/output.txt") from None

    def close(self) -> None:
        """Let it close its logger; one that hangs is killed."""
        with contextlib.suppress(OSError):
            self._connection.send(None)
        self._process.join(_PATIENCE_S)
        self._process.kill()


def measure(row: Row, count: int, rounds: int, dumps: int, folder: Path) -> dict[str, str]:
    """One line of the table: both sides take turns, in changing order."""
    sides = {"ours": row.ours} | ({"SB3": row.theirs} if row.theirs else {})
    processes = {side: Process(sides[side], folder / side) for side in sides}
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
        dumps = sorted(dump for of_round in of_rounds for _, dump in of_round)
        cells[f"{side}, median"] = _us(statistics.median(dumps))
        cells[f"{side}, 99 %"] = _us(dumps[int(0.99 * len(dumps))])
        cells[f"{side}, record()"] = _us(statistics.median(r for of_round in of_rounds for r, _ in of_round))
    if len(times) == 2:
        for name, cost in (("ratio", lambda pair: pair[1]), ("ratio with record()", sum)):
            ratios = [
                statistics.median(map(cost, ours)) / statistics.median(map(cost, theirs))
                for ours, theirs in zip(times["ours"], times["SB3"], strict=True)
            ]
            cells[name] = f"{statistics.median(ratios):.2f}"
    return cells


def _us(nanoseconds: float) -> str:
    return f"{nanoseconds / 1000:,.0f}"


def measure_new_keys(rounds: int, dumps: int, folder: Path) -> str:
    """CSV files whose columns grow: both sides take turns, each time with a new file."""
    seconds: dict[str, list[float]] = {"ours": [], "sb3": []}
    for number in range(rounds):
        for side in sorted(seconds, reverse=number % 2 == 1):
            process = Process(Contestant(side, ("csv",)), folder / f"{side}{number}")
            seconds[side].append(process.ask("new keys", dumps))
            process.close()
    ratio = statistics.median(ours / theirs for ours, theirs in zip(*seconds.values(), strict=True))
    ours, theirs = map(statistics.median, seconds.values())
    return (
        f"CSV, {dumps:,} dumps of 20 scalars and a new key every 50: "
        f"ours {ours:.2f} s, SB3's {theirs:.2f} s, ratio {ratio:.2f}"
    )


def table(lines: Sequence[dict[str, str]]) -> Iterator[str]:
    """The lines as a table in Markdown."""
    columns = [
        "output", "scalars", "ours, median", "ours, 99 %", "SB3, median", "SB3, 99 %", "ratio",
        "ours, record()", "SB3, record()", "ratio with record()",
    ]  # fmt: skip
    rows = [columns, *([line.get(column, "") for column in columns] for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--outputs", default=",".join(FORMATS), help="by default all: %(default)s")
    parser.add_argument("--scalars", default="20,50,200", help="in one dump; by default %(default)s")
    parser.add_argument("--rounds", type=int, default=20, help="by default %(default)s")
    parser.add_argument("--dumps", type=int, default=100, help="in a round, by default %(default)s")
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it works")
    options = parser.parse_args(arguments)
    outputs = options.outputs.split(",")
    check_names(outputs)
    rounds, dumps = (3, 10) if options.quick else (options.rounds, options.dumps)
    multiprocessing.set_forkserver_preload(["rl_logging.compose", "numpy"])
    print("Microseconds a dump; values are PPO's, then float32; stdout is a pseudo-terminal.\n")
    lines = []
    with tempfile.TemporaryDirectory(prefix="rl_logging-bench-") as name:
        for number, (count, row) in enumerate(
            (int(count), row) for count in options.scalars.split(",") for row in rows_for(outputs)
        ):
            print(f"{row.name}, {count} scalars", file=sys.stderr)
            slow = set(row.ours.outputs) & set(TRACKERS)
            folder = Path(name, str(number))
            folder.mkdir()
            lines.append(measure(row, count, rounds, dumps // 10 if slow else dumps, folder))
        print("\n".join(table(lines)))
        if "csv" in outputs:
            print("csv with new keys", file=sys.stderr)
            new_keys = measure_new_keys(*((1, 500) if options.quick else (5, 5000)), Path(name))
            print(f"\n{new_keys}")


if __name__ == "__main__":
    main()
