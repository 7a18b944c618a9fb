"""What the trackers' senders share: a run that is opened on first use, and can be continued."""

import ast
import atexit
import os
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from rl_logging.formats import check_installed
from rl_logging.formats.base import History, Sender
from rl_logging.record import Record

_ours: set[int] = set()  # the identities of the open runs that outputs opened
FINISHED, FAILED, KILLED = "finished", "failed", "killed"


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
        self.is_away = False  # whether another process delivers to the run
        self._run: Any = None
        self._opened_by: int | None = None
        self._closed = False
        self._opening = threading.RLock()  # the thread that delivers and the user's may both be the first

    @property
    def run(self) -> Any:
        """The tracker's own run object, opened now if it was not.

        :raises RuntimeError: the output is closed, or another process delivers to the run
        """
        if self._closed:
            raise RuntimeError(f"{self.name} is closed")
        if self.is_away:
            raise RuntimeError(f"{self.name}: its run is open in the courier; logger.urls() says where it is")
        with self._opening:
            if self._run is None:
                active = self.active()
                if id(active) in _ours:
                    raise RuntimeError(
                        f"{self.name} holds one run a process, and another output has one open"
                    )
                self.owns_run = active is None and not self.leave_open
                self._run = self.open() if active is None else active
                self._opened_by = os.getpid()
                if active is None:
                    _ours.add(id(self._run))
                atexit.register(self.close)  # after the SDK's own hook, hence run before it
        return self._run

    @property
    def is_open(self) -> bool:
        """Whether the run is open in this process."""
        return self._run is not None and not self._closed

    def joins(self) -> bool:
        return not self.owns_run if self.is_open else self.active() is not None

    def active(self) -> Any:
        """The run that is open in this process, unless this output was told of another."""
        return None

    def open(self) -> Any:
        """Open a run of our own, or the one that :meth:`resume` was told of."""
        raise NotImplementedError

    def finish(self, run: Any, status: str) -> None:
        """Send what is left; end the run if it is ours.

        :param status: ``"finished"``, ``"failed"`` or ``"killed"``
        """

    def close(self) -> None:
        self.end(FINISHED)

    def end(self, status: str) -> None:
        """Finish, saying how the run went; after an error it can be tried again."""
        if self._closed:
            return
        if self._run is not None and self._opened_by == os.getpid():  # a fork's copy leaves it to its parent
            self.finish(self._run, status)
        self._closed = True
        atexit.unregister(self.close)
        _ours.discard(id(self._run))

    def resolved(self) -> dict[str, Any]:
        """:meth:`arguments`, with what the environment and the SDK say here and now."""
        return self.arguments()

    def local_arguments(self) -> dict[str, Any]:
        """Arguments that keep what is delivered on this machine."""
        return {}

    def joined(self) -> dict[str, Any] | None:
        """Arguments by which another process can write into the run that is active here, if it can."""
        return None

    def history(self) -> History:
        reference = self.reference() or self.located
        return self.read_back(reference) if reference else {}

    def read_back(self, reference: Mapping[str, Any]) -> History:
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


def message_line(record: Record) -> str:
    """A message as one line of a tracker's log."""
    level, message = record.values["level"], record.values["message"]
    return f"[step {record.step}] {level}: {message}"
