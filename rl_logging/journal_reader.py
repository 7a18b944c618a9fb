"""Reading a journal from any place on, also while it grows."""

import os
from collections.abc import Callable
from pathlib import Path

from rl_logging.errors import JournalError
from rl_logging.line import decode
from rl_logging.record import Record

_READ_BYTES = 1 << 18  # at once


class Reader:
    """Read a journal from an offset on, as far as it goes now, and later further.

    :param path: the journal
    :param offset: in bytes, where a line begins
    :param on_damage: told the offset of a line that is damaged, and what is wrong with it;
        without it, such a line raises
    :raises OSError: it cannot be read
    """

    def __init__(
        self, path: str | Path, offset: int = 0, on_damage: Callable[[int, JournalError], None] | None = None
    ) -> None:
        self._folder = Path(path).parent
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115  closed by close()
        self.offset = offset
        self._on_damage = on_damage

    def read(self) -> list[tuple[Record, int]]:
        """The next records, each with the offset after it; none where there is none yet.

        About 256 KiB at once, however long the journal is.

        :raises JournalError: a line is damaged
        :raises OSError: the journal cannot be read
        """
        lines = self._lines()
        found = []
        for line in lines:
            start, self.offset = self.offset, self.offset + len(line)
            try:
                found.append((decode(line, self._folder), self.offset))
            except JournalError as error:
                if self._on_damage is None:
                    raise
                self._on_damage(start, error)
        return found

    @property
    def size(self) -> int:
        """The journal's size in bytes, now."""
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()

    def _lines(self) -> list[bytes]:
        size = _READ_BYTES
        if self.size <= self.offset:
            return []
        while True:
            data = os.pread(self._file.fileno(), size, self.offset)
            end = data.rfind(b"\n") + 1
            if end or len(data) < size:
                return [line + b"\n" for line in data[:end].split(b"\n")[:-1]]
            size *= 2  # a line longer than that
