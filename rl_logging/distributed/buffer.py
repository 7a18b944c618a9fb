"""Buffer: what one process recorded by reductions since its last dump."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from rl_logging.distributed.reductions import State
from rl_logging.distributed.stats import Stats, stats_of, together
from rl_logging.tensors import fetched, is_tensor, joined

States = dict[tuple[str, str], State]
"""States by key and reduction."""

_PENDING = 1 << 16  # numbers of one key that wait for the dump as they were given


class Buffer:
    """Keeps what reductions have seen. Numbers on a device stay there until :meth:`take`.

    :param clock: seconds that only grow, for rates
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self.interval_s = 0.0
        """How long it was from the call of :meth:`take` before the last one to the last one."""
        self._numbers: dict[tuple[str, str, int], Any] = {}  # by key, reduction, and place in its state
        self._pending: dict[str, list[Any]] = {}  # arrays, by key
        self._stats: dict[str, Stats] = {}
        self._windows: dict[str, deque[Any]] = {}
        self._averages: dict[str, tuple[Any, float]] = {}  # each with the weight of all its values
        self._new: set[tuple[str, str]] = set()  # windows and averages with a value since the last dump

    def sum(self, key: str, value: Any) -> None:
        self._add(key, "sum", 0, number(value))

    def rate(self, key: str, amount: Any) -> None:
        self._add(key, "rate", 0, number(amount))

    def mean(self, key: str, value: Any, weight: float = 1.0) -> None:
        weight = valid_weight(weight)
        if not weight:  # it counts for nothing, even if the value is NaN
            return
        self._add(key, "mean", 0, number(value) * weight)
        self._add(key, "mean", 1, weight)

    def time(self, key: str, seconds: float, count: int = 1) -> None:
        self._add(key, "time", 0, seconds)
        self._add(key, "time", 1, count)

    def last(self, key: str, value: Any) -> None:
        self._numbers[key, "last", 0] = value

    def min(self, key: str, value: Any) -> None:
        self._pick(key, "min", number(value))

    def max(self, key: str, value: Any) -> None:
        self._pick(key, "max", number(value))

    def window(self, key: str, value: Any, size: int) -> None:
        known = self._windows.get(key)
        if known is None or known.maxlen != size:
            known = self._windows[key] = deque(known or (), maxlen=size)
        known.append(number(value))
        self._new.add((key, "window"))

    def ema(self, key: str, value: Any, coefficient: float) -> None:
        average, weight = self._averages.get(key, (0.0, 0.0))
        stays = 1.0 - coefficient
        self._averages[key] = stays * average + coefficient * number(value), stays * weight + coefficient
        self._new.add((key, "ema"))

    def stats(self, key: str, values: Any) -> None:
        if values is None:
            raise TypeError("numbers are wanted, not None")
        taken = values.detach().clone() if is_tensor(values) else np.array(values, dtype=np.float64)
        waiting = self._pending.setdefault(key, [])
        waiting.append(taken.reshape(-1))
        if len(waiting) > _PENDING or sum(len(each) for each in waiting[-2:]) > _PENDING:
            self._fold(key)

    def take(self) -> States:
        """What was recorded since the last call; windows and averages go on."""
        now = self._clock()
        self.interval_s, self._since = now - self._since, now
        if not (self._numbers or self._pending or self._stats or self._new):
            return {}
        numbers, self._numbers = fetched(self._numbers), {}
        states: States = {}
        for (key, kind, place), value in numbers.items():
            states[key, kind] = (*states.get((key, kind), ()), value) if place else (value,)
        for (key, kind), state in states.items():
            if kind == "rate":
                states[key, kind] = (*state, self.interval_s)
            elif kind == "time":
                states[key, kind] = (state[0], *state)
        for key in list(self._pending):
            self._fold(key)
        states.update({(key, "stats"): stats for key, stats in self._stats.items()})
        self._stats = {}
        states.update(self._going_on())
        return states

    def _going_on(self) -> States:
        """The states of windows and averages that have something new."""
        states: States = {}
        for key, kind in sorted(self._new):
            if kind == "window":
                known = list(fetched(dict(enumerate(self._windows[key]))).values())
                self._windows[key] = deque(known, maxlen=self._windows[key].maxlen)
                states[key, kind] = (float(sum(known)), len(known))
            else:
                average, weight = self._averages[key]
                average = fetched({0: average})[0]
                self._averages[key] = average, weight
                states[key, kind] = (average, weight)
        self._new.clear()
        return states

    def _add(self, key: str, kind: str, place: int, value: Any) -> None:
        where = key, kind, place
        self._numbers[where] = self._numbers[where] + value if where in self._numbers else value

    def _pick(self, key: str, kind: str, value: Any) -> None:
        where = key, kind, 0
        known = self._numbers.get(where)
        self._numbers[where] = value if known is None else _picked(kind, known, value)

    def _fold(self, key: str) -> None:
        stats = stats_of(joined(self._pending.pop(key)))
        self._stats[key] = together([self._stats[key], stats]) if key in self._stats else stats

    # For a checkpoint

    def state_dict(self) -> dict[str, Any]:
        """Windows, averages, and the time since the last dump, in plain values."""
        return {
            "elapsed_s": self._clock() - self._since,
            "windows": {
                key: [known.maxlen, list(fetched(dict(enumerate(known))).values())]
                for key, known in self._windows.items()
            },
            "averages": {
                key: [fetched({0: value})[0], weight] for key, (value, weight) in self._averages.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        windows = {key: deque(known, maxlen=size) for key, (size, known) in state["windows"].items()}
        averages = {key: (value, weight) for key, (value, weight) in state["averages"].items()}
        self._since = self._clock() - state["elapsed_s"]
        self._windows, self._averages = windows, averages


def valid_weight(weight: Any) -> float:
    """A weight as Python's number, whatever library's it is.

    :raises TypeError: it is no number
    :raises ValueError: it is below 0, NaN or infinite
    """
    plain = number(weight)
    plain = plain.item() if is_tensor(plain) else plain
    if not 0 <= plain < math.inf:
        raise ValueError(f"a weight is a number from 0 on, not {plain!r}")
    return plain  # type: ignore[no-any-return]


def number(value: Any) -> Any:
    """One number: a float, or a tensor of one element that is on a device.

    :raises TypeError: it is none, or several
    :raises ValueError: it is a text that is none
    """
    if type(value) in (float, int):
        return value
    if is_tensor(value):
        if value.numel() != 1:
            raise TypeError(f"one number is wanted, not a tensor of the shape {tuple(value.shape)}")
        value = value.detach().reshape(())
        return value.item() if value.device.type == "cpu" else value
    if isinstance(value, str):
        raise TypeError(f"a number is wanted, not the text {value!r}")
    if isinstance(value, np.ndarray) and value.size == 1:
        return float(value.reshape(()))
    return float(value)


def _picked(kind: str, known: Any, value: Any) -> Any:
    """The lesser or greater of two; NaN, if one is NaN."""
    if is_tensor(known) or is_tensor(value):
        import torch

        device = known.device if is_tensor(known) else value.device
        pick = torch.minimum if kind == "min" else torch.maximum
        return pick(torch.as_tensor(known, device=device), torch.as_tensor(value, device=device))
    if known != known or value != value:
        return float("nan")
    return min(known, value) if kind == "min" else max(known, value)
