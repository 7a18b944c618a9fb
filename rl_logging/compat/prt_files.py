"""prt_rl's two files, parameters.json and scalars.json, written as the run goes.

Each is replaced as a whole, so that it is valid JSON at every moment. While ``scalars.json`` is
small, it has a value when the call returns that logs it. Later it is written so seldom that
writing takes a twentieth of the time at most; the journal has each value at once, and the file
is made anew of it when the folder is opened again.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from rl_logging import hyperparams
from rl_logging.batches import check_place
from rl_logging.formats.base import History
from rl_logging.formats.sb3 import OutputFormat
from rl_logging.journal import read
from rl_logging.record import HYPERPARAMETERS, METRICS, RESERVED_KEYS, Record
from rl_logging.rich import Media
from rl_logging.values import Value, describe, is_number, number_text, to_float

PARAMETERS, SCALARS = "parameters.json", "scalars.json"
_BEFORE = "scalars_before.json"  # what stood there before the run had a journal
_SMALL_BYTES = 1 << 14
_SHARE = 20.0  # of the time, a twentieth goes into writing
_LONG_BITS = 4096  # Python refuses to print integers of more than 4,300 digits


class PrtFiles(OutputFormat):
    """Write ``parameters.json`` and ``scalars.json``: ``{"loss": [[0, 0.5], [1, 0.25]]}``.

    What stands in the folder is continued. Nothing is written before the first record, or
    :meth:`rewrite`.

    :param folder: the run folder
    :param name: what ``exclude`` calls this output
    :raises ValueError: one of the files there is not what prt_rl writes
    """

    name = "prt_files"

    def __init__(self, folder: str | PathLike[str], *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.folder = Path(folder)
        self.next_iteration = 0  # behind the last one that is there
        self._columns: dict[str, bytearray] = {}  # each name's points as JSON
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._due, self._bytes = 0.0, 0
        self._is_whole = False  # whether the file has every value
        self._parameters = _loaded(self.folder / PARAMETERS)
        for key, points in _loaded(self.folder / _BEFORE).items():
            for iteration, value in points:
                self._add(key, iteration, value)
        for record in self._journaled():
            self._take(record)

    def emit(self, record: Record) -> None:
        with self._lock:
            self._take(record)
            self._is_whole = False
            wait_s = self._due - time.monotonic()
            if wait_s <= 0 or self._bytes <= _SMALL_BYTES:
                self._write()
            elif self._timer is None:  # else the last values before a long pause would wait for its end
                self._timer = threading.Timer(wait_s, self._write_late)
                self._timer.daemon = True
                self._timer.start()

    def emit_hyperparameters(self, record: Record) -> None:
        self._take(record)
        self._write_parameters()

    def rewrite(self) -> None:
        """Write both files as they are to be now.

        :raises OSError: they cannot be written
        """
        with self._lock:
            self._write()
        self._write_parameters()

    def rename(self, key: str) -> str:
        """The name that was given: ``step`` and its like are no other's here."""
        return key[:-1] if key.rstrip("_") in RESERVED_KEYS else key

    def history(self) -> History:
        return {
            key: [(iteration, to_float(value)) for iteration, value in points if is_number(value)]
            for key, points in _loaded(self.folder / SCALARS).items()
        }

    def close(self) -> None:
        with self._lock:
            if not self._is_whole:
                self._write()
        if not (self.folder / PARAMETERS).exists():
            self._write_parameters()

    def _take(self, record: Record) -> None:
        if record.kind == HYPERPARAMETERS:
            self._parameters = hyperparams.merge(self._parameters, record.values)
            return
        for key, value in record.values.items():
            if not isinstance(value, Media):  # which is a file in the run folder
                self._add(self.rename(key), record.step, value)

    def _add(self, key: str, iteration: int, value: Value) -> None:
        column = self._columns.setdefault(key, bytearray())
        column += b", " if column else b""
        column += f"[{iteration}, {_json(value)}]".encode()
        self.next_iteration = max(self.next_iteration, iteration + 1)

    def _write(self) -> None:
        began = time.monotonic()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._bytes = _replace(self.folder / SCALARS, self._pieces())
        self._is_whole = True
        ended = time.monotonic()
        self._due = ended + _SHARE * (ended - began)

    def _write_parameters(self) -> None:
        text = json.dumps(self._parameters, indent=4)
        _replace(self.folder / PARAMETERS, [text.encode()])

    def _pieces(self) -> Iterator[bytes | bytearray]:
        start = b"{\n"
        for key, column in self._columns.items():
            yield start + json.dumps(key).encode() + b": ["
            yield column
            start = b"],\n"
        yield b"]\n}\n" if self._columns else b"{}\n"

    def _write_late(self) -> None:
        with self._lock:
            if self._timer is None:  # somebody was faster
                return
            try:
                self._write()
            except OSError as error:
                told = f"{SCALARS} cannot be written: {describe(error)}. The journal has all"
                self.trouble.tell("late", told)

    def _journaled(self) -> Iterable[Record]:
        path = self.folder / "journal.jsonl"
        records = read(path, self._tell_damage) if path.exists() else ()
        return (record.without(self.name) for record in records if record.kind in (METRICS, HYPERPARAMETERS))

    def _tell_damage(self, line: int, error: Exception) -> None:
        self.trouble.tell("damage", f"{SCALARS}: line {line} of the journal is left out: {describe(error)}")


