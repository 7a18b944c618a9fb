"""Records kept in a list, for tests and notebooks."""

from pathlib import Path
from typing import Any

from rl_logging.formats.base import History, Sender
from rl_logging.formats.sb3 import OutputFormat
from rl_logging.record import Record


class MemoryOutputFormat(OutputFormat):
    """Keep every record, whatever its kind, in :attr:`records`.

    :param name: what ``exclude`` calls it
    """

    name = "memory"

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.records: list[Record] = []

    @classmethod
    def in_folder(cls, folder: Path, /, **arguments: Any) -> Sender:
        return cls(**arguments)

    def emit(self, record: Record) -> None:
        self.records.append(record)

    emit_text = emit_hyperparameters = emit_tags = emit_artifact = emit_provenance = emit

    def history(self) -> History:
        return self.expected(self.records)
