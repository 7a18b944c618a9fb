"""Rich values as W&B shows them: in the row of their record; else their file, as an artifact.

Each is made, and its file copied into the run, before the row is logged: one that W&B
refuses costs nothing that was recorded beside it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rl_logging.formats.wandb_about import WandBAbout
from rl_logging.formats.wandb_config import FIGURES
from rl_logging.media_files import Counted, file_of, histogram_of, table_of
from rl_logging.record import Record
from rl_logging.rich import Media
from rl_logging.values import Value, is_rich

_BINS = 512  # W&B's limit
_ROWS = 200_000  # W&B's limit
_NAME_BYTES = 150  # of a key, in the name of a file
_UNREADABLE = (ValueError, TypeError, EOFError, KeyError, AssertionError)  # what a damaged file leads to


class WandBValues:
    """Makes W&B's own values of a record's rich ones.

    :param run: W&B's run
    :param about: takes what has no place in a row
    """

    def __init__(self, run: Any, about: WandBAbout) -> None:
        self._run = run
        self._about = about
        self._ways: dict[str, Callable[[Media], Any]] = {
            "image": self._image,
            "figure": self._image,
            "video": self._video,
            "table": self._table,
            "histogram": _histogram,
            "array": _histogram,
        }

    def of(self, record: Record) -> dict[str, Any]:
        """What the record's row shall have for its rich values, by their keys."""
        shown = {
            key: self._shown(key, value, record) for key, value in record.values.items() if is_rich(value)
        }
        return {key: value for key, value in shown.items() if value is not None}

    def _shown(self, key: str, value: Value, record: Record) -> Any:
        if isinstance(value, np.ndarray):
            return _histogram(value)
        if value.kind == "hparam":  # its metrics are names that SB3's page needs, with zeros for values
            self._about.hyperparameters(value.about.get("hparams", {}))
            return None
        try:
            made = self._ways[value.kind](value)
        except _UNREADABLE:
            made = None
        if made is None:
            return self._stand_in(key, value, record.step)
        if value.kind not in ("histogram", "array"):
            self._copy(made, value, record.seq or record.step)
        return made

    def _image(self, media: Media) -> Any:
        import wandb

        path = file_of(media)
        if path is None or path.suffix == ".npy":
            return None
        try:
            return wandb.Image(str(path))
        except Exception:  # Pillow raises anything for a damaged file
            return None

    def _video(self, media: Media) -> Any:
        import wandb

        path = file_of(media)
        return None if path is None or path.suffix == ".npy" else wandb.Video(str(path), format="mp4")

    def _table(self, media: Media) -> Any:
        import wandb

        columns, rows = table_of(media)
        if not columns or len(rows) > _ROWS:
            return None
        try:
            table = wandb.Table(columns, rows)  # knows the type of each column, for W&B's filters
        except TypeError:
            table = wandb.Table(columns, rows, allow_mixed_types=True)
        self._about.table(_name(media), table)
        return table

    def _stand_in(self, key: str, media: Media, step: int) -> str | None:
        """The value's file as an artifact; where there is none, a word for the row."""
        try:
            path = file_of(media)
        except ValueError:  # it is not in the run folder
            path = None
        if path is None:
            return media.text
        kind = "histogram" if media.kind == "array" else media.kind
        self._about.stand_in(key, kind, path, step)
        return None

    def _copy(self, made: Any, media: Media, number: int) -> None:
        """Copy the value's file into the run, under the same name each time."""
        folder = f"{FIGURES}/" if media.kind == "figure" else ""
        made.bind_to_run(self._run, folder + _name(media), number)


def _histogram(value: Value) -> Any:
    import wandb

    counted = histogram_of(value)
    return None if counted is None else wandb.Histogram(np_histogram=_fitted(counted))


def _fitted(counted: Counted) -> tuple[np.ndarray, np.ndarray]:
    """Counts and edges as W&B takes them; neighbouring bins are put together where there are too many."""
    counts, edges = counted.counts, counted.edges
    if not len(counts):  # nothing in it is finite
        return np.zeros(1), np.array([0.0, 1.0])
    step = -(-len(counts) // _BINS)
    starts = np.arange(0, len(counts), step)
    return np.add.reduceat(counts, starts), np.append(edges[starts], edges[-1])


def _name(media: Media) -> str:
    """The value's key as a file's name, as the run folder has it."""
    return Path(media.file).parent.name.encode()[:_NAME_BYTES].decode("utf-8", "ignore") or "value"
