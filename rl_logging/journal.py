"""The journal: every record of a run, in order, one line each.

What :meth:`Journal.append` returned for is in the file, and survives the death of the
process, unless :attr:`Journal.error` says that the file cannot be written: then it waits
in memory. A line without its newline is not there yet: readers wait for it, and the next
writer cuts it off.
"""

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from rl_logging.appendfile import AppendFile, blocks_from_end
from rl_logging.errors import JournalError, RunInUseError
from rl_logging.line import decode, encode
from rl_logging.lock import FileLock
from rl_logging.record import Record

_WAITING_BYTES = 16 << 20
_PATIENCE_S = 0.2  # for somebody who only looks whether the lock is taken
FSYNC_EVERY_S = 5.0


class Journal:
    """Append records to a file; a file that exists is continued.

    A record is with the operating system when :meth:`append` returns, and survives the
    process. What survives the machine's own failure is a matter of ``fsync``.

    :param path: the file, ``journal.jsonl`` in a run folder
    :param fsync: ``"always"`` (before :meth:`append` returns), ``"never"``, or every so
        many seconds, off the caller's thread
    :raises RunInUseError: another process, or another journal of this one, writes it
    :raises OSError: it cannot be opened for writing
    :raises ValueError: ``fsync`` is none of these
    """

    def __init__(self, path: str | Path, fsync: str | float = FSYNC_EVERY_S) -> None:
        self._fsync_always, self._fsync_every_s = _fsync_policy(fsync)
        self._lock = FileLock(Path(path).with_suffix(".lock"))
        if not self._lock.acquire(_PATIENCE_S):
            advice = "give this run a folder of its own, or end that one"
            raise RunInUseError(f"{path} is written by {self._lock.holder()}; {advice}")
        try:
            self._file = AppendFile(path)
        except OSError:
            self._lock.release(remove=True)
            raise
        self._file.repair()
        self._pid = os.getpid()
        self._dirty = threading.Event()
        self._syncer: threading.Thread | None = None
        last, last_trained = last_record(self.path), last_record(self.path, axis="")
        self.last_seq = last.seq if last else 0
        self.last_step = last_trained.step if last_trained else 0
        self._time = round(last.time + 0.001, 3) if last else 0.0  # later than all that is there
        self._step_then = self.last_step  # that of the newest record at that time
        self.error: OSError | None = None
        self._sync_error: OSError | None = None
        self.lost = 0
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0

    @property
    def path(self) -> Path:
        return self._file.path

    def append(self, record: Record) -> Record:
        """Write the record and return it with its number, and a time that is its own.

        Of two records in one millisecond the later one has the greater step: some trackers
        could not tell a real repeat from one record that is delivered twice, and MLflow
        gives a millisecond's points back in the order of their steps.

        A full disk does not raise: :attr:`error` says so, the newest records, of 16 MiB at
        most, wait in memory for the next call, and :attr:`lost` counts the others.

        :raises OSError: the journal is closed, or this is a fork of the process that writes it
        """
        if self._file.closed or self._pid != os.getpid():
            raise OSError(errno.EBADF, "the journal is closed", str(self.path))
        record = Record(  # dataclasses.replace() would take as long as the write
            record.step,
            self._free_time(record),
            record.values,
            record.excluded,
            record.kind,
            self.last_seq + 1,
            record.axis,
        )
        line = encode(record)
        self.last_seq = record.seq
        if not record.axis:
            self.last_step = record.step
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        self.retry()
        return record

    @property
    def size(self) -> int:
        """The file's size in bytes, behind the last record."""
        return self._file.size

    @property
    def waiting(self) -> int:
        """How many records are in memory only."""
        return len(self._waiting)

    @property
    def written_seq(self) -> int:
        """The number of the last record that is in the file."""
        return self.last_seq - len(self._waiting)

    def close(self) -> None:
        """Write what waits, if it can be written now, and close the file."""
        if self._file.closed or self._pid != os.getpid():
            return
        self.retry()
        if self._fsync_every_s:
            self._sync()
        self._file.close()
        self._dirty.set()  # the thread ends
        self._lock.release(remove=True)

    def retry(self) -> None:
        """Write what waits in memory, if it can be written now."""
        try:
            while self._waiting:
                self._file.append(self._waiting[0])
                self._waiting_bytes -= len(self._waiting.popleft())
            self.error, self._sync_error = self._sync_error, None
            if self._fsync_always:
                self._file.sync()
            elif self._fsync_every_s:
                self._sync_soon()
        except OSError as error:
            self.error = error
            while self._waiting_bytes > _WAITING_BYTES:
                self._waiting_bytes -= len(self._waiting.popleft())
                self.lost += 1

    def _sync_soon(self) -> None:
        if self._syncer is None:
            self._syncer = threading.Thread(target=self._keep_synced, name="journal fsync", daemon=True)
            self._syncer.start()
        if not self._dirty.is_set():
            self._dirty.set()

    def _keep_synced(self) -> None:
        pause = threading.Event()
        while self._dirty.wait() and not self._file.closed:
            self._dirty.clear()
            self._sync()
            pause.wait(self._fsync_every_s)

    def _sync(self) -> None:
        try:
            self._file.sync()
        except OSError as error:
            if not self._file.closed:  # by the other thread, just now
                self._sync_error = error

    def _free_time(self, record: Record) -> float:
        if record.time > self._time:
            self._time = record.time
        elif record.step <= self._step_then:
            self._time = round(self._time + 0.001, 3)
        self._step_then = record.step
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
                yield decode(line, Path(path).parent)
            except JournalError as error:
                if on_damage is None:
                    raise JournalError(f"{path}, line {number}: {error}") from error
                on_damage(number, error)


def last_record(path: Path, axis: str | None = None) -> Record | None:
    """The last record that can be read, found from the file's end.

    :param axis: only of this one; empty for the training step
    :raises OSError: there is no such file
    """
    rest = b""
    for start, block in blocks_from_end(path):
        lines = (block + rest).split(b"\n")
        rest = lines[0]
        for line in reversed(lines if start == 0 else lines[1:]):
            try:
                record = decode(line)
            except JournalError:
                continue  # damaged: the one before it counts on
            if axis is None or record.axis == axis:
                return record
    return None


def _fsync_policy(fsync: str | float) -> tuple[bool, float]:
    if fsync in ("always", "never"):
        return fsync == "always", 0.0
    if isinstance(fsync, (int, float)) and not isinstance(fsync, bool) and 0 < fsync < threading.TIMEOUT_MAX:
        return False, float(fsync)
    raise ValueError(f"fsync is 'always', 'never', or a number of seconds above 0, not {fsync!r}")
