"""How far each output has got in a run's journal: one small file an output."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson

DELIVERING, WAITING, PARKED, FINISHED = "delivering", "waiting", "parked", "finished"
Others = dict[str, dict[str, Any]]
"""Cursors as plain values, by service."""


@dataclass
class Cursor:
    """One output's place in the journal.

    :param offset: in bytes; all before it is acknowledged, and is not sent again
    :param acknowledged: the number of the last acknowledged record
    :param first: the number of the record before the first that this output gets
    :param handed: the number of the last record that was handed to the tracker's SDK
    :param handed_offset: in bytes, behind that record
    :param refused: how many values the tracker refused
    :param retried: how many times a delivery was tried again
    :param state: ``"delivering"``, ``"waiting"`` (after a failure), ``"parked"`` (until somebody
        mends it), ``"finished"``
    :param error: why it waits
    :param service: where the run lives, as the tracker tells services apart
    :param run: what another process needs to continue or to read the tracker's run
    :param theirs: whether the run was opened, and is ended, by the user in the training process
    :param url: where a person finds it: an address, or a folder
    :param refusal: the last value that was refused, and why
    :param others: the cursors for runs of other services, such as one that ``sync --offline`` made
    """

    offset: int = 0
    acknowledged: int = 0
    first: int = 0
    handed: int = 0
    handed_offset: int = 0
    refused: int = 0
    retried: int = 0
    state: str = DELIVERING
    error: str = ""
    service: str = ""
    run: Mapping[str, Any] = field(default_factory=dict)
    theirs: bool = False
    url: str = ""
    refusal: str = ""
    others: Others = field(default_factory=dict)


def of_service(known: Cursor | None, service: str) -> tuple[Cursor | None, Others]:
    """The cursor for the run of one service, if it has one, and those for the others."""
    if known is None:
        return None, {}
    if known.service in ("", service):
        return known, known.others
    kept = asdict(known)
    others = {**kept.pop("others"), known.service: kept}
    mine = others.pop(service, None)
    return (Cursor(**mine) if mine else None), others


class CursorFile:
    """A cursor on disk; it is replaced as a whole, so that a reader never finds half of one.

    :param folder: the run folder
    :param output: the output's name, whatever it is made of
    """

    def __init__(self, folder: str | Path, output: str) -> None:
        self._path = Path(folder) / "cursors" / f"{file_name(output)}.json"
        self._last = b""

    @property
    def lock_path(self) -> Path:
        """The file that whoever delivers has locked."""
        return self._path.with_suffix(".lock")

    def load(self) -> Cursor | None:
        """The cursor, or None where there is none that can be read."""
        try:
            kept = orjson.loads(self._path.read_bytes())
            return Cursor(**{name.name: kept[name.name] for name in fields(Cursor) if name.name in kept})
        except (OSError, ValueError, TypeError):
            return None

    def save(self, cursor: Cursor) -> None:
        """Replace what is there, if anything changed.

        :raises OSError: it cannot be written
        """
        text = orjson.dumps(asdict(cursor))
        if text == self._last:
            return
        self._path.parent.mkdir(exist_ok=True)
        draft = self._path.with_suffix(".new")
        draft.write_bytes(text)
        os.replace(draft, self._path)
        self._last = text

    def remove(self) -> None:
        """Forget how far the output has got."""
        self._path.unlink(missing_ok=True)
        self._last = b""


def file_name(output: str) -> str:
    """An output's name as a file's: it may hold a slash, or be very long."""
    from hashlib import sha256

    plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in output)[:100]
    return plain if plain == output else f"{plain}-{sha256(output.encode()).hexdigest()[:8]}"
