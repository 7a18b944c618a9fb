"""What W&B, ClearML and SwanLab have in common: sessions on the disk, addresses, bad manners.

A second offline session of a run would be sent as well as the first, and one that a kill
has torn lacks its end. So the first is set aside, and all is delivered to a new one.
"""

import contextlib
import itertools
import logging
import netrc
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

_log = logging.getLogger(__name__)


def stands(session: Path) -> bool:
    """Whether a session is on the disk, or was when it began to be replaced."""
    return session.exists() or aside(session).exists()


def aside(session: Path) -> Path:
    """Where a replaced session goes: a level deeper than any SDK's own tool looks."""
    return session.parent / "superseded" / session.name


def set_aside(name: str, session: Path) -> None:
    """Move away a session that another one is about to replace, if it is there."""
    if not session.exists():
        return
    place = aside(session)
    place.parent.mkdir(exist_ok=True)
    names = (f"{place.name}-{n}" if n else place.name for n in itertools.count())
    free = next(path for path in map(place.with_name, names) if not path.exists())
    session.rename(free)
    _log.info("%s: %s cannot be continued; it is now %s, and a new one gets all", name, session.name, free)


@contextlib.contextmanager
def no_exit() -> Iterator[None]:
    """Make an error of an SDK's ``sys.exit``.

    :raises RuntimeError: it was called
    """
    try:
        yield
    except SystemExit as error:
        raise RuntimeError(f"the tracker's package wants to end the program: {error}") from error


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Undo what an SDK makes of signals, also in a process that is there for it.

    ClearML's handler swallows SIGTERM. In another thread than the main one it can set none.
    """
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)


def online(variable: str) -> str:
    """The service of a run that is not local, with its address if that is in the environment.

    A name and password in the address are left out.
    """
    told = urlsplit(os.environ.get(variable, ""))
    return f"online {told.scheme}://{told.netloc.rpartition('@')[2]}" if told.netloc else "online"


def has_login(path: Path, hosts: Iterable[str]) -> bool:
    """Whether a file of logins has one for any of these hosts."""
    try:
        logins = netrc.netrc(str(path))
    except (OSError, netrc.NetrcParseError):  # no such file, or one that the SDK could not read either
        return False
    return any(logins.authenticators(host) for host in hosts)
