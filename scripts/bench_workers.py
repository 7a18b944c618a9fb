"""What workers with handles add to a dump, and what a timer costs."""

import statistics
import timeit
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from bench_process import Process
from bench_report import progress, quantile, show, us

from rl_logging import Handle, configure

_KEYS = 50


def measure_handles(sizes: Sequence[int], dumps: int, folder: Path) -> None:
    """Dump with and without workers that record between the dumps."""
    rows = []
    for size in sizes:
        progress(f"{size} workers with handles")
        with configure(folder / f"run {size}", [], provenance=False) as logger:
            alone = _dumps_ns(logger, [], dumps)
            workers = [Process(work, folder / f"{size} {rank}", logger.handle()) for rank in range(size)]
            together = _dumps_ns(logger, workers, dumps)
            for worker in workers:
                worker.close()
        row = [str(size)]
        for times in (alone, together):
            row += [us(statistics.median(times)), us(quantile(times, 0.99))]
        rows.append(row)
    columns = ["workers", "dump() alone, us: median", "99 %", "with them, us: median", "99 %"]
    show(
        columns,
        rows,
        f"{dumps} dumps of 50 scalars to the journal alone; each worker records 50 means before each dump.",
    )


def work(connection: Any, folder: Path, handle: Handle) -> None:
    """Record when asked."""
    for (dump,) in iter(connection.recv, None):
        for key in range(_KEYS):
            handle.record_mean(f"env/key_{key}", dump)
        connection.send("recorded")


def _dumps_ns(logger: Any, workers: Sequence[Process], dumps: int) -> list[float]:
    times = []
    for dump in range(dumps):
        for worker in workers:
            worker.send(dump)
        for worker in workers:
            worker.receive()
        for key in range(_KEYS):
            logger.record(f"train/key_{key}", float(dump))
        start = perf_counter()
        logger.dump(dump)
        times.append((perf_counter() - start) * 1e9)
    return times


class Nothing:
    """A block that measures nothing."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class Clocks:
    """A block that reads the clock at both ends, and forgets it."""

    def __enter__(self) -> None:
        perf_counter()

    def __exit__(self, *_: object) -> None:
        perf_counter()


def measure_timers(uses: int) -> None:
    """Time blocks that do nothing, against reading the clock twice."""
    with configure(None, [], provenance=False) as logger:
        names = {"perf_counter": perf_counter, "logger": logger, "held": logger.timer("held")}
        names |= {"nothing": Nothing(), "clocks": Clocks()}
        statements = {
            "perf_counter(); perf_counter()": "perf_counter(); perf_counter()",
            "a block that does nothing": "with nothing: pass",
            "a block that reads the clock twice": "with clocks: pass",
            "with timer: (held)": "with held: pass",
            'with logger.timer("name"):': "with logger.timer('name'): pass",
            "two of them, one in the other": "with logger.timer('name'):\n with logger.timer('inner'): pass",
        }
        found = {}
        for what, statement in statements.items():
            progress(what)
            times = timeit.repeat(statement, globals=names, number=uses, repeat=7)
            found[what] = min(times) / uses * 1e9
            logger.dump()
    floor = next(iter(found.values()))
    rows = [[f"`{what}`", f"{ns:,.0f}", f"{ns / floor:.1f}"] for what, ns in found.items()]
    show(["", "ns", "times two clock readings"], rows, f"The least of 7 rounds of {uses:,} uses.")
