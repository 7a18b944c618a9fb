"""Using the rich values of a record: their files, each encoded once, by whoever needs it first."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rl_logging.encoding import mp4_to_gif, to_frames, to_image, write_gif, write_mp4, write_png
from rl_logging.errors import MissingBackendError
from rl_logging.histograms import bins_of, stats_of
from rl_logging.lock import FileLock
from rl_logging.rich import BINS, Media
from rl_logging.values import Value

_PATIENCE_S = 600.0  # for somebody else's encoding


@dataclass(frozen=True)
class Counted:
    """A histogram as it was counted.

    :param counts: how many values are in each bin
    :param edges: the bins' edges, one more than counts
    :param stats: count, mean, std, min, max and so on; empty where only the counts are known
    """

    counts: np.ndarray
    edges: np.ndarray
    stats: dict[str, float]


def encoded(media: Media) -> Path | None:
    """The file of a rich value, encoded now if it was not.

    :return: None where it has none, or has lost it
    :raises MissingBackendError: the encoder is not installed
    :raises ValueError: what was recorded cannot be encoded
    :raises OSError: the file cannot be written
    """
    path, raw = media.path, media.raw
    if path is None or raw is None:
        return path if path is not None and path.is_file() else None
    if not path.is_file() and raw.is_file():
        with _alone(path):
            if not path.is_file():
                _encode(media, np.load(raw, mmap_mode="r"), path)
    if not path.is_file():
        return None
    raw.unlink(missing_ok=True)
    return path


def file_of(media: Media) -> Path | None:
    """The file of a rich value: encoded, or as it was recorded where that cannot be.

    :return: None where it has none, or has lost it
    """
    try:
        return encoded(media)
    except (MissingBackendError, ValueError):
        raw = media.raw
        return raw if raw is not None and raw.is_file() else None


def gif_of(media: Media) -> Path | None:
    """A video as an animated picture, for trackers that show no others.

    :raises MissingBackendError: the encoder is not installed
    :raises ValueError: what was recorded cannot be encoded
    :raises OSError: the file cannot be written
    """
    path, raw = media.path, media.raw
    if path is None:
        return None
    gif = path.with_suffix(".gif")
    if gif.is_file():
        return gif
    try:
        movie = encoded(media)
    except MissingBackendError:  # a gif needs no ffmpeg
        movie = None
    with _alone(gif):
        if gif.is_file():
            return gif
        if movie is not None:
            mp4_to_gif(movie, gif)
        elif raw is not None and raw.is_file():
            write_gif(gif, to_frames(np.load(raw, mmap_mode="r")), media.about["fps"])
    return gif if gif.is_file() else None


def histogram_of(value: Value) -> Counted | None:
    """The histogram that an array or a recorded histogram stands for.

    :return: None where it is none, or its file is lost
    """
    if isinstance(value, np.ndarray):
        return _counted(value, BINS)
    if not isinstance(value, Media) or value.kind not in ("array", "histogram"):
        return None
    if "counts" in value.about:
        return Counted(np.asarray(value.about["counts"]), np.asarray(value.about["edges"]), {})
    path = value.path
    if path is None or not path.is_file():
        return None
    return _counted(np.load(path, mmap_mode="r"), value.about.get("bins", BINS))


def table_of(media: Media) -> tuple[list[str], list[list[Any]]]:
    """The columns and rows of a table, as they were at its step; none where its file is lost."""
    path = media.path
    if path is None or not path.is_file():
        return [], []
    with path.open("rb") as file:
        lines = file.read(media.about["bytes"]).splitlines()
    columns, *rows = map(json.loads, lines)
    return columns, rows


def _counted(array: np.ndarray, bins: int) -> Counted:
    return Counted(*bins_of(array, bins), stats_of(array))


def _encode(media: Media, array: np.ndarray, path: Path) -> None:
    if media.kind == "video":
        write_mp4(path, to_frames(array), media.about["fps"])
    else:
        write_png(path, to_image(array, media.about["dataformats"]))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While nobody else, in this process or another, makes a file.

    :raises TimeoutError: somebody does for very long
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    if not lock.acquire(_PATIENCE_S):
        raise TimeoutError(f"{path.name} is being encoded by {lock.holder()}")
    try:
        yield
    finally:
        lock.release(remove=True)
