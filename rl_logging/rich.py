"""Rich values: what can be recorded besides numbers, texts and arrays.

SB3's ``Video``, ``Image``, ``Figure`` and ``HParam``, and ours, which need neither SB3 nor
torch. A record holds them as :class:`Media`, which says where their file is.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

BINS = 30  # of a histogram, where nothing else is said
_SB3_LOGGER = "stable_baselines3.common.logger"
_SB3 = ("Video", "Image", "Figure", "HParam")


class Histogram:
    """A distribution: values, or what was counted of them already.

    A bare array or tensor is one, too, with 30 bins. ::

        logger.record("train/actions", Histogram(actions, bins=64))
        logger.record("train/lengths", Histogram(counts=[3, 9, 1], edges=[0, 10, 20, 30]))

    :param values: numbers, an array or tensor of any shape; what is not finite is left out
    :param bins: how many bins of equal width
    :param counts: how many values are in each bin
    :param edges: the bins' edges, growing, one more than there are bins
    :raises ValueError: neither or both are given, or counts and edges do not belong together
    """

    def __init__(
        self,
        values: Any = None,
        bins: int = BINS,
        *,
        counts: Sequence[float] | None = None,
        edges: Sequence[float] | None = None,
    ) -> None:
        if (values is None) != (counts is not None and edges is not None):
            raise ValueError("a histogram is made of values, or of counts and edges, not of both or neither")
        if not isinstance(bins, int) or not 1 <= bins <= 512:
            raise ValueError(f"bins is a whole number from 1 to 512, W&B's limit, not {bins!r}")
        if values is None:
            counts, edges = np.asarray(counts, float).tolist(), np.asarray(edges, float).tolist()
            if not _is_counted(counts, edges):
                rule = (
                    "a histogram has one edge more than counts, growing edges, no count below 0, all finite"
                )
                raise ValueError(f"{rule}; not counts={counts!r}, edges={edges!r}")
        self.values, self.bins = values, bins
        self.counts, self.edges = counts, edges


class Table:
    """Rows and columns. Rows that are added later arrive with the next time it is logged. ::

        results = Table(["episode", "return"])
        results.add(1, 21.5)
        logger.log_table("eval/results", results, step)

    :param columns: their names
    :param rows: the first rows, each with a cell for each column
    :raises ValueError: no columns, or a row of another length
    """

    def __init__(self, columns: Iterable[Any], rows: Iterable[Sequence[Any]] = ()) -> None:
        self.columns = [str(column) for column in columns]
        if not self.columns:
            raise ValueError("a table has at least one column")
        self.rows: list[tuple[Any, ...]] = []
        self.kept: Path | None = None  # the file with the rows that were logged
        self.kept_rows, self.kept_bytes = 0, 0
        for row in rows:
            self.add(*row)

    def add(self, *cells: Any) -> None:
        """Add a row.

        :raises ValueError: it has not as many cells as there are columns
        """
        if len(cells) != len(self.columns):
            raise ValueError(f"a row of this table has {len(self.columns)} cells, not {len(cells)}")
        self.rows.append(cells)

    @classmethod
    def of(cls, data: Any) -> "Table":
        """A table of what may be one: a DataFrame, columns by name, or rows as mappings.

        :raises ValueError: it is none
        """
        if isinstance(data, Table):
            return data
        if hasattr(data, "columns") and hasattr(data, "itertuples"):  # a DataFrame
            return cls(data.columns, data.itertuples(index=False, name=None))
        if isinstance(data, Mapping):
            return cls(data, zip(*data.values(), strict=True))
        rows = list(data) if isinstance(data, Iterable) else []
        if rows and all(isinstance(row, Mapping) for row in rows):
            columns = list(dict.fromkeys(key for row in rows for key in row))
            return cls(columns, ([row.get(column) for column in columns] for row in rows))
        allowed = "a Table, a DataFrame, a mapping of columns, or a list of mappings"
        raise ValueError(f"a table is {allowed}, not {type(data).__name__}")


@dataclass(frozen=True, slots=True)
class Media:
    """A rich value as a record holds it: what it is, and the file that has it.

    :param kind: ``"video"``, ``"image"``, ``"figure"``, ``"hparam"``, ``"histogram"``,
        ``"array"``, ``"table"`` or ``"artifact"``
    :param text: a word to show for it
    :param file: its file, from the run folder on; empty where there is none
    :param about: what else there is to know, in plain values
    :param folder: the run folder
    """

    kind: str
    text: str
    file: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def path(self) -> Path | None:
        """Where its file is, or will be when it is encoded; None where there is none.

        :raises ValueError: the file is not in the run folder
        """
        return self.beside(self.file)

    @property
    def raw(self) -> Path | None:
        """Where that is what its file is made of, until it is."""
        return self.beside(str(self.about.get("raw", "")))

    def beside(self, file: str) -> Path | None:
        """The path of a file in the run folder.

        :raises ValueError: it is not in there: a journal is text that anybody can write
        """
        if not file or self.folder is None:
            return None
        folder = self.folder.absolute()
        path = (folder / file).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ValueError(f"{file!r} is not in the run folder")
        return path


def rich_kind(value: Any) -> str | None:
    """The kind of a rich value, as :class:`Media` calls it; else None."""
    kind = type(value)  # isinstance() would ask the object itself
    if issubclass(kind, (float, int, str)):  # first, since nearly all are
        return None
    if kind is Media:
        return str(value.kind)
    if issubclass(kind, (Histogram, Table)):
        return "table" if issubclass(kind, Table) else "histogram"
    pandas = sys.modules.get("pandas")
    if pandas is not None and issubclass(kind, getattr(pandas, "DataFrame", ())):
        return "table"
    sb3 = sys.modules.get(_SB3_LOGGER)
    if sb3 is None:
        return None
    return next((name.lower() for name in _SB3 if issubclass(kind, getattr(sb3, name, ()))), None)


def _is_counted(counts: Any, edges: Any) -> bool:
    if not isinstance(counts, list) or not isinstance(edges, list) or len(edges) != len(counts) + 1:
        return False
    numbers = np.asarray([*counts, *edges], float)
    return bool(counts and np.isfinite(numbers).all() and (np.diff(edges) > 0).all() and min(counts) >= 0)
