"""Reductions: how the values of one key become one, on one rank and across ranks. All is pure.

A state is what has been seen, in a few numbers. Merging states is associative and commutative,
but for the last bits of a sum.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

State = Any
"""A tuple of numbers, or :class:`Stats`."""


class Reduction(NamedTuple):
    """One way to reduce.

    :param merge: the states of two ranks as one
    :param results: a state's values, by what is appended to the key
    :param follow: two states of one rank, the later one second, as one; by default as ``merge``
    """

    merge: Callable[[State, State], State]
    results: Callable[[State], dict[str, Any]]
    follow: Callable[[State, State], State] | None = None


def _sums(a: State, b: State) -> State:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _mean(state: State) -> dict[str, Any]:
    total, weight = state
    return {"": total / weight} if weight else {}


def _rate(state: State) -> dict[str, Any]:
    amount, seconds = state
    return {"": amount / seconds} if seconds > 0 else {}


def _time(state: State) -> dict[str, Any]:
    longest, total, count = state
    return {"": longest, "_count": count, "_mean": total / count} if count else {}


def _first_rank_last_time(a: State, b: State) -> State:
    (rank_a, time_a, _), (rank_b, time_b, _) = a, b
    return a if (rank_a, -time_a) <= (rank_b, -time_b) else b


def _later(a: State, b: State) -> State:
    return b


def _extreme(pick: Callable[[Any, Any], Any]) -> Callable[[State, State], State]:
    """NaN stays NaN, as in numpy: it says that something is wrong."""
    return lambda a, b: (float(pick(a[0], b[0])),)


REDUCTIONS = {
    # (rank, when, value): of the lowest rank that has one, the latest
    "last": Reduction(_first_rank_last_time, lambda state: {"": state[2]}, _later),
    # (total of value times weight, total weight)
    "mean": Reduction(_sums, _mean),
    "window": Reduction(_sums, _mean, _later),  # its state has what came before
    "ema": Reduction(_sums, _mean, _later),
    "sum": Reduction(_sums, lambda state: {"": state[0]}),
    "min": Reduction(_extreme(np.minimum), lambda state: {"": float(state[0])}),
    "max": Reduction(_extreme(np.maximum), lambda state: {"": float(state[0])}),
    # (amount, seconds): the ranks' amounts in the time of the slowest
    "rate": Reduction(lambda a, b: (a[0] + b[0], max(a[1], b[1])), _rate, _sums),
    # (seconds of the slowest rank, of all ranks, how often)
    "time": Reduction(lambda a, b: (max(a[0], b[0]), a[1] + b[1], a[2] + b[2]), _time, _sums),
    "stats": Reduction(
        lambda a, b: a.merge(b), lambda state: {f"_{k}": v for k, v in state.results().items()}
    ),
}


def merged(kind: str, a: State, b: State) -> State:
    """Two states of one kind, of different ranks, as one."""
    return REDUCTIONS[kind].merge(a, b)


def followed(kind: str, a: State, b: State) -> State:
    """Two states of one kind, of the same rank, as one; ``b`` came after ``a``."""
    reduction = REDUCTIONS[kind]
    return (reduction.follow or reduction.merge)(a, b)


def results(kind: str, state: State) -> dict[str, Any]:
    """The values of a state, by what is appended to the key; none where nothing was seen."""
    return REDUCTIONS[kind].results(state)


def headline(kind: str, state: State) -> float:
    """The number by which ranks are compared; NaN where there is none."""
    found = results(kind, state)
    value = found.get("", found.get("_mean"))
    return float(value) if isinstance(value, (int, float)) else math.nan
