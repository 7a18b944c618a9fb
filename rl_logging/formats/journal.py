"""The journal as an output, so that SB3's own logger can have one."""

from pathlib import Path
from typing import Any

from rl_logging.formats.base import History, Sender
from rl_logging.formats.sb3 import OutputFormat
from rl_logging.journal import Journal, read
from rl_logging.record import Record


class JournalOutputFormat(OutputFormat):
    """Append every record, messages among them, to a journal.

    Our ``Logger`` has a journal of its own; this is for SB3's, or for a second copy.

    :param path: the file; one that exists is continued
    :param name: what ``exclude`` calls it
    :raises OSError: the file cannot be written
    """

    name = "journal"

    def __init__(self, path: str | Path, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.path = path
        self._journal = Journal(path)

    @classmethod
    def in_folder(cls, folder: Path, **arguments: Any) -> Sender:
        return cls(**{"path": folder / "journal.jsonl", **arguments})

    def handle(self, record: Record) -> None:
        self._journal.append(record)  # whole: what it excludes elsewhere stays known
        if self._journal.error:
            raise self._journal.error

    def history(self) -> History:
        return self.expected(read(self.path))

    def close(self) -> None:
        self._journal.close()
