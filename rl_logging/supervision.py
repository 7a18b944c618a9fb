"""Keeping the courier alive: it is started once per run, and again when it dies."""

import contextlib
import logging
import os
import subprocess
import threading
import time
from pathlib import Path

from rl_logging import interpreter

_log = logging.getLogger("rl_logging")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 300.0
_DONE = (0, 1)  # its exit status: all is delivered, or its time is over
_LONG_LIFE_S = 60.0  # after which the next death counts as the first


class CourierProcess:
    """The courier, as the process that trains sees it.

    :param folder: the run folder
    :param session: when the logger was made, in milliseconds
    :param linger_s: for how long it goes on when this process is gone
    """

    def __init__(self, folder: Path, session: int, linger_s: float) -> None:
        self._folder = folder.absolute()
        self._arguments = [str(self._folder), str(session), f"{linger_s:g}", str(os.getpid())]
        self._process: subprocess.Popen[bytes] | None = None
        self._outputs = b""
        self._closing = False
        self._lock = threading.Lock()  # for all of these
        self._gone = threading.Event()

    @property
    def pid(self) -> int | None:
        """The process's number, while it runs."""
        return self._process.pid if self._process is not None and not self._gone.is_set() else None

    def deliver(self, outputs: bytes) -> None:
        """Say what to deliver to; the process is started if it was not.

        :param outputs: all outputs, as :func:`rl_logging.manifest.encode` gives them
        :raises OSError: no process can be started
        """
        with self._lock:
            self._outputs = outputs
            if self._process is None:
                self._process = self._start()
                threading.Thread(target=self._attend, name="attend to the courier", daemon=True).start()
            else:
                self._send(outputs + b"\n")

    def wake(self) -> None:
        """Let it look at the journal now."""
        with self._lock:
            self._send(b"\n")

    def close(self) -> None:
        """Say that this run has ended; it goes on until all is delivered, or its time is over."""
        with self._lock:
            self._closing = True
            self._send(b"end\n")  # the pipe's end would not say it: a fork of this process may hold it open

    def wait(self, timeout_s: float) -> None:
        """Wait for its end."""
        if self._process is not None:
            self._gone.wait(timeout_s)

    def _start(self) -> "subprocess.Popen[bytes]":
        with (self._folder / "courier.log").open("ab") as log:
            process = subprocess.Popen(
                interpreter.command("rl_logging.courier", *self._arguments),
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=interpreter.environment(),
                start_new_session=True,  # neither Ctrl-C nor the terminal's end is meant for it
            )
        self._gone.clear()
        self._process = process
        self._send(self._outputs + b"\n")
        if self._closing:
            self._send(b"end\n")
        return process

    def _send(self, line: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(
                OSError, ValueError
            ):  # it has died, and is told all when it is started again
                self._process.stdin.write(line)

    def _attend(self) -> None:
        """Say what it says, and start it again when it dies, after growing pauses."""
        pause_s = _FIRST_PAUSE_S
        while (process := self._process) is not None and process.stdout is not None:
            began = time.monotonic()
            for line in process.stdout:
                _log.warning("%s", line.decode(errors="replace").rstrip("\n"))
            status = process.wait()
            with self._lock:
                self._process = None if self._closing and status in _DONE else process
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        pipe.close()
            self._gone.set()
            if self._closing and status in _DONE:
                return
            if time.monotonic() - began > _LONG_LIFE_S:
                pause_s = _FIRST_PAUSE_S
            _log.warning(
                "the courier ended with status %d (see %s); it is started again in %g s, and nothing is lost",
                status,
                self._folder / "courier.log",
                pause_s,
            )
            self._again_after(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _again_after(self, pause_s: float) -> None:
        while True:
            threading.Event().wait(pause_s)
            try:
                with self._lock:
                    self._start()
                return
            except OSError as error:  # the run folder was removed, or there is no room for a process now
                _log.warning(
                    "the courier cannot be started: %s; tried again in %g s", error, _LONGEST_PAUSE_S
                )
                pause_s = _LONGEST_PAUSE_S
