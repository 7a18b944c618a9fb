"""The package's errors, and how trouble is told: at once, then at growing intervals."""

import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path

_TRACEBACK_FRAMES = 3
_RANKS = 10  # so many are named
_TOPICS = 1000  # told apart; keys and names come from outside
_log = logging.getLogger("rl_logging")


class MissingBackendError(ImportError):
    """An output was asked for whose package is not installed.

    :param backend: what needs the package, as a user names it
    :param extra: the pip extra that brings it
    """

    def __init__(self, backend: str, extra: str) -> None:
        super().__init__(f"{backend} is not installed; pip install 'rl_logging[{extra}]'")


class JournalError(ValueError):
    """A line of a journal is torn, damaged, or of a later version than this package reads."""


class RunInUseError(RuntimeError):
    """Another process writes the journal of this run."""


class MissingRanksError(RuntimeError):
    """Some ranks sent nothing for a dump, and the reducer has ``on_missing="raise"``.

    What came is written.

    :param ranks: those that are missing
    """

    def __init__(self, ranks: tuple[int, ...], timeout_s: float) -> None:
        self.ranks = ranks
        super().__init__(
            f"{named(ranks)} sent nothing for this dump within {timeout_s:g} s; the rest is written"
        )


class Trouble:
    """Tell of trouble once, then after 1, 10, 100 … minutes, with a count of what was left out.

    A training run that meets the same error at every dump must neither hide it nor drown in it.

    :param clock: seconds that only grow
    """

    _first_pause_s = 60.0
    _growth = 10.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, float, int]] = {}  # next time, pause, left out

    def tell(self, topic: str, message: str, error: BaseException | None = None) -> None:
        """Log ``message`` as a warning, unless ``topic`` was told of a short while ago.

        :param topic: what counts as the same trouble
        :param message: what happened and what it means
        :param error: its traceback is logged the first time
        """
        if topic not in self._seen and len(self._seen) >= _TOPICS:
            topic = "all that exceeds the number of topics"
        now = self._clock()
        due, pause_s, left_out = self._seen.get(topic, (now, self._first_pause_s, 0))
        if now < due:
            self._seen[topic] = (due, pause_s, left_out + 1)
            return
        again = f" ({left_out} more like it since the last message)" if left_out else ""
        # The system's own errors say all in their text; of others the place may be the cause.
        told_by_system = isinstance(error, OSError) and error.errno is not None
        traced = error is not None and not told_by_system and topic not in self._seen
        trace = f"\n{_short_traceback(error)}" if traced else ""
        _log.warning("%s%s%s", message, again, trace)
        self._seen[topic] = (now + pause_s, pause_s * self._growth, 0)


def named(ranks: tuple[int, ...]) -> str:
    """Ranks in words, ten at most."""
    listed = ", ".join(map(str, ranks[:_RANKS]))
    more = f" and {len(ranks) - _RANKS} more" if len(ranks) > _RANKS else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {listed}{more}"


def caller() -> str:
    """Where the user's code is that called this package: `` (train.py:12)``; empty if there is none."""
    for frame, line in traceback.walk_stack(None):
        module = frame.f_globals.get("__name__", "").partition(".")[0]
        if module not in ("rl_logging", "stable_baselines3"):
            return f" ({Path(frame.f_code.co_filename).name}:{line})"
    return ""


def _short_traceback(error: BaseException | None) -> str:
    """Where an error came from; SDKs' whole tracebacks fill several screens."""
    return "".join(traceback.format_exception(error, limit=-_TRACEBACK_FRAMES, chain=False)).rstrip()
