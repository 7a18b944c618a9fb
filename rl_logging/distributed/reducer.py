"""Reducer: what brings the parts of all ranks to rank 0."""

from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from rl_logging.distributed.parts import Part

TIMEOUT_S = 10.0
ON_MISSING = ("partial", "raise")
KEPT_DUMPS = 16  # of a rank that is ahead; so many of its parts wait


class Gathered(NamedTuple):
    """What rank 0 has for a dump.

    :param part: of all ranks that sent one
    :param missing: the ranks that did not
    :param told: what to tell the user, by topic
    """

    part: Part
    missing: tuple[int, ...] = ()
    told: Mapping[str, str] = {}


@runtime_checkable
class Reducer(Protocol):
    """Brings the parts of all ranks to rank 0, whose logger writes them.

    ``rank`` is this process's, ``ranks`` how many there are; ``on_missing`` says what a dump
    does without some: go on (``"partial"``), or write what came and raise
    :class:`rl_logging.MissingRanksError` (``"raise"``). Rank 0 waits ``timeout_s`` for them.
    """

    rank: int
    ranks: int
    on_missing: str
    timeout_s: float

    def gather(self, part: Part) -> Gathered | None:
        """Send this rank's part; on rank 0, give what all sent for the dump of that number."""

    def close(self) -> None:
        """Send no more."""


class Absent:
    """The ranks above 0 that were missing at a dump, and have not caught up yet.

    :param ranks: how many ranks there are
    """

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._since: dict[int, int] = {}  # the first dump that a rank lacks

    def __contains__(self, rank: int) -> bool:
        return rank in self._since

    def waited(self) -> list[int]:
        """The ranks that a dump waits for; who was missing is not waited for again."""
        return [rank for rank in range(1, self._ranks) if rank not in self._since]

    def gathered(self, dump: int, part: Part, there: Collection[int]) -> Gathered:
        """What rank 0 has for a dump.

        :param there: the ranks above 0 whose parts are in it
        """
        missing = tuple(rank for rank in range(1, self._ranks) if rank not in there)
        for rank in missing:
            self._since.setdefault(rank, dump)
        back = sorted(self._since.keys() & set(there))
        told = {f"rank {rank} back": _told_back(rank, dump - self._since.pop(rank)) for rank in back}
        return Gathered(part, missing, told)


def _told_back(rank: int, dumps: int) -> str:
    lacked = "one dump" if dumps == 1 else f"{dumps} dumps"
    return f"rank {rank} is back; what it recorded for {lacked} came too late, and is left out"


def check_reducer(rank: int, ranks: int, timeout_s: float, on_missing: str) -> None:
    """Raise for arguments that are not allowed.

    :raises ValueError: it names the argument and what is allowed
    """
    whole = isinstance(rank, int) and isinstance(ranks, int)
    if not whole or not 0 <= rank < ranks:
        raise ValueError(f"rank={rank!r} is not one of {ranks!r} ranks, which count from 0")
    if not isinstance(timeout_s, (int, float)) or not 0 < timeout_s < 1e6:
        raise ValueError(f"timeout_s is a number of seconds above 0, not {timeout_s!r}")
    if on_missing not in ON_MISSING:
        raise ValueError(f"on_missing is 'partial' or 'raise', not {on_missing!r}")
