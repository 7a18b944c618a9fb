"""What an output has not been given yet, read from the journal as it grows."""

from collections import deque
from pathlib import Path

from rl_logging.errors import JournalError, Trouble
from rl_logging.journal_reader import Reader
from rl_logging.manifest import Entry
from rl_logging.record import CLOSED, LIFECYCLE, RESUMED, Record

_BATCH_VALUES = 1000  # MLflow's limit a request; after as many, the cursor is saved

Batch = list[tuple[Record, int]]
"""Records, each with the journal's offset after it."""


class Backlog:
    """The records from a place in the journal on, a batch at a time.

    :param folder: the run folder
    :param session: when the logger that is served was made, in milliseconds; what a later
        one writes is not for this backlog
    :raises OSError: there is no journal
    """

    def __init__(self, folder: Path, session: float) -> None:
        self.is_superseded = False  # the run goes on with a later logger
        self._session = session
        self._trouble = Trouble()
        self._reader = Reader(folder / "journal.jsonl", on_damage=self._tell_damage)
        self._read: deque[tuple[Record, int]] = deque()

    def rewind(self, offset: int) -> None:
        """Go on from a place in the journal, in bytes."""
        self._reader.offset = offset
        self._read.clear()

    def close(self) -> None:
        self._reader.close()

    def next_batch(self, entry: Entry) -> Batch:
        """Records of a thousand values together, or one that has more.

        The journal's last word, that the run was closed, is left for the end.

        :raises OSError: the journal cannot be read
        """
        while sum(len(record.values) for record, _ in self._read) < _BATCH_VALUES:
            more = self._reader.read()
            if not more:
                break
            self._read.extend(more)
        batch: Batch = []
        values = 0
        for record, offset in self._read:
            values += len(record.values)
            if (batch and values > _BATCH_VALUES) or self._is_past_end(record, entry):
                break
            batch.append((record, offset))
        if batch and _is_closing(batch[-1][0]) and len(batch) == len(self._read):
            batch.pop()
        return batch

    def took(self, batch: Batch) -> None:
        """Say that these, the next records, were handed over."""
        for _ in batch:
            self._read.popleft()

    def ending(self) -> tuple[str, Batch] | None:
        """How the run ended, with the journal's last word; None where more may come, or nothing says it."""
        if not self._read or self.is_superseded:
            return None
        record = self._read[0][0]
        return (str(record.values["status"]), [self._read[0]]) if _is_closing(record) else ("finished", [])

    def _is_past_end(self, record: Record, entry: Entry) -> bool:
        if record.kind == LIFECYCLE and record.values.get("event") == RESUMED:
            self.is_superseded |= record.values["session"] > self._session
        return self.is_superseded or (entry.until is not None and record.seq > entry.until)

    def _tell_damage(self, offset: int, error: JournalError) -> None:
        self._trouble.tell("damage", f"journal: the line at byte {offset} is left out: {error}")


def _is_closing(record: Record) -> bool:
    return record.kind == LIFECYCLE and record.values.get("event") == CLOSED
