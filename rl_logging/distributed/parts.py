"""Part: what one rank has since its last dump; merge: what several ranks have together. All is pure."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rl_logging.distributed.reductions import State, headline, merged, results

_RANKS = 4  # of those that recorded a key, so many are named


class Extremes(NamedTuple):
    """The ranks with the least and the greatest value of a key."""

    least: float
    least_rank: int
    greatest: float
    greatest_rank: int


@dataclasses.dataclass(frozen=True)
class Part:
    """What ranks have since their last dump; small, and can be pickled.

    :param ranks: whose it is
    :param dump: the number of the dump, from 0
    :param states: by key and reduction
    :param excluded: outputs by key
    :param extremes: of the keys for which they are asked
    :param recorded_by: the lowest ranks that recorded a key by a reduction, four at most
    """

    ranks: frozenset[int] = frozenset()
    dump: int = 0
    states: Mapping[tuple[str, str], State] = dataclasses.field(default_factory=dict)
    excluded: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    extremes: Mapping[str, Extremes] = dataclasses.field(default_factory=dict)
    recorded_by: Mapping[tuple[str, str], tuple[int, ...]] = dataclasses.field(default_factory=dict)


class Reduced(NamedTuple):
    """A part as values for a record.

    :param told: what to tell the user, by topic
    """

    values: dict[str, Any]
    excluded: dict[str, tuple[str, ...]]
    told: dict[str, str]


def part_of(
    rank: int,
    dump: int,
    states: Mapping[tuple[str, str], State],
    excluded: Mapping[str, tuple[str, ...]],
    compared: Iterable[str] = (),
) -> Part:
    """The part of one rank.

    :param compared: keys of which the ranks with the extremes shall be known
    """
    wanted = set(compared)
    extremes = {
        key: Extremes(value, rank, value, rank)
        for (key, kind), state in states.items()
        if key in wanted and not math.isnan(value := headline(kind, state))
    }
    return Part(
        frozenset([rank]), dump, dict(states), dict(excluded), extremes, dict.fromkeys(states, (rank,))
    )


def merge(parts: Iterable[Part]) -> Part:
    """Several parts as one; their keys and reductions may differ.

    The order of the parts does not matter, nor how they are grouped.
    """
    whole = Part()
    for part in parts:
        whole = _merge(whole, part) if whole.ranks else part
    return whole


def _merge(a: Part, b: Part) -> Part:
    states, recorded_by, extremes = dict(a.states), dict(a.recorded_by), dict(a.extremes)
    for place, state in b.states.items():
        states[place] = merged(place[1], states[place], state) if place in states else state
        ranks = {*recorded_by.get(place, ()), *b.recorded_by.get(place, ())}
        recorded_by[place] = tuple(sorted(ranks)[:_RANKS])
    for key, found in b.extremes.items():
        extremes[key] = _further(extremes[key], found) if key in extremes else found
    excluded = {
        key: _union(a.excluded.get(key, ()), b.excluded.get(key, ())) for key in {**a.excluded, **b.excluded}
    }
    return Part(a.ranks | b.ranks, max(a.dump, b.dump), states, excluded, extremes, recorded_by)


def _further(a: Extremes, b: Extremes) -> Extremes:
    least = min((a.least, a.least_rank), (b.least, b.least_rank))
    greatest = min((-a.greatest, a.greatest_rank), (-b.greatest, b.greatest_rank))
    return Extremes(*least, -greatest[0], greatest[1])


def _union(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*a, *b}))


def reduced(part: Part) -> Reduced:
    """The values of a part.

    A key with two reductions gets a name for each, such as ``loss (mean)`` and ``loss (max)``.
    """
    kinds: dict[str, list[str]] = {}
    for key, kind in part.states:
        kinds.setdefault(key, []).append(kind)
    values: dict[str, Any] = {}
    excluded: dict[str, tuple[str, ...]] = {}
    told: dict[str, str] = {}
    for (key, kind), state in part.states.items():
        name = key if len(kinds[key]) == 1 else f"{key} ({kind})"
        for end, value in results(kind, state).items():
            values[f"{name}{end}"] = value
            if key in part.excluded:
                excluded[f"{name}{end}"] = part.excluded[key]
    for key, found in kinds.items():
        if len(found) > 1:
            told[f"reductions {key}"] = _told(key, found, part)
    for key, extremes in part.extremes.items():
        values.update(_compared(key, extremes, "time" in kinds.get(key, ())))
    return Reduced(values, excluded, told)


def _told(key: str, kinds: list[str], part: Part) -> str:
    ending = f"each is logged under a name, as '{key} ({kinds[0]})'"
    if len(part.ranks) == 1:
        return f"{key!r} was recorded in several ways ({', '.join(sorted(kinds))}): {ending}"
    who = {kind: ", ".join(map(str, part.recorded_by[key, kind])) for kind in sorted(kinds)}
    ways = "; ".join(f"{kind} on rank {ranks}" for kind, ranks in who.items())
    return f"{key!r} was recorded in several ways ({ways}): {ending}"


def _compared(key: str, extremes: Extremes, is_time: bool) -> dict[str, Any]:
    least, greatest = ("fastest", "slowest") if is_time else ("lowest", "highest")
    return {
        f"{key}@{greatest}_rank": extremes.greatest_rank,
        f"{key}@{least}_rank": extremes.least_rank,
        f"{key}@spread": extremes.greatest - extremes.least,
    }
