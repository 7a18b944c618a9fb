"""Sampled: a source that runs on a thread of its own, so that no dump waits for it."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rl_logging.errors import Trouble
from rl_logging.values import describe, is_number, to_plain, to_text

Source = Callable[[], Mapping[str, Any]]
"""What is asked for metrics at each dump: a callable that gives values by key."""

KEEP_INTERVALS = 3  # so long the latest value stands for what does not come


class Sampled:
    """Ask a source on a thread of its own; a call gives what came since the last one.

    A number is the mean of its samples; its maximum or minimum where its name ends so
    (``_max``, ``_min``). Utilisation, a name that ends with ``util``, has its maximum too,
    under ``…util_max``. A text comes when it is new. ``sample_age_s`` says how old the
    newest sample is. Where none came, the latest is repeated until it is three intervals old.

    :param source: what is asked; its ``prefix`` stands before ``sample_age_s``, by default
        its name, and a ``close()`` of its own is called in the end, in that thread
    :param every_s: how often, in seconds; by default what the source's ``every_s`` says, or 10
    :raises ValueError: an interval that is not above 0
    """

    def __init__(self, source: Source, every_s: float | None = None) -> None:
        every_s = getattr(source, "every_s", 10.0) if every_s is None else every_s
        self.every_s = check_seconds("every_s", every_s)
        self.source = source
        self.name = source_name(source)
        self.exclude = getattr(source, "exclude", None)
        self._age_key = f"{getattr(source, 'prefix', self.name)}/sample_age_s".lstrip("/")
        self._trouble = Trouble()
        self._lock = threading.Lock()
        self._window = _Window()  # since the last call
        self._latest = _Window()  # of one sample
        self._texts: dict[str, str] = {}  # handed out
        self._sampled_at: float | None = None
        self._asked_at: float | None = None  # while the source has not answered
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to ask; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"source {self.name}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask no more. A question that is open is not waited for."""
        self._stopping.set()

    def __call__(self) -> dict[str, Any]:
        now = time.monotonic()
        self._tell_if_it_hangs(now)
        with self._lock:
            window, self._window = self._window, _Window()
            latest, sampled_at = self._latest, self._sampled_at
        if sampled_at is None or (not window.numbers and now - sampled_at > KEEP_INTERVALS * self.every_s):
            return {}
        new = {key: text for key, text in latest.texts.items() if self._texts.get(key) != text}
        self._texts.update(new)
        numbers = (window if window.numbers else latest).reduced()
        return {**numbers, **new, self._age_key: now - sampled_at}

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            self._asked_at = time.monotonic()
            try:
                self._take(self.source())
            except Exception as error:  # the source is the user's code, or asks the network
                told = f"source {self.name!r} failed: {describe(error)}. Training goes on without it."
                self._trouble.tell("failed", told, error)
            self._asked_at = None
            due = max(due + self.every_s, time.monotonic())
            self._stopping.wait(due - time.monotonic())
        getattr(self.source, "close", dict)()  # ``dict()`` does nothing

    def _take(self, values: Mapping[str, Any]) -> None:
        if not values:
            return
        plain = {to_text(key): to_plain(value) for key, value in values.items()}
        latest = _Window()
        latest.add(plain)
        with self._lock:
            self._window.add(plain)
            self._latest = latest
            self._sampled_at = time.monotonic()

    def _tell_if_it_hangs(self, now: float) -> None:
        asked_at = self._asked_at
        if asked_at is not None and now - asked_at > KEEP_INTERVALS * self.every_s:
            told = f"source {self.name!r} has not answered for {now - asked_at:.0f} s"
            self._trouble.tell("hangs", f"{told}. Training goes on without it.")


class _Window:
    """What several samples come to, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self.numbers: dict[str, list[float]] = {}  # sum, count, least, greatest
        self.texts: dict[str, str] = {}

    def add(self, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if not is_number(value):
                self.texts[key] = to_text(value)
            elif (known := self.numbers.get(key)) is None:
                self.numbers[key] = [value, 1, value, value]
            else:
                known[0] += value
                known[1] += 1
                known[2] = min(known[2], value)
                known[3] = max(known[3], value)

    def reduced(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for key, (total, count, least, greatest) in self.numbers.items():
            if key.endswith("_max"):
                found[key] = greatest
            elif key.endswith("_min"):
                found[key] = least
            else:
                found[key] = total / count
                if key.endswith("util"):
                    found[f"{key}_max"] = greatest
        return found


def source_name(source: Any) -> str:
    """How a source is called in messages."""
    return str(getattr(source, "name", "") or getattr(source, "__name__", "") or type(source).__name__)


def check_seconds(name: str, seconds: Any) -> float:
    """Give a number of seconds above 0.

    :raises ValueError: it is none
    """
    is_number_ = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number_ or not 0 < seconds < threading.TIMEOUT_MAX:
        raise ValueError(f"{name} is a number of seconds above 0, not {seconds!r}")
    return float(seconds)
