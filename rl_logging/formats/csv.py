"""CSV with ``step`` and ``time`` first, for pandas and spreadsheets.

``pandas.read_csv`` reads the file at every moment: the header is there from the start, a
row is one write, and a new column comes by a rewrite that replaces the file as a whole.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from rl_logging.appendfile import AppendFile
from rl_logging.formats.base import History, Sender
from rl_logging.formats.sb3 import OutputFormat
from rl_logging.record import Record
from rl_logging.values import Value, number_text, short_text

_OWN_COLUMNS = ("step", "time")
_AS_IT_IS = frozenset({float, type(None)})  # nearly all cells; the csv module writes them as we want
_QUOTED = re.compile(rb'(?:^|(?<=,))"[^"]*(?:""[^"]*)*"(?!")')  # a quoted cell, whole
_OPEN_QUOTE = re.compile(rb'(?:^|,)"')


class CSVOutputFormat(OutputFormat):
    """Append each dump to a CSV file as one row.

    Quoted as RFC 4180 says, lines ended by a newline alone. A missing value is empty;
    NaN and infinities are ``nan``, ``inf``, ``-inf``. Messages have no place here.

    :param filename: the file; one that exists is continued
    :param name: what ``exclude`` calls it
    :raises OSError: the file cannot be written
    :raises ValueError: what stands in the file has no columns that could be continued
    """

    name = "csv"
    unsupported = frozenset({"video", "image", "figure", "hparam"})

    def __init__(self, filename: str | Path, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.filename = filename
        path = Path(filename)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, [_line(_OWN_COLUMNS)])
        self._file = AppendFile(path)
        self._columns = _repair(self._file)
        missing = [column for column in _OWN_COLUMNS if column not in self._columns]
        if missing:
            self._add_columns(missing)

    @classmethod
    def in_folder(cls, folder: Path, /, **arguments: Any) -> Sender:
        return cls(**{"filename": folder / "progress.csv", **arguments})

    def emit(self, record: Record) -> None:
        values = record.values
        if not self._columns.keys() >= values.keys():
            values = self._with_columns_for(values)
        row = {"step": record.step, "time": record.time, **values}
        cells = map(row.get, self._columns)
        self._file.append(_line([cell if type(cell) in _AS_IT_IS else _cell(cell) for cell in cells]))

    def clean(self, key: str) -> str:
        return key.replace("\0", "\\x00")

    def history(self) -> History:
        points: History = {}
        with self._file.path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for key, text in row.items():
                    number = _number(text)
                    if row["step"] and key not in _OWN_COLUMNS and number is not None:
                        points.setdefault(key, []).append((int(row["step"]), number))
        return points

    def close(self) -> None:
        self._file.close()

    def _with_columns_for(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """The values by the names of their columns, which are there from now on."""
        values = {self.rename(key): value for key, value in values.items()}
        if new := [key for key in values if key not in self._columns]:
            self._add_columns(new)
        return values

    def _add_columns(self, new: list[str]) -> None:
        self._file.check_open()
        path = self._file.path
        columns = dict.fromkeys([*self._columns, *new])
        old = path.read_bytes()
        header = next(_rows(io.BytesIO(old)), b"")
        _replace(path, [_line(columns), _with_cells(old[len(header) :], len(new))])
        self._file.close()
        self._file, self._columns = AppendFile(path), columns


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    """Put a new file in the place of the old one, as a whole."""
    # Always the same name: what a kill leaves of it is overwritten by the next.
    draft = path.with_name(f".{path.name}.new")
    try:
        with draft.open("wb") as file:
            file.writelines(lines)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _repair(file: AppendFile) -> dict[str, None]:
    """Cut off a row that a kill or a full disk left unfinished; return the columns.

    :raises ValueError: the file has no header, or one that names a column twice
    """
    end, header = 0, b""
    with file.path.open("rb") as whole:
        for row in _rows(whole):
            header = header or row
            end += len(row)
    # The mark at the start is a spreadsheet's. What is no UTF-8 cannot be a key of ours.
    names = next(csv.reader(io.StringIO(header.decode("utf-8-sig", "replace"), newline="")), [])
    columns = dict.fromkeys(names)
    if len(columns) < len(names) or (file.size and not columns):
        file.close()
        raise ValueError(f"{file.path} cannot be continued: it has no row of column names, each once")
    if end < file.size:
        file.truncate(end)
    return columns


def _rows(file: BinaryIO) -> Iterator[bytes]:
    """The whole rows of a file; a quoted text may hold newlines, a torn last row is left out."""
    row, is_open = b"", False
    for line in file:
        row += line
        if b'"' in line:  # it means something only where a cell starts, or one is open
            rest = _QUOTED.sub(b"", b'"' + line if is_open else line)
            is_open = _OPEN_QUOTE.search(rest) is not None
        if not is_open and row.endswith(b"\n"):
            yield row
            row = b""


def _with_cells(rows: bytes, count: int) -> bytes:
    """Whole rows with so many empty cells more."""
    end = b"," * count + b"\n"
    if b'"' not in rows and b"\r" not in rows:  # then each line is a row, and this is ten times as fast
        return rows.replace(b"\n", end)
    return b"".join(row.rstrip(b"\r\n") + end for row in _rows(io.BytesIO(rows)))


def _line(cells: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)  # its line's end is CR and LF, so that it quotes both
    return text.getvalue()[:-2].encode("utf-8") + b"\n"


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
