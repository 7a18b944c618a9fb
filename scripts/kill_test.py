"""Kill runs at random moments, resume and kill them again, and count what is left of them.

Every record whose ``dump()`` had returned must be in the journal and, after ``rl-logging
sync``, in MLflow, once and whole. How it is done: ``tests/chaos.py``.
"""

import argparse
import math
import os
import random
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from chaos import DoomedRun, Score

_LIVES = 25  # of one run
_LANES = 3  # runs at a time


def main() -> int:
    """Run the command line.

    :return: 0, or 1 if anything is lost, torn or there twice
    """
    options = _options()
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]  # the store is to be the test's own
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="rl_logging-kills-") as folder:
        total, failed = kill(options.kills, options.seed, Path(folder))
    print(f"{total}; seed {options.seed}" + (f"; sync failed in {failed} runs" if failed else ""))
    return int(not total.is_clean or bool(failed))


def kill(kills: int, seed: int, folder: Path) -> tuple[Score, int]:
    """Kill so many trainers, and whatever else chance wants; several runs share a store at a time.

    :return: what is left of their records, and in how many runs sync failed
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress, ThreadPoolExecutor(_LANES) as lanes:
        task = progress.add_task("killed", total=kills)

        def live(number: int) -> tuple[Score, int]:
            run = DoomedRun(folder / f"run{number}", random.Random(f"{seed} {number}"))
            for _ in range(min(_LIVES, kills - number * _LIVES)):
                run.live_and_die()
                progress.advance(task)
            status = run.sync()
            return run.score(), status

        results = list(lanes.map(live, range(math.ceil(kills / _LIVES))))
    return sum((score for score, _ in results), Score()), sum(status != 0 for _, status in results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill runs at random moments, and count what is left.")
    parser.add_argument("--kills", type=int, default=1000, help="how many trainers to kill (default: 1000)")
    fresh = int.from_bytes(os.urandom(4), "big")
    parser.add_argument("--seed", type=int, default=fresh, help="of the moments (default: a new one)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
