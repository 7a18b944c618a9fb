"""New folders for runs: each is made by the one process that gets it."""

import datetime
import itertools
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rl_logging.media import folder_name


def next_run_folder(parent: str | Path, name: str) -> Path:
    """Make the next folder ``name_001``, ``name_002``, … and give it to nobody else. ::

        logger = configure(next_run_folder("runs", "ppo"))

    :param parent: where runs are; it is made if missing
    :param name: what is no letter, digit, dot, hyphen or underscore in it becomes an underscore
    :raises OSError: the folder cannot be made
    """
    parent, stem = Path(parent), folder_name(name)
    taken = re.compile(re.escape(stem) + r"_(\d+)")
    parent.mkdir(parents=True, exist_ok=True)
    numbers = [int(match[1]) for path in parent.iterdir() if (match := taken.fullmatch(path.name))]
    return _first_free(parent / f"{stem}_{n:03}" for n in itertools.count(max(numbers, default=0) + 1))


def temporary_folder() -> Path:
    """Make the folder of a run that was given none, named as SB3 names it."""
    path = Path(tempfile.gettempdir(), datetime.datetime.now().strftime("SB3-%Y-%m-%d-%H-%M-%S-%f"))
    return _first_free(
        itertools.chain([path], (path.with_name(f"{path.name}_{n}") for n in itertools.count(2)))
    )


def _first_free(paths: Iterator[Path]) -> Path:
    """Make the first folder that is not there; looking first would let two processes find the same."""
    while True:
        path = next(paths)
        try:
            path.mkdir()
            return path
        except FileExistsError:
            continue
