"""Sampled: a source that runs on a thread of its own, so that no dump waits for it."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rl_logging.errors import Trouble
from rl_logging.values import describe, is_number, to_plain, to_text

Source = Callable[[], Mapping[str, Any]]
"""What is asked for metrics at each dump: a callable that gives values by key."""

_FIRST_S = 0.3
KEEP_INTERVALS = 3  # so long the latest value stands for what does not come


class Sampled:
    """Ask a source on a thread of its own; a call gives what came since the last one.

    A number is the mean of its samples; its maximum or minimum where its name ends so
    (``_max``, ``_min``). Utilisation, a name that ends with ``util``, has its maximum too,
    under ``…util_max``. A text comes when it is new. ``sample_age_s`` says how old the
    newest sample is. Where none came, the latest is repeated until it is three intervals old.

    :param source: what is asked; a ``close()`` of its own is called in the end, in that thread
    :param every_s: how often, in seconds; by default what the source's ``every_s`` says, or 10
    :param prefix: stands before ``sample_age_s``; by default the source's own ``prefix``, or what
        its first key begins with
    :raises TypeError: the source cannot be called
    :raises ValueError: an interval that is not above 0
    """

    def __init__(self, source: Source, every_s: float | None = None, prefix: str | None = None) -> None:
        check_callable(source)
        every_s = getattr(source, "every_s", 10.0) if every_s is None else every_s
        self.every_s = check_seconds("every_s", every_s)
        self.source = source
        self.name = source_name(source)
        self.exclude = getattr(source, "exclude", None)
        self._prefix: str | None = getattr(source, "prefix", None) if prefix is None else prefix
        self._trouble = Trouble()
        self._lock = threading.Lock()
        self._window = _Window()  # since the last call
        self._latest = _Window()  # of one sample
        self._texts: dict[str, str] = {}  # handed out
        self._sampled_at: float | None = None
        self._asked_at: float | None = None  # while the source has not answered
        self._answered = threading.Event()  # or failed, at least once
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to ask; a second call does nothing.

        It waits for the first answer, 0.3 s at most, so that the first dump has it.
        """
        if self._thread is None:
            self._stopping = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._stopping,), name=f"source {self.name}", daemon=True
            )
            self._thread.start()
            self._answered.wait(_FIRST_S)

    def stop(self) -> None:
        """Ask no more. A question that is open is not waited for."""
        self._stopping.set()
        self._thread = None

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
        return {**numbers, **new, f"{self._age_prefix(numbers)}/sample_age_s".lstrip("/"): now - sampled_at}

    def _age_prefix(self, numbers: Mapping[str, float]) -> str:
        if self._prefix is not None:
            return self._prefix
        return next(iter(numbers), "").rpartition("/")[0] or (self.name if self.name.isidentifier() else "")

    def _run(self, stopping: threading.Event) -> None:
        due = time.monotonic()
        while not stopping.is_set():
            self._asked_at = time.monotonic()
            try:
                self._take(self.source())
            except (Exception, SystemExit) as error:  # the source is the user's code, or asks the network
                told = f"source {self.name!r} failed: {describe(error)}. Training goes on; it is asked again."
                self._trouble.tell("failed", told, error)
            self._asked_at = None
            self._answered.set()
            due = max(due + self.every_s, time.monotonic())
            stopping.wait(due - time.monotonic())
        close(self.source, self._trouble)

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
            self._trouble.tell("hangs", f"{told}. Training goes on.")


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


def close(source: Any, trouble: Trouble) -> None:
    """Close a source that can be closed."""
    try:
        getattr(source, "close", dict)()  # ``dict()`` does nothing
    except Exception as error:  # the user's code
        trouble.tell("close", f"source {source_name(source)!r} cannot be closed: {describe(error)}", error)


def source_name(source: Any) -> str:
    """How a source is called in messages; a function without a name by its place."""
    name = str(getattr(source, "name", "") or getattr(source, "__name__", "") or type(source).__name__)
    code = getattr(source, "__code__", None)
    return (
        f"{name} ({Path(code.co_filename).name}:{code.co_firstlineno})"
        if name == "<lambda>" and code
        else name
    )


def check_callable(source: Any) -> None:
    """Raise for what is no source.

    :raises TypeError: it cannot be called, or is a class
    """
    if isinstance(source, type):
        raise TypeError(
            f"a source is a callable that gives metrics by name; did you mean {source.__name__}()?"
        )
    if not callable(source):
        raise TypeError(f"a source is a callable that gives metrics by name, not {source!r}")


def check_seconds(name: str, seconds: Any) -> float:
    """Give a number of seconds above 0.

    :raises ValueError: it is none
    """
    is_number_ = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number_ or not 0 < seconds < threading.TIMEOUT_MAX:
        raise ValueError(f"{name} is a number of seconds above 0, not {seconds!r}")
    return float(seconds)
