"""A file that grows by whole pieces, for the journal and the outputs that write text.

Each piece is one ``write``: a process that is killed leaves whole pieces. When the disk
is full, the part that was written is cut off again, so that what is there stays readable.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1 << 16


class AppendFile:
    """Append to a file; it is created, with its folder, if missing, and never cleared.

    :param path: the file
    :raises OSError: it cannot be opened for writing
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self.size = os.fstat(self._fd).st_size

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def check_open(self) -> None:
        """Raise if the file was closed.

        :raises OSError: it was
        """
        if self.closed:
            raise OSError(errno.EBADF, "the file is closed", str(self.path))

    def append(self, piece: bytes) -> None:
        """Write one piece, whole or not at all.

        :raises OSError: the disk is full, or the file was removed or closed
        """
        self.check_open()
        if os.fstat(self._fd).st_nlink == 0:  # else writes would vanish without an error
            raise FileNotFoundError(errno.ENOENT, "the file was removed", str(self.path))
        written = os.write(self._fd, piece)
        if written < len(piece):
            os.ftruncate(self._fd, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self.size += written

    def repair(self) -> None:
        """Cut off a last line that has no newline: its writer died, or the disk was full."""
        for start, block in blocks_from_end(self.path):
            newline = block.rfind(b"\n")
            if newline >= 0:
                self.truncate(start + newline + 1)
                return
        self.truncate(0)

    def truncate(self, size: int) -> None:
        """Cut the file back to ``size`` bytes."""
        os.ftruncate(self._fd, size)
        self.size = size

    def sync(self) -> None:
        """Wait until the disk has all that was appended.

        :raises OSError: it could not be written, or the file is closed
        """
        os.fsync(self._fd)

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
            self._fd = -1


def blocks_from_end(path: Path) -> Iterator[tuple[int, bytes]]:
    """A file's bytes with their offsets, the last block first."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            yield start, file.read(end - start)
            end = start
