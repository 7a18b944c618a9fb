"""What taking a rich value costs the thread that trains: against writing the same bytes to the disk.

Both take turns in one process, on one file system; nothing is forced to the disk on either
side. The files are encoded later, by the courier.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_report import progress, show, us

from rl_logging import configure
from rl_logging.logger import Logger


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure each kind, and show the ratios."""
    rounds = 3 if options.quick else options.rounds or 100
    random = np.random.default_rng(0)
    video = random.integers(0, 256, (1, 100, 3, 84, 84), np.uint8)
    numbers = random.standard_normal(1_000_000).astype(np.float32)
    rows = []
    with configure(folder / "run", [], provenance=False) as logger:
        tasks: dict[str, tuple[Callable[[int], Any], np.ndarray]] = {
            "video of 100 frames, 84x84 RGB, uint8": (lambda n: logger.log_video("clip", video, n), video),
            "histogram of 1,000,000 float32": (
                lambda n: logger.log_histogram("weights", numbers, n),
                numbers,
            ),
        }
        for name, (task, array) in tasks.items():
            progress(name)
            rows.append([name, f"{array.nbytes / 1e6:.1f}", *_ratio(logger, task, array, folder, rounds)])
    show(
        ["value", "MB", "taken, us", "written, us", "ratio of the medians"],
        rows,
        f"Median of {rounds} of each, by turns; the courier encodes the videos meanwhile, at lower priority.",
    )


def _ratio(
    logger: Logger, task: Callable[[int], Any], array: np.ndarray, folder: Path, rounds: int
) -> list[str]:
    """Medians of both sides in microseconds, and their ratio."""
    ours, floor = [], []
    for number in range(rounds + 1):
        ours.append(_time(lambda step=number: task(step)))
        floor.append(_time(lambda step=number: _write(folder / f"{array.nbytes}-{step}.raw", array)))
        if number == 0:  # the first one starts the courier
            logger.flush(timeout_s=60.0)
            ours.clear()
            floor.clear()
    medians = statistics.median(ours), statistics.median(floor)
    return [us(medians[0] * 1e9), us(medians[1] * 1e9), f"{medians[0] / medians[1]:.2f}"]


def _time(task: Callable[[], Any]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def _write(path: Path, array: np.ndarray) -> None:
    with path.open("xb") as file:
        file.write(array)
