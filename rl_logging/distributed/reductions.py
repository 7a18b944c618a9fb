"""Reductions: how the values of one key become one, on one rank and across ranks. All is pure.

A state is what has been seen, in a few numbers. Merging states is associative and commutative,
but for the last bits of a sum.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_logging.distributed.stats import together

State = Any
"""A tuple of numbers, or :class:`Stats`."""


class Reduction(NamedTuple):
    """One way to reduce.

    :param merge: the states of several ranks as one
    :param results: a state's values, by what is appended to the key
    :param follow: states of one rank, in the order of time, as one; by default as ``merge``
    """

    merge: Callable[[Sequence[State]], State]
    results: Callable[[State], dict[str, Any]]
    follow: Callable[[Sequence[State]], State] | None = None


def _sums(states: Sequence[State]) -> State:
    return tuple(map(sum, zip(*states, strict=True)))


def _mean(state: State) -> dict[str, Any]:
    total, weight = state
    return {"": total / weight} if weight else {}


def _rates(states: Sequence[State]) -> State:
    amounts, seconds = zip(*states, strict=True)
    return sum(amounts), max(seconds)


def _rate(state: State) -> dict[str, Any]:
    amount, seconds = state
    return {"": amount / seconds} if seconds > 0 else {}


def _times(states: Sequence[State]) -> State:
    longest, totals, counts = zip(*states, strict=True)
    return max(longest), sum(totals), sum(counts)


def _time(state: State) -> dict[str, Any]:
    longest, total, count = state
    return {"": longest, "_count": count, "_mean": total / count} if count else {}


def _first_rank_last_time(states: Sequence[State]) -> State:
    return min(states, key=lambda state: (state[0], -state[1]))


def _latest(states: Sequence[State]) -> State:
    return states[-1]


def _least(states: Sequence[State]) -> State:
    """NaN stays NaN, as in numpy: it says that something is wrong."""
    return (float(np.min(states)),)


def _greatest(states: Sequence[State]) -> State:
    return (float(np.max(states)),)


REDUCTIONS = {
    # (rank, when, value): of the lowest rank that has one, the latest
    "last": Reduction(_first_rank_last_time, lambda state: {"": state[2]}, _latest),
    # (total of value times weight, total weight)
    "mean": Reduction(_sums, _mean),
    "window": Reduction(_sums, _mean, _latest),  # its state has what came before
    "ema": Reduction(_sums, _mean, _latest),
    "sum": Reduction(_sums, lambda state: {"": state[0]}),
    "min": Reduction(_least, lambda state: {"": float(state[0])}),
    "max": Reduction(_greatest, lambda state: {"": float(state[0])}),
    # (amount, seconds): the ranks' amounts in the time of the slowest
    "rate": Reduction(_rates, _rate, _sums),
    # (seconds of the slowest rank, of all ranks, how often)
    "time": Reduction(_times, _time, _sums),
    "stats": Reduction(together, lambda state: {f"_{k}": v for k, v in state.results().items()}),
}


def merged(kind: str, states: Sequence[State]) -> State:
    """The states of one kind, of different ranks, as one."""
    return REDUCTIONS[kind].merge(states) if len(states) > 1 else states[0]


def followed(kind: str, states: Sequence[State]) -> State:
    """States of one kind, of one rank, in the order of time, as one."""
    reduction = REDUCTIONS[kind]
    return (reduction.follow or reduction.merge)(states) if len(states) > 1 else states[0]


def results(kind: str, state: State) -> dict[str, Any]:
    """The values of a state, by what is appended to the key; none where nothing was seen."""
    return REDUCTIONS[kind].results(state)


def headline(kind: str, state: State) -> float:
    """The number by which ranks are compared; NaN where there is none."""
    found = results(kind, state)
    value = found.get("", found.get("_mean"))
    return float(value) if isinstance(value, (int, float)) else math.nan
