"""What the trackers' senders share: a run opened on first use, and an SDK kept in bounds."""

import argparse
import ast
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
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from rl_logging.formats import check_installed
from rl_logging.formats.base import History, Sender
from rl_logging.record import Record

_log = logging.getLogger(__name__)
_SIGNALS = ("SIGINT", "SIGTERM", "SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE", "SIGQUIT")
_ABSENT = object()
_ours: set[int] = set()  # the identities of the open runs that outputs opened


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
            active = self.active()
            if id(active) in _ours:
                raise RuntimeError(f"{self.name} holds one run a process, and another output has one open")
            self.owns_run = active is None
            self._run = self.open() if active is None else active
            self._opened_by = os.getpid()
            if self.owns_run:
                _ours.add(id(self._run))
            atexit.register(self.close)  # after the SDK's own hook, hence run before it
        return self._run

    def active(self) -> Any:
        """The run that is open in this process, unless this output was told of another."""
        return None

    def open(self) -> Any:
        """Open a run of our own."""
        raise NotImplementedError

    def finish(self, run: Any) -> None:
        """Send what is left; end the run if it is ours."""

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            atexit.unregister(self.close)
            _ours.discard(id(self._run))
            if self._opened_by == os.getpid():  # a fork's copy leaves the run to its parent
                self.finish(self._run)

    def history(self) -> History:
        return {} if self._run is None else self.read_back(self._run)

    def read_back(self, run: Any) -> History:
        """The numbers in a run, by the tracker's own reader."""
        raise NotImplementedError

    def where(self) -> str:
        return self.destination() if self.active() is None else "the run that is open in this process"

    def destination(self) -> str:
        """In one line, where the data of a run of our own goes."""
        raise NotImplementedError

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


def check_init(name: str, package: str, source: str, given: Mapping[str, Any]) -> None:
    """Raise for an argument that an SDK's ``init`` does not have.

    Nothing is imported: the parameters are read from the source. SwanLab's takes any more,
    and ignores them.

    :param source: the file in the package that defines ``init``; where there is none, the
        SDK itself has to find the mistake
    :raises TypeError: an argument that it does not have
    """
    spec = find_spec(package) if given else None
    paths = [Path(folder, source) for folder in (spec and spec.submodule_search_locations) or ()]
    for path in filter(Path.is_file, paths):
        functions = (
            node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.FunctionDef)
        )
        init = next((function.args for function in functions if function.name == "init"), None)
        if init is None:
            return
        allowed = [argument.arg for argument in (*init.args, *init.kwonlyargs) if argument.arg != "cls"]
        for wrong in given.keys() - set(allowed):
            raise TypeError(
                f"{name} has no argument {wrong!r}; {package}'s own init has {', '.join(allowed)}"
            )


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
