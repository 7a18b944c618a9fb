"""The journal: every record of a run, in order, one line each.

What :meth:`Journal.append` returned for is in the file, and survives the death of the
process, unless :attr:`Journal.error` says that the file cannot be written: then it waits
in memory. A line without its newline is not there yet: readers wait for it, and the next
writer cuts it off.
"""

import errno
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from rl_logging.appendfile import AppendFile, blocks_from_end
from rl_logging.errors import JournalError
from rl_logging.record import Record, decode, encode

_WAITING_BYTES = 16 << 20


class Journal:
    """Append records to a file; a file that exists is continued.

    :param path: the file, ``journal.jsonl`` in a run folder
    :raises OSError: it cannot be opened for writing
    """

    def __init__(self, path: str | Path) -> None:
        self._file = AppendFile(path)
        self._file.repair()
        last = _last_record(self.path)
        self.last_seq = last.seq if last else 0
        self.last_step = last.step if last else 0
        self._time = round(last.time + 0.001, 3) if last else 0.0  # later than all that is there
        self._steps: set[int] = set()  # those of records at that time
        self.error: OSError | None = None
        self.lost = 0
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0

    @property
    def path(self) -> Path:
        return self._file.path

    def append(self, record: Record) -> Record:
        """Write the record and return it with its number, and a time that is its own.

        No two records have both step and millisecond in common: some trackers could not
        tell a real repeat from one record that is delivered twice.

        A full disk does not raise: :attr:`error` says so, the newest records, of 16 MiB at
        most, wait in memory for the next call, and :attr:`lost` counts the others.

        :raises OSError: the journal is closed
        """
        if self._file.closed:
            raise OSError(errno.EBADF, "the journal is closed", str(self.path))
        record = replace(record, seq=self.last_seq + 1, time=self._free_time(record))
        line = encode(record)
        self.last_seq, self.last_step = record.seq, record.step
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        self._write_waiting()
        return record

    @property
    def waiting(self) -> int:
        """How many records are in memory only."""
        return len(self._waiting)

    def close(self) -> None:
        """Write what waits, if it can be written now, and close the file."""
        if not self._file.closed:
            self._write_waiting()
            self._file.close()

    def _write_waiting(self) -> None:
        try:
            while self._waiting:
                self._file.append(self._waiting[0])
                self._waiting_bytes -= len(self._waiting.popleft())
            self.error = None
        except OSError as error:
            self.error = error
            while self._waiting_bytes > _WAITING_BYTES:
                self._waiting_bytes -= len(self._waiting.popleft())
                self.lost += 1

    def _free_time(self, record: Record) -> float:
        if record.time > self._time:
            self._time, self._steps = record.time, set()
        elif record.step in self._steps:
            self._time, self._steps = round(self._time + 0.001, 3), set()
        self._steps.add(record.step)
        return self._time


def read(path: str | Path, on_damage: Callable[[int, JournalError], None] | None = None) -> Iterator[Record]:
    """Read a journal's records in order; a torn last line is left out.

    :param on_damage: told the line's number and what is wrong with it; without it, such a
        line raises
    :raises JournalError: a line in the middle is damaged
    :raises OSError: the journal cannot be read
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield decode(line)
            except JournalError as error:
                if on_damage is None:
                    raise JournalError(f"{path}, line {number}: {error}") from error
                on_damage(number, error)


def _last_record(path: Path) -> Record | None:
    """The last record that can be read, found from the file's end."""
    rest = b""
    for start, block in blocks_from_end(path):
        lines = (block + rest).split(b"\n")
        rest = lines[0]
        for line in reversed(lines if start == 0 else lines[1:]):
            try:
                return decode(line)
            except JournalError:
                continue  # damaged: the one before it counts on
    return None
