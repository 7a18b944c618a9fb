"""A program's answer, read until a deadline: one that hangs is killed, and what it started with it."""

import contextlib
import io
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_logging.values import to_utf8

_PIECE = 1 << 20  # bytes of one line that are held at once
_COMPLAINT = 2000  # characters of what it says beside its answer; the cause stands at the end
_END_S = 1.0


class ProgramError(RuntimeError):
    """A program failed; the text is what it said."""


def answer(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], deadline: float
) -> Iterator[bytes]:
    """Run a program, with nothing to read; give its output line by line, each with its newline.

    A line beyond 1 MiB comes in several pieces. Whoever stops reading ends the program.

    :param folder: where it runs
    :param deadline: when it has ended, by the clock of :func:`time.monotonic`
    :raises ProgramError: it ended with an error
    :raises TimeoutError: the deadline has passed
    :raises OSError: it cannot be started, or there is no such folder
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output = _Output(process, deadline)
        with io.BufferedReader(output) as reader:
            while piece := reader.readline(_PIECE):
                yield piece
        if _exit_code(process, deadline) != 0:
            raise ProgramError(to_utf8(output.complaint).strip() or f"{command[0]} failed without a word")
    finally:
        _end(process)


class _Output(io.RawIOBase):
    """What a program writes, until the deadline; ``complaint`` is the end of what it says beside it."""

    def __init__(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        super().__init__()
        self.complaint = ""
        self._answer, self._deadline = process.stdout, deadline
        self._open = selectors.DefaultSelector()
        for stream in filter(None, (process.stdout, process.stderr)):
            self._open.register(stream, selectors.EVENT_READ)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._open.get_map():
            for key, _ in self._open.select(_left(self._deadline)):
                data = os.read(key.fd, len(buffer))
                if not data:
                    self._open.unregister(key.fileobj)
                elif key.fileobj is self._answer:
                    buffer[: len(data)] = data
                    return len(data)
                else:
                    self.complaint = (self.complaint + data.decode("utf-8", "replace"))[-_COMPLAINT:]
        return 0

    def close(self) -> None:
        self._open.close()
        super().close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is up")
    return left


def _exit_code(process: subprocess.Popen[bytes], deadline: float) -> int:
    try:
        return process.wait(_left(deadline))
    except subprocess.TimeoutExpired as error:
        raise TimeoutError("the time is up") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:  # not waited for yet, so that its number is still its own
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a disk that does not answer holds it
            process.wait(_END_S)
    for stream in filter(None, (process.stdout, process.stderr)):
        stream.close()
