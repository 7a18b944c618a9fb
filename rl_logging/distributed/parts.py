"""Part: what one rank has since its last dump; merge: what several ranks have together. All is pure."""

import dataclasses
import fnmatch
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rl_logging.distributed import reductions
from rl_logging.distributed.reductions import State, headline, results

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
    :param recorded_by: of several ranks, the lowest that recorded a key by a reduction, four at most
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

    :param states: as :meth:`Buffer.take` gives them
    :param compared: keys of which the ranks with the extremes shall be known; ``*`` is any text
    """
    now = time.time()
    own = {place: (rank, now, *state) if place[1] == "last" else state for place, state in states.items()}
    return Part(frozenset([rank]), dump, own, dict(excluded), _extremes(rank, own, list(compared)))


def _extremes(rank: int, states: Mapping[tuple[str, str], State], compared: list[str]) -> dict[str, Extremes]:
    return {
        key: Extremes(value, rank, value, rank)
        for (key, kind), state in states.items()
        if any(fnmatch.fnmatchcase(key, pattern) for pattern in compared)
        and not math.isnan(value := headline(kind, state))
    }


def as_one_rank(part: Part, rank: int, dump: int, compared: Iterable[str] = ()) -> Part:
    """What several workers of a rank have together, as that rank's."""
    states = {
        place: (rank, *state[1:]) if place[1] == "last" else state for place, state in part.states.items()
    }
    extremes = _extremes(rank, states, list(compared))
    return Part(frozenset([rank]), dump, states, part.excluded, extremes)


def of_worker(part: Part, seconds: float, compared: Iterable[str] = ()) -> Part:
    """A worker's part, as that of a logger takes it.

    :param seconds: the logger's last dump is so old: what the worker has of rates is taken as
        that of so long, or longer
    :param compared: keys of which the workers with the extremes shall be known
    """
    states = {
        place: (state[0], max(state[1], seconds)) if place[1] == "rate" else state
        for place, state in part.states.items()
    }
    extremes = {**part.extremes, **_extremes(min(part.ranks), states, list(compared))}
    return dataclasses.replace(part, states=states, extremes=extremes)


def follow(a: Part, b: Part) -> Part:
    """Two parts of one rank as one; ``b`` came after ``a``."""
    whole = _joined([a, b], reductions.followed)
    (rank,) = whole.ranks
    return dataclasses.replace(whole, extremes=_extremes(rank, whole.states, [*a.extremes, *b.extremes]))


def merge(parts: Iterable[Part]) -> Part:
    """Several parts as one; their keys and reductions may differ.

    The order of the parts does not matter, nor how they are grouped.
    """
    some = [part for part in parts if part.ranks]
    if len(some) < 2:
        return some[0] if some else Part()
    return _joined(some, reductions.merged)


def _joined(parts: Sequence[Part], join: Callable[[str, Sequence[State]], State]) -> Part:
    states: dict[tuple[str, str], list[State]] = defaultdict(list)
    recorded_by: dict[tuple[str, str], set[int]] = defaultdict(set)
    for places, alike in _by_places(parts).items():
        ranks = sorted(rank for part in alike if len(part.ranks) == 1 for rank in part.ranks)[:_RANKS]
        merged_ones = [part for part in alike if len(part.ranks) > 1]
        for place, column in zip(
            places, zip(*(part.states.values() for part in alike), strict=True), strict=True
        ):
            states[place].extend(column)
            recorded_by[place].update(ranks, *(part.recorded_by[place] for part in merged_ones))
    extremes: dict[str, Extremes] = {}
    excluded: dict[str, tuple[str, ...]] = {}
    for part in parts:
        for key, ends in part.extremes.items():
            extremes[key] = _further(extremes[key], ends) if key in extremes else ends
        for key, outputs in part.excluded.items():
            excluded[key] = tuple(sorted({*excluded.get(key, ()), *outputs}))
    return Part(
        frozenset().union(*(part.ranks for part in parts)),
        max(part.dump for part in parts),
        {place: join(place[1], several) for place, several in states.items()},
        excluded,
        extremes,
        {place: tuple(sorted(ranks)[:_RANKS]) for place, ranks in recorded_by.items()},
    )


def _by_places(parts: Iterable[Part]) -> dict[tuple[tuple[str, str], ...], list[Part]]:
    """Parts by what they have. Nearly always all have the same, and one loop over a thousand is enough."""
    found = defaultdict(list)
    for part in parts:
        found[tuple(part.states)].append(part)
    return found


def _further(a: Extremes, b: Extremes) -> Extremes:
    least = min((a.least, a.least_rank), (b.least, b.least_rank))
    greatest = min((-a.greatest, a.greatest_rank), (-b.greatest, b.greatest_rank))
    return Extremes(*least, -greatest[0], greatest[1])


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
        if any(len(part.recorded_by.get((key, kind), ())) > 1 for kind in kinds.get(key, ())):
            values.update(_compared(key, extremes, "time" in kinds[key]))
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
