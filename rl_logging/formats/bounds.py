"""Keeping a tracker's SDK in bounds where it is a guest: in the process that trains.

In a process of their own (:func:`at_home`) the SDKs may do as they please.
"""

import argparse
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
from typing import Any, TextIO

_log = logging.getLogger(__name__)
_SIGNALS = ("SIGINT", "SIGTERM", "SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE", "SIGQUIT")
_ABSENT = object()
_home = False  # whether this process is there for the SDKs
_patching = threading.RLock()  # one SDK starts or ends at a time, so that none undoes another's changes
_environments = threading.Lock()
_borrowed: dict[str, int] = {}  # how often each variable of ours is asked for now
_before: frozenset[str] = frozenset()  # the variables before the first was


def at_home() -> None:
    """Say that this process is there for the SDKs: nothing that they change needs to be undone."""
    global _home
    _home = True


def is_home() -> bool:
    """Whether :func:`at_home` was said."""
    return _home


@contextlib.contextmanager
def environment(**defaults: str) -> Iterator[None]:
    """Set environment variables for a while, those that the user has not set.

    What an SDK adds meanwhile goes, too: children of this process would inherit it. Several
    threads may be inside; what was set stays until the last one leaves.
    """
    global _before
    if _home:
        for name, value in defaults.items():
            os.environ.setdefault(name, value)
        yield
        return
    with _environments:
        if not _borrowed:
            _before = frozenset(os.environ)
        for name in {"", *defaults}:  # the empty name stands for being inside
            _borrowed[name] = _borrowed.get(name, 0) + 1
            if name and name not in _before:
                os.environ[name] = defaults[name]
    try:
        yield
    finally:
        with _environments:
            for name in {"", *defaults}:
                _borrowed[name] -= 1
            if not _borrowed[""]:
                _borrowed.clear()
                for name in os.environ.keys() - _before:
                    os.environ.pop(name, None)


@contextlib.contextmanager
def unpatched() -> Iterator[None]:
    """Undo what an SDK's import or start changes in the user's program.

    W&B, ClearML and SwanLab replace output functions, hooks and signal handlers; ClearML's
    handler swallows SIGTERM.
    """
    if _home:
        yield
        return
    with _patching:
        yield from _undone()


def _undone() -> Iterator[None]:
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
    """Keep an SDK's banners off the console; they go to the log at debug level.

    What other threads print meanwhile, such as the one that trains, is shown.
    """
    if _home:
        yield
        return
    with _patching, contextlib.redirect_stdout(_OfOneThread(sys.stdout)) as printed:
        yield
    if text := printed.getvalue().strip():
        _log.debug("%s", text)


class _OfOneThread:
    """A standard output that keeps what the thread that makes it prints; others print where they did."""

    def __init__(self, others: TextIO | None) -> None:
        self._mine, self._printed = threading.get_ident(), io.StringIO()
        self._others = self._printed if others is None else others

    def write(self, text: str) -> int:
        own = threading.get_ident() == self._mine
        return (self._printed if own else self._others).write(text)

    def getvalue(self) -> str:
        return self._printed.getvalue()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._others, name)


def _own(place: object) -> Mapping[str, Any]:
    return getattr(place, "__dict__", {})


@contextlib.contextmanager
def own_screen(log_path: Path) -> Iterator[Any]:
    """The terminal for us alone: what the SDKs print goes to a file."""
    with os.fdopen(os.dup(1), "w") as screen:
        try:
            log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError:
            log = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        yield screen
