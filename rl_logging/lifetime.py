"""How a run begins and ends: resumed or not, by an error, by a signal."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any


def check_delivery(delivery: str, linger_s: float = 0.0) -> None:
    """Raise for a way of delivery that there is not, or a time that is none.

    :raises ValueError: it is none
    """
    if not isinstance(linger_s, (int, float)) or not linger_s >= 0:  # NaN would be for ever
        raise ValueError(f"linger_s is a number of seconds from 0 on, not {linger_s!r}")
    if delivery not in ("auto", "thread", "inline"):
        raise ValueError(f"delivery is 'auto', 'thread' or 'inline', not {delivery!r}")


def check_resume(resume: str, folder: str | os.PathLike[str] | None) -> None:
    """Raise where a run folder is not as ``resume`` wants it.

    :raises ValueError: ``resume`` is none of ``"auto"``, ``"never"`` and ``"must"``
    :raises FileExistsError: it is ``"never"``, and the folder has a run
    :raises FileNotFoundError: it is ``"must"``, and there is none
    """
    if resume not in ("auto", "never", "must"):
        raise ValueError(f"resume is 'auto', 'never' or 'must', not {resume!r}")
    journal = Path(folder or "", "journal.jsonl")
    is_used = folder is not None and journal.is_file() and journal.stat().st_size > 0
    if is_used and resume == "never":
        raise FileExistsError(
            f"{folder} holds a run already; give another folder, or resume='auto' to continue"
        )
    if not is_used and resume == "must":
        raise FileNotFoundError(f"{folder} holds no run that could be resumed: it has no {journal.name}")


def how_it_went(error: BaseException | None) -> str:
    """``"finished"``, ``"failed"`` or ``"killed"``: a run's end, by what ended it."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished"
    return "killed" if isinstance(error, KeyboardInterrupt) else "failed"


def uncaught() -> BaseException | None:
    """What ended the program, while it exits; in a session with a prompt, errors end nothing."""
    is_interactive = hasattr(sys, "ps1") or bool(sys.flags.interactive)
    return None if is_interactive else getattr(sys, "last_value", None)


class Turn:
    """A lock that its holder can take again, and that knows whether this thread is the holder."""

    def __init__(self) -> None:
        self.after: Callable[[], Any] = int  # called when it is given back; by default, nothing happens
        self._lock = threading.RLock()
        self._holder = self._depth = 0

    @property
    def is_mine(self) -> bool:
        """Whether this thread has it."""
        return self._holder == threading.get_ident()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._holder = threading.get_ident()
        self._depth += 1

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        is_free = not self._depth
        if is_free:
            self._holder = 0
        self._lock.release()
        if is_free:
            self.after()


class OnSigterm:
    """Calls a function when SIGTERM comes, and then what was there before.

    :param act: what to do first
    :param turn: while the signal's thread has it, all waits until it is given back
    """

    @staticmethod
    def check(is_wanted: bool) -> None:
        """Raise where no signal can be handled.

        :raises ValueError: this is not the main thread
        """
        if is_wanted and threading.current_thread() is not threading.main_thread():
            raise ValueError("handle_sigterm is possible in the main thread only")

    def __init__(self, act: Callable[[], Any], turn: Turn) -> None:
        self._act, self._turn = act, turn
        turn.after = self._catch_up
        self._came = False
        self._before: Any = signal.signal(signal.SIGTERM, self._handle)

    def remove(self) -> None:
        """Put back what was there before, unless somebody else has taken its place."""
        if signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, self._before if self._before is not None else signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._turn.is_mine:
            self._came = True
            return
        self._act()
        self.remove()
        if callable(self._before):
            self._before(number, frame)
        elif self._before == signal.SIG_DFL:
            os.kill(os.getpid(), number)

    def _catch_up(self) -> None:
        if self._came and threading.current_thread() is threading.main_thread():
            self._came = False
            self._handle(signal.SIGTERM, None)