def set_aside(folder: str | PathLike[str]) -> None:
    """Keep a ``scalars.json`` that a logger without a journal wrote, before there is one.

    :raises ValueError: it is not what prt_rl writes
    """
    path = Path(folder, SCALARS)
    if path.exists() and not Path(folder, "journal.jsonl").exists():
        _loaded(path)
        os.replace(path, Path(folder, _BEFORE))


def place_of(folder: str | PathLike[str], name: str, filename: str) -> Path:
    """Where a file is kept under a name: ``folder/name/filename``.

    :raises ValueError: that is not in the folder, or among the run's own files
    """
    parts = PurePath(name).parts
    if not parts or parts[0].lower().startswith((PARAMETERS, SCALARS, _BEFORE)):
        raise ValueError(f"name is that of a folder in the run folder, such as 'plots', not {name!r}")
    return check_place(Path(folder), f"{name}/{filename}")


def copy_file(source: Path, target: Path) -> bool:
    """Copy a file so that it appears as a whole.

    :return: whether there are two now; False where both are the same file
    :raises OSError: it is not there, or cannot be copied
    """
    if target.exists() and target.samefile(source):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.new")
    try:
        shutil.copy(source, draft)
        os.replace(draft, target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return True


def _loaded(path: Path) -> dict[str, Any]:
    """What is in one of the files; nothing where there is none.

    :raises ValueError: it is none of prt_rl's
    """
    if not path.exists():
        return {}
    try:
        loaded = json.loads(path.read_bytes())
        if path.name != PARAMETERS:
            return {key: [(int(at), value) for at, value in points] for key, points in loaded.items()}
        return dict(loaded)
    except (AttributeError, TypeError, ValueError) as error:
        advice = "mend it, move it away, or choose another folder"
        raise ValueError(
            f"{str(path)!r} is no file of prt_rl's logger: {describe(error)}; {advice}"
        ) from error


def _json(value: Value) -> str:
    if isinstance(value, int) and value.bit_length() > _LONG_BITS:
        value = number_text(value, digits=0)
    return json.dumps(value.tolist() if isinstance(value, np.ndarray) else value)


def _replace(path: Path, pieces: Iterable[bytes | bytearray]) -> int:
    """Put a whole new file in a file's place; the count of its bytes."""
    draft = path.with_name(f"{path.name}.new")
    with draft.open("wb") as file:
        file.writelines(pieces)
        size = file.tell()
    os.replace(draft, path)
    return size
