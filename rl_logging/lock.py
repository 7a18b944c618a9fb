"""A lock on a file, held by one process at a time, that says who holds it.

The kernel's record locks: a process that dies, however it dies, holds none, and a fork
does not inherit its parent's.
"""

import contextlib
import errno
import fcntl
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import orjson

_UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # a file system that has no locks
_POLL_S = 0.02
_guard = threading.Lock()
# The kernel does not stop a process from locking twice. One that nobody refers to any more is free.
_held: "weakref.WeakValueDictionary[tuple[int, str], FileLock]" = weakref.WeakValueDictionary()


class FileLock:
    """A lock beside what it protects.

    :param path: the lock's file
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._close: Callable[[], object] = int

    def acquire(self, timeout_s: float = 0.0) -> bool:
        """Take the lock, and write down who has it.

        :param timeout_s: how long to wait while somebody else has it
        :return: whether this object holds it now
        :raises OSError: the file cannot be written
        """
        deadline = time.monotonic() + timeout_s
        pause = threading.Event()
        while not self._try():
            if time.monotonic() >= deadline:
                return False
            pause.wait(_POLL_S)
        return True

    def is_held(self) -> bool:
        """Whether anybody has it now; asking changes nothing.

        :raises OSError: the file cannot be opened
        """
        with _guard:
            if _key(self.path) in _held:  # closing a second descriptor would give it back
                return True
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                return error.errno not in _UNKNOWN
            finally:
                os.close(fd)
            return False

    def _try(self) -> bool:
        key = _key(self.path)
        with _guard:
            if key in _held:
                return _held[key] is self
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _UNKNOWN:
                    os.close(fd)
                    return False
            if not _is_at(fd, self.path):  # removed by its last holder, just now
                os.close(fd)
                return False
            self._close = weakref.finalize(self, os.close, fd)
            _held[key] = self
            about = {"pid": os.getpid(), "host": socket.gethostname(), "since": round(time.time())}
            with contextlib.suppress(OSError):  # a full disk; the lock holds without it
                os.ftruncate(fd, 0)
                os.pwrite(fd, orjson.dumps(about), 0)
            return True

    def release(self, remove: bool = False) -> None:
        """Give the lock back, if this object holds it.

        :param remove: whether to leave no file behind
        """
        with _guard:
            key = _key(self.path)
            if _held.get(key) is self:
                del _held[key]
                if remove:
                    self.path.unlink(missing_ok=True)
                self._close()

    def holder(self) -> str:
        """Who wrote down last that it has the lock, such as ``process 7 on gpu3 since 12:30:00``."""
        try:
            about = orjson.loads(self.path.read_bytes()) if _key(self.path) not in _held else {}
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about["since"]))
            return f"process {about['pid']} on {about['host']} since {since}"
        except KeyError:
            return f"this process, {os.getpid()}"
        except (OSError, ValueError):
            return "another process"


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _key(path: Path) -> tuple[int, str]:
    return os.getpid(), os.path.realpath(path)
