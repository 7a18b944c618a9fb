"""Timers: how long named pieces of the code take, under names that say where they are used."""

import asyncio
import functools
import inspect
import sys
import threading
from asyncio import _get_running_loop as running_loop
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from rl_logging.errors import Trouble
from rl_logging.texttable import keep_both_ends, visible
from rl_logging.values import to_text

_NAME_WIDTH = 60
_MANY = 1 << 16  # durations of one place that wait as they are
_Stack = list[Any]  # the asynchronous task, the root; then, of each open block, since when, and its place
Function = TypeVar("Function", bound=Callable[..., Any])


class Timed(NamedTuple):
    """What a timer measured: seconds in all, and in how many uses."""

    seconds: float
    uses: int


class Timers:
    """The timers of one logger."""

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self._root = _Place("time", None)
        self.open: ContextVar[_Stack | None] = ContextVar("timers", default=None)  # in this thread and task
        self._timers: dict[tuple[str, bool], Timer] = {}
        self._since = perf_counter()

    def timer(self, name: str, cuda: bool = False) -> "Timer":
        """What measures under a name; the same object each time, for any number of uses at once."""
        try:
            return self._timers[name, cuda]
        except (KeyError, TypeError):  # a new one, or a name that is no text
            return self._make(name if isinstance(name, str) else to_text(name), cuda)

    def _make(self, name: str, cuda: bool) -> "Timer":
        if cuda and not _has_cuda():
            self._trouble.tell(
                "cuda", f"timer({name!r}, cuda=True): there is no CUDA device; the host is timed"
            )
            cuda = False
        class_ = CudaTimer if cuda else Timer
        return self._timers.setdefault((name, cuda), class_(name, self))

    def own_stack(self, stack: "_Stack | None") -> "_Stack":
        """What is open in this thread and asynchronous task; a new one's lies in what its maker has open."""
        task = asyncio.current_task() if running_loop() is not None else None
        if stack is None or stack[0] is not task:
            stack = [task, self._root if stack is None else stack[-1]]
            self.open.set(stack)
        return stack

    def tell_lost(self, name: str) -> None:
        """Say that a block ended where it had not begun."""
        stack = self.open.get()
        if stack is not None and len(stack) < 2:
            stack[:] = [None, self._root]
        told = f"timer {name!r} ended in another context than it began in; this time is not counted"
        self._trouble.tell(f"timer {name[:100]}", told)

    def take(self) -> dict[str, Timed]:
        """What was measured since the last call, by key. What still runs counts when it ends."""
        places = (place for _, place in self._root.nested())
        return {place.key: timed for place in places if (timed := place.take()).uses}

    def report(self) -> str:
        """Where the time of this process went so far, as a table."""
        wall_s = perf_counter() - self._since
        rows = [("", "seconds", "share", "uses", "mean, s")]
        for depth, place in self._root.nested():
            seconds, count = place.total()
            share, mean = f"{seconds / wall_s:.1%}", f"{seconds / count:.3g}" if count else ""
            name = keep_both_ends(visible(place.name), _NAME_WIDTH)
            rows.append(("  " * depth + name, f"{seconds:.3f}", share, str(count), mean))
        rows.append(("wall time", f"{wall_s:.3f}", "100.0%", "", ""))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(_line(row, widths) for row in rows)


class Timer:
    """Measures a block (``with``, also in asynchronous code) or, as a decorator, each call."""

    __slots__ = ("_get", "_name", "_timers")

    def __init__(self, name: str, timers: Timers) -> None:
        self._name, self._timers = name, timers
        self._get = timers.open.get

    def __enter__(self) -> None:
        stack = self._get()
        if stack is None or running_loop() is not None:
            stack = self._timers.own_stack(stack)
        try:
            place = stack[-1].below[self._name]
        except KeyError:
            place = stack[-1].make(self._name)
        stack.append(perf_counter())
        stack.append(place)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        end = perf_counter()
        try:
            stack: Any = self._get()
            place = stack.pop()
            durations = place.durations
            durations.append(end - stack.pop())  # atomic, unlike a sum: other threads may end one, too
        except (AttributeError, TypeError, IndexError):
            self._timers.tell_lost(self._name)
            return
        if len(durations) > _MANY:
            place.fold()

    def __call__(self, function: Function) -> Function:
        """Measure each call of a function; of an asynchronous one, until its result is there.

        :raises TypeError: a generator, which does its work between the calls
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"timer({self._name!r}) measures calls, and {function.__name__} is a generator; put its work "
                "into blocks, with no yield in them: with logger.timer(…):"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def timed(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return function(*args, **kwargs)

        return timed  # type: ignore[return-value]


class CudaTimer(Timer):
    """Measures what the current CUDA stream does; nothing waits for it.

    Its times are there when the device has got so far, maybe at a later dump.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        stack = self._timers.own_stack(self._get())
        place = stack[-1].make(self._name)
        stack.append(_recorded())
        stack.append(place)

    def __exit__(self, *_: object) -> None:
        stack = self._get()
        if stack is None or len(stack) < 4:
            self._timers.tell_lost(self._name)
            return
        place = stack.pop()
        place.events.append((stack.pop(), _recorded()))


class _Place:
    """A name below others, and what was measured there."""

    __slots__ = ("_before", "_lock", "_taken", "below", "durations", "events", "key", "name")

    def __init__(self, name: str, parent: "_Place | None") -> None:
        self.name = name
        self.key: str = f"{parent.key}/{name}" if parent is not None else name
        self.below: dict[str, _Place] = {}
        self.durations: list[float] = []
        self.events: list[tuple[Any, Any]] = []  # of a device; begin and end
        self._taken = self._before = Timed(0.0, 0)
        self._lock = threading.Lock()

    def make(self, name: str) -> "_Place":
        """The place of that name below this one."""
        return self.below.setdefault(name, _Place(name, self))

    def nested(self, depth: int = 0) -> "Iterator[tuple[int, _Place]]":
        """The places below, each before those below it, and how deep they are."""
        for place in list(self.below.values()):
            yield depth, place
            yield from place.nested(depth + 1)

    def fold(self) -> None:
        """Make one number of the durations; other threads may add some meanwhile."""
        with self._lock:
            ended = [pair for pair in self.events if pair[1].query()]
            for pair in ended:
                self.events.remove(pair)
            self.durations.extend(start.elapsed_time(end) / 1000 for start, end in ended)
            count = len(self.durations)
            self._taken = _sum(self._taken, Timed(sum(self.durations[:count]), count))
            del self.durations[:count]

    def take(self) -> Timed:
        """What was measured since the last call."""
        self.fold()
        with self._lock:
            taken, self._taken = self._taken, Timed(0.0, 0)
            self._before = _sum(self._before, taken)
        return taken

    def total(self) -> Timed:
        """All that was measured."""
        self.fold()
        return _sum(self._before, self._taken)


def _sum(a: Timed, b: Timed) -> Timed:
    return Timed(a.seconds + b.seconds, a.uses + b.uses)


def _has_cuda() -> bool:
    torch = sys.modules.get("torch")  # who has something to time there has imported it
    return torch is not None and bool(torch.cuda.is_available())


def _recorded() -> Any:
    event = sys.modules["torch"].cuda.Event(enable_timing=True)
    event.record()
    return event


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    name, *numbers = row
    cells = [
        name.ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)),
    ]
    return "  ".join(cells).rstrip()
