"""Reading a run back, and comparing what arrived with what its journal holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rl_logging import manifest
from rl_logging.cursor import CursorFile
from rl_logging.deliveries import build
from rl_logging.formats.base import History, Sender
from rl_logging.journal import read
from rl_logging.record import LIFECYCLE, METRICS, RESUMED, Record


@dataclass(frozen=True)
class Comparison:
    """What one output holds, against what the journal says it must hold.

    :param output: the output's name
    :param history: the points that its own reader finds
    :param differences: one line for each key, and each kind, that differs; empty when all is there
    :param contents: how much of each kind but numbers it holds; of trackers only
    :param excluded: how many points of the journal were not for this output
    :param beyond_limits: how many it cannot hold; below 0 where it makes more of other values
    """

    output: str
    history: History
    differences: tuple[str, ...] = ()
    contents: Mapping[str, int] = field(default_factory=dict)
    excluded: int = 0
    beyond_limits: int = 0

    @property
    def points(self) -> int:
        """How many points it holds."""
        return _points(self.history)

    def last(self, key: str) -> float | None:
        """The value that arrived last under a key."""
        points = self.history.get(key)
        return points[-1][1] if points else None


def read_records(folder: str | Path, superseded: bool = False) -> list[Record]:
    """The records in a run folder's journal, in order.

    :param superseded: whether to keep what a resumed run went back behind, as the outputs
        do, which cannot take it back
    :raises OSError: it has none
    :raises JournalError: a line is damaged
    """
    records = list(read(Path(folder) / "journal.jsonl"))
    return records if superseded else _without_superseded(records)


def _without_superseded(records: Sequence[Record]) -> list[Record]:
    """Where a resumed run begins below the last step before, what lay from there on is left out."""
    kept: list[Record] = []
    last_step, is_resumed = None, False
    for record in records:
        if record.kind == LIFECYCLE and record.values.get("event") == RESUMED:
            is_resumed = True
        elif record.kind == METRICS and not record.axis:
            if is_resumed and last_step is not None and record.step <= last_step:
                kept = [old for old in kept if not _is_superseded(old, record)]
            last_step, is_resumed = record.step, False
        kept.append(record)
    return kept


def _is_superseded(old: Record, first: Record) -> bool:
    """Whether a record lies beyond the first one of a resumed run; at its step, only one of the same keys."""
    if old.kind != METRICS or old.axis or old.step != first.step:
        return old.kind == METRICS and not old.axis and old.step > first.step
    return not old.values.keys().isdisjoint(first.values)


def trackers(folder: str | Path) -> list[Sender]:
    """The trackers that a run was delivered to, ready to be read back or compared.

    :raises ValueError: ``outputs.json`` is damaged
    :raises MissingBackendError: a tracker's package is not installed
    """
    found = []
    for entry in (entry for entry in manifest.load(folder) if entry.kind != "media"):
        output = build(entry)
        cursor = CursorFile(folder, entry.name).load()
        output.located = cursor.run if cursor else {}
        found.append(output)
    return found


def journal_history(records: Sequence[Record]) -> History:
    """The numbers in the records, under their own names."""
    return Sender(name="journal").expected(records)


def compare(output: Sender, records: Sequence[Record]) -> Comparison:
    """Compare an output, point by point, with what the records say that it must hold.

    What it must hold leaves out what is excluded there and keeps the output's limits.

    :param output: an output that was closed
    :param records: all, also those that a resumed run superseded
    """
    found, expected = output.history(), output.expected(records)
    keys = [*expected, *(key for key in found if key not in expected)]
    lines = [_difference(key, expected.get(key, []), found.get(key, [])) for key in keys]
    contents = output.contents() if output.remote else {}
    meant_contents = output.expected_contents(records) if output.remote else {}
    lines += [
        f"{kind}: {contents.get(kind, 0)} of {meant_contents.get(kind, 0)}"
        for kind in dict.fromkeys([*meant_contents, *contents])
        if contents.get(kind, 0) != meant_contents.get(kind, 0)
    ]
    meant = _points(journal_history([record.without(output.name) for record in records]))
    return Comparison(
        output.name,
        found,
        tuple(line for line in lines if line),
        contents,
        excluded=_points(journal_history(records)) - meant,
        beyond_limits=meant - _points(expected),
    )


def _points(history: History) -> int:
    return sum(map(len, history.values()))


def _difference(key: str, expected: list[tuple[int, float]], found: list[tuple[int, float]]) -> str | None:
    for index, point in enumerate(expected):
        if index >= len(found):
            return f"{key}: {len(expected) - len(found)} of {len(expected)} points are missing"
        if not _same(point, found[index]):
            return f"{key}: point {index + 1} is {found[index]}, not {point}"
    extra = len(found) - len(expected)
    return f"{key}: {extra} points too many" if extra else None


def _same(one: tuple[int, float], other: tuple[int, float]) -> bool:
    both_nan = one[1] != one[1] and other[1] != other[1]
    return one[0] == other[0] and (one[1] == other[1] or both_nan)
