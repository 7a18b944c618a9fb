"""Processes that are measured, and what they use of the machine.

Every contestant lives in a process of its own, whose console is a pseudo-terminal of 120
columns that another process reads. CPU time and memory are read from /proc.
"""

import contextlib
import fcntl
import multiprocessing
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

_PATIENCE_S = 300.0
_BEAT_S = 0.5


class Process:
    """A process of one contestant, seen from outside.

    :param task: called there with a connection to here, the folder and the arguments
    :param folder: made for it; what it and the SDKs print on stderr is in ``output.txt``
    """

    def __init__(self, task: Callable[..., None], folder: Path, *arguments: Any) -> None:
        context = multiprocessing.get_context("forkserver")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_begin, args=(task, theirs, folder, *arguments))
        self._process.start()
        theirs.close()
        self._folder = folder

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    def send(self, *task: Any) -> None:
        """Have it do something."""
        self._connection.send(task)

    def receive(self, beat: Callable[[], object] = lambda: None, patience_s: float = _PATIENCE_S) -> Any:
        """What it has measured.

        :param beat: called twice a second while it works
        :raises TimeoutError: it takes too long
        :raises RuntimeError: it died
        """
        deadline = time.monotonic() + patience_s
        while not self._connection.poll(_BEAT_S):
            beat()
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer in {patience_s:g} s; see {self._folder}/output.txt")
        try:
            return self._connection.recv()
        except EOFError:
            noise = (self._folder / "output.txt").read_text(errors="replace")
            raise RuntimeError(f"it died:\n{noise[-2000:]}") from None

    def ask(self, *task: Any) -> Any:
        """Have it do something, and return what it measured."""
        self.send(*task)
        return self.receive()

    def close(self) -> None:
        """Let it end; one that hangs is killed."""
        with contextlib.suppress(OSError):
            self._connection.send(None)
        self._process.join(_PATIENCE_S)
        self._process.kill()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _begin(task: Callable[..., None], connection: Connection, folder: Path, *arguments: Any) -> None:
    folder.mkdir(parents=True)
    _own_terminal(folder / "output.txt")
    task(connection, folder, *arguments)


def _own_terminal(noise: Path) -> None:
    """Give this process a terminal that another process reads; keep SDKs' words off the user's."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    os.dup2(slave, 1)
    os.dup2(os.open(noise, os.O_WRONLY | os.O_CREAT), 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    subprocess.Popen(["cat"], stdin=master, stdout=subprocess.DEVNULL, start_new_session=True)
    os.close(master)


class Usage(NamedTuple):
    """What processes use: CPU time since they began, and memory now."""

    cpu_s: float
    memory_mb: float


class Watch:
    """The CPU time and memory of a courier, with all its children: look from time to time.

    :param pid: the process that trains
    """

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._pid = pid
        self._cpu_s: dict[int, float] = {}  # those that have ended keep what they were seen to use

    @property
    def cpu_s(self) -> float:
        return sum(self._cpu_s.values())

    def look(self) -> Usage:
        """See what they use now."""
        memory_mb = 0.0
        for pid in couriers_of(self._pid):
            usage = usage_of(pid)
            self._cpu_s[pid] = max(usage.cpu_s, self._cpu_s.get(pid, 0.0))
            memory_mb += usage.memory_mb
        self.peak_mb = max(self.peak_mb, memory_mb)
        return Usage(self.cpu_s, memory_mb)


def usage_of(pid: int) -> Usage:
    """What one process uses; nothing once it has ended."""
    fields = _stat(pid)
    if not fields:
        return Usage(0.0, 0.0)
    ticks = int(fields[11]) + int(fields[12])  # in user and in system mode
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6)


def couriers_of(pid: int) -> list[int]:
    """The courier that a process started, and all processes below it."""
    parents = {child: int(fields[1]) for child in _pids() if (fields := _stat(child))}
    family = [child for child, parent in parents.items() if parent == pid and _is_courier(child)]
    for member in family:  # it grows
        family += [child for child, parent in parents.items() if parent == member]
    return family


def _is_courier(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"rl_logging.courier" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the process's name, which may hold anything."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []
