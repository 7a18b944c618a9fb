"""What the trackers' senders share: a run opened on first use, and an SDK kept in bounds."""

import argparse
import atexit
import contextlib
import io
import logging
import multiprocessing.process
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from rl_logging.formats import check_installed
from rl_logging.formats.base import History, Sender
from rl_logging.record import Record
from rl_logging.values import is_number

_log = logging.getLogger(__name__)
_SIGNALS = ("SIGINT", "SIGTERM", "SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE", "SIGQUIT")
_ABSENT = object()


class Tracker(Sender):
    """A sender whose run is opened on first use, never by the constructor.

    With no arguments it uses the run that is active in this process, and leaves it open;
    else it opens one of its own, in the tracker's local or offline mode where there is no
    account, and finishes it.

    :param folder: where what is kept locally goes; by default the current folder
    :param name: what ``exclude`` calls this output
    :raises MissingBackendError: the tracker's package is not installed; it is not imported
    """

    remote = True
    package: ClassVar[str]
    limit: ClassVar[str] = ""  # why a number may be refused, for the message

    def __init__(self, *, folder: str | Path | None = None, name: str | None = None) -> None:
        super().__init__(name=name)
        check_installed(type(self).name, self.package)
        self.folder = None if folder is None else str(Path(folder).absolute())
        self.owns_run = True
        self._run: Any = None
        self._opened_by: int | None = None
        self._closed = False

    @property
    def run(self) -> Any:
        """The tracker's own run object, opened now if it was not.

        :raises RuntimeError: the output is closed
        """
        if self._closed:
            raise RuntimeError(f"{self.name} is closed")
        if self._run is None:
            self._run, self._opened_by = self.open(), os.getpid()
            atexit.register(self.close)  # after the SDK's own hook, hence run before it
        return self._run

    def open(self) -> Any:
        """Open the run, or find the active one and clear ``owns_run``."""
        raise NotImplementedError

    def finish(self, run: Any) -> None:
        """Send what is left; end the run if it is ours."""

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            atexit.unregister(self.close)
            if self._opened_by == os.getpid():  # a fork's copy leaves the run to its parent
                self.finish(self._run)

    def history(self) -> History:
        return {} if self._run is None else self.read_back(self._run)

    def read_back(self, run: Any) -> History:
        """The numbers in a run, by the tracker's own reader."""
        raise NotImplementedError

    def taken(self, record: Record) -> dict[str, float]:
        """The record's numbers as they are held here; the others are counted as refused."""
        numbers = self.numbers(record)
        if len(numbers) < sum(map(is_number, record.values.values())):
            for key, value in record.values.items():
                if is_number(value) and self.held(value, record.step) is None:
                    self.refuse(key, record.step, self.limit)
        return numbers

    @property
    def local_folder(self) -> Path:
        """Where what is kept locally goes."""
        return Path(self.folder or Path.cwd())


def check_mode(name: str, mode: str | None, allowed: tuple[str, ...]) -> None:
    """Raise for a mode that the tracker does not know.

    :raises ValueError: it is not allowed
    """
    if mode is not None and mode not in allowed:
        raise ValueError(f"{name} has no mode {mode!r}; allowed are {', '.join(allowed)}")


@contextlib.contextmanager
def environment(**defaults: str) -> Iterator[None]:
    """Set environment variables for a while, those that the user has not set.

    What an SDK adds meanwhile goes, too: children of this process would inherit it.
    """
    before = frozenset(os.environ)
    os.environ.update({name: value for name, value in defaults.items() if name not in before})
    try:
        yield
    finally:
        for name in os.environ.keys() - before:
            os.environ.pop(name, None)


@contextlib.contextmanager
def unpatched() -> Iterator[None]:
    """Undo what an SDK's import or start changes in the user's program.

    W&B, ClearML and SwanLab replace output functions, hooks and signal handlers; ClearML's
    handler swallows SIGTERM.
    """
    places = [
        (sys, "excepthook"),
        (sys, "exit"),
        (sys.stdout, "write"),
        (sys.stderr, "write"),
        (argparse.ArgumentParser, "parse_args"),
        (argparse.ArgumentParser, "parse_known_args"),
        (argparse.ArgumentParser, "add_subparsers"),
        (multiprocessing.process.BaseProcess, "run"),
    ]
    before = [(place, name, _own(place).get(name, _ABSENT)) for place, name in places]
    handlers = {number: signal.getsignal(number) for number in (getattr(signal, name) for name in _SIGNALS)}
    try:
        yield
    finally:
        for place, name, value in before:
            if _own(place).get(name, _ABSENT) is value:
                continue
            if value is _ABSENT:
                delattr(place, name)
            else:
                setattr(place, name, value)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep an SDK's banners off the console; they go to the log at debug level."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        yield
    if text := printed.getvalue().strip():
        _log.debug("%s", text)


def _own(place: object) -> Mapping[str, Any]:
    return getattr(place, "__dict__", {})


def message_line(record: Record) -> str:
    """A message as one line of a tracker's log."""
    level, message = record.values["level"], record.values["message"]
    return f"[step {record.step}] {level}: {message}"
