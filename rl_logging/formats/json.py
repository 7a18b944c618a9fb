"""JSON Lines: one object a dump, ``step`` and ``time`` first, for pandas and jq.

This is not the journal: it has no messages, and of rich values only a word.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from rl_logging.appendfile import AppendFile
from rl_logging.formats.base import History, Sender
from rl_logging.formats.sb3 import OutputFormat
from rl_logging.record import Record
from rl_logging.values import Value, number_text, short_text, to_float

_INT64, _LONG = 1 << 63, len("9223372036854775808")
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class JSONOutputFormat(OutputFormat):
    """Append each dump to a file as one line of JSON.

    Arrays are nested lists. JSON has no NaN and no infinities: they are the texts
    ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, which ``float()`` reads and
    ``pandas.read_json(lines=True)`` turns into numbers again. An integer beyond 64 bits is
    a text too, because pandas refuses a file that holds one.

    :param filename: the file; one that exists is continued
    :param name: what ``exclude`` calls it
    :raises OSError: the file cannot be written
    """

    name = "json"
    unsupported = frozenset({"video", "image", "figure", "hparam"})

    def __init__(self, filename: str | Path, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.filename = filename
        self._file = AppendFile(filename)
        self._file.repair()

    @classmethod
    def in_folder(cls, folder: Path, /, **arguments: Any) -> Sender:
        return cls(**{"filename": folder / "progress.json", **arguments})

    def emit(self, record: Record) -> None:
        values = {key: _jsonable(value) for key, value in record.values.items()}
        row = {"step": record.step, "time": record.time, **values}
        self._file.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

    def history(self) -> History:
        points: History = {}
        with self._file.path.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                for key, value in row.items():
                    number = _number(value)
                    if key not in ("step", "time") and number is not None:
                        points.setdefault(key, []).append((row["step"], number))
        return points

    def close(self) -> None:
        self._file.close()


def _jsonable(value: Value) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else json.dumps(value)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else number_text(value, digits=0)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    return [_jsonable(item) for item in value] if isinstance(value, list) else short_text(value)


def _number(value: Any) -> float | None:
    """What :func:`_jsonable` made of a number, as a number again."""
    if isinstance(value, str) and len(value) >= _LONG and value.lstrip("-").isdigit():
        return to_float(int(value))
    value = _NOT_FINITE.get(value, value) if isinstance(value, str) else value
    return to_float(value) if isinstance(value, (int, float)) else None
