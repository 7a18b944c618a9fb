"""What the journal costs: appending, following, and opening it again.

Each against a floor: appending against orjson's text of the same values and one write,
following against orjson's reading of the same lines, opening against finding the last
line. Both take turns in one process.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from bench_report import progress, show
from bench_values import values_for

from rl_logging import Journal
from rl_logging.journal_reader import Reader
from rl_logging.record import make_record

_SCALARS = 50
_BLOCK = 1 << 16


class Pair(NamedTuple):
    """Seconds of both sides, round by round."""

    ours: list[float]
    floor: list[float]


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure the three, and show them."""
    rounds, records = (3, 500) if options.quick else (options.rounds or 20, options.records or 100_000)
    batch = records // rounds
    progress("append")
    values = [values_for(_SCALARS, dump) for dump in range(batch)]
    journal, plain = Journal(folder / "long.jsonl"), os.open(folder / "plain", os.O_WRONLY | os.O_CREAT)
    append = _turns(rounds, lambda: _append(journal, values), lambda: _write(plain, values))
    journal.close()
    os.close(plain)
    progress("follow")
    short = _short(folder, values[:100])
    follow = _turns(min(rounds, 5), lambda: _follow(folder / "long.jsonl"), lambda: _load(folder / "plain"))
    progress("open again")
    again = _turns(rounds, lambda: _reopen(folder / "long.jsonl"), lambda: _last_line(folder / "plain"))
    length = _turns(rounds, lambda: _reopen(folder / "long.jsonl"), lambda: _reopen(short))
    _show(append, follow, again, length, batch, batch * rounds)


def _turns(rounds: int, ours: Callable[[], Any], floor: Callable[[], Any]) -> Pair:
    pair = Pair([], [])
    for number in range(rounds):
        sides = [(ours, pair.ours), (floor, pair.floor)]
        for task, seconds in sides if number % 2 else sides[::-1]:
            start = time.perf_counter()
            task()
            seconds.append(time.perf_counter() - start)
    return pair


def _append(journal: Journal, values: list[dict[str, Any]]) -> None:
    for step, row in enumerate(values):
        journal.append(make_record(row, {}, step))


def _write(file: int, values: list[dict[str, Any]]) -> None:
    for step, row in enumerate(values):
        line = {"step": step, "values": row}
        os.write(file, orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))


def _follow(path: Path) -> None:
    reader = Reader(path)
    while reader.read():
        pass
    reader.close()


def _load(path: Path) -> None:
    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)


def _short(folder: Path, values: list[dict[str, Any]]) -> Path:
    journal = Journal(folder / "short.jsonl")
    _append(journal, values)
    journal.close()
    return journal.path


def _reopen(path: Path) -> None:
    Journal(path).close()


def _last_line(path: Path) -> None:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _BLOCK, 0))
        orjson.loads(file.read().splitlines()[-1])


def _show(append: Pair, follow: Pair, again: Pair, length: Pair, batch: int, records: int) -> None:
    per_append, per_follow = _median(append) / batch, _median(follow) / records
    rows = [
        ["append", _rate(per_append), _us(per_append), _ratio(append), "orjson.dumps and os.write"],
        ["follow", _rate(per_follow), _us(per_follow), _ratio(follow), "orjson.loads of each line"],
        [f"open again, {records:,} records", "", _us(_median(again)), _ratio(again), "the last line alone"],
        ["the same", "", _us(_median(length)), _ratio(length), "a journal of 100 records"],
    ]
    show(
        ["journal", "records/s", "us", "ratio", "against"],
        rows,
        f"{records:,} records of {_SCALARS} scalars in {len(append.ours)} rounds, in turns; medians. "
        "Append: from the recorded values to the operating system, fsync every 5 s as by default.",
    )


def _median(pair: Pair) -> float:
    return statistics.median(pair.ours)


def _ratio(pair: Pair) -> str:
    ratios = [ours / floor for ours, floor in zip(pair.ours, pair.floor, strict=True)]
    return f"{statistics.median(ratios):.2f}"


def _rate(seconds: float) -> str:
    return f"{1 / seconds:,.0f}"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f}"
