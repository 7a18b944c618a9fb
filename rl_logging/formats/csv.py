"""CSV with ``step`` and ``time`` first, for pandas and spreadsheets.

``pandas.read_csv`` reads the file at every moment: the header is there from the start, a
row is one write, and a new column comes by a rewrite that replaces the file as a whole.
"""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from rl_logging.appendfile import AppendFile
from rl_logging.formats.base import History, Sender
from rl_logging.formats.sb3 import OutputFormat
from rl_logging.record import Record
from rl_logging.values import Value, number_text, short_text

_OWN_COLUMNS = ("step", "time")


class CSVOutputFormat(OutputFormat):
    """Append each dump to a CSV file as one row.

    Quoted as RFC 4180 says, lines ended by a newline alone. A missing value is empty;
    NaN and infinities are ``nan``, ``inf``, ``-inf``. Messages have no place here.

    :param filename: the file; one that exists is continued
    :param name: what ``exclude`` calls it
    :raises OSError: the file cannot be written
    """

    name = "csv"
    unsupported = frozenset({"video", "image", "figure", "hparam"})

    def __init__(self, filename: str | Path, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.filename = filename
        self._file = AppendFile(filename)
        self._columns = _repair(self._file)
        missing = [column for column in _OWN_COLUMNS if column not in self._columns]
        if missing:
            self._add_columns(missing)

    @classmethod
    def in_folder(cls, folder: Path, **arguments: Any) -> Sender:
        return cls(folder / "progress.csv", **arguments)

    def emit(self, record: Record) -> None:
        new = [key for key in record.values if key not in self._columns]
        if new:
            self._add_columns(new)
        row = {"step": record.step, "time": record.time, **record.values}
        self._file.append(_line(_cell(row.get(column)) for column in self._columns))

    def history(self) -> History:
        points: History = {}
        with self._file.path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for key, text in row.items():
                    number = _number(text)
                    if key not in _OWN_COLUMNS and number is not None:
                        points.setdefault(key, []).append((int(row["step"]), number))
        return points

    def close(self) -> None:
        self._file.close()

    def _add_columns(self, new: list[str]) -> None:
        """Replace the file as a whole by one with more columns."""
        path = self._file.path
        columns = dict.fromkeys([*self._columns, *new])
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with path.open("rb") as old, draft.open("xb") as file:
                file.write(_line(columns))
                rows = _rows(old)
                next(rows, None)  # the old header
                file.writelines(row[:-1] + b"," * len(new) + b"\n" for row in rows)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        self._file.close()
        self._file, self._columns = AppendFile(path), columns


def _repair(file: AppendFile) -> dict[str, None]:
    """Cut off a row that a kill or a full disk left unfinished; return the columns."""
    end, header = 0, b""
    with file.path.open("rb") as whole:
        for row in _rows(whole):
            header = header or row
            end += len(row)
    if end < file.size:
        file.truncate(end)
    return dict.fromkeys(next(csv.reader([header.decode("utf-8")]), []))


def _rows(file: BinaryIO) -> Iterator[bytes]:
    """The whole rows of a file; a quoted text may hold newlines, a torn last row is left out."""
    row = b""
    for line in file:
        row += line
        if row.count(b'"') % 2 == 0 and row.endswith(b"\n"):
            yield row
            row = b""


def _line(cells: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8")


def _cell(value: Value) -> Any:
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return number_text(value, digits=17)
    return (value if isinstance(value, str) else short_text(value)).replace("\0", "\\x00")


def _number(text: str | None) -> float | None:
    if text in ("True", "False"):
        return float(text == "True")
    try:
        return float(text or "")
    except ValueError:
        return None
