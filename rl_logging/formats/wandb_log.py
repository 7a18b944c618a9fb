"""W&B's log file, read as it grows: LevelDB's format, 32 KiB blocks, entries in one or more pieces."""

import glob
import json
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rl_logging.formats.sessions import stands

STEP = "global_step"  # in a row, the training step
AXIS_STEP = "_axis_step"  # in its place, the step of a row that has another axis; W&B hides the name
_OURS = (STEP.encode(), AXIS_STEP.encode())
_BLOCK, _FILE_HEADER, _HEADER = 32768, 7, 7  # bytes
_OFFLINE = "offline-"  # what an offline session's name begins with
_END_TIMEOUT_S, _END_POLL_S = 10.0, 0.02
_WHOLE, _FIRST, _LAST = 1, 2, 4  # kinds of pieces; 3 is one in the middle, 0 fills a block


class WandBLog:
    """What of a run is in its log file.

    :param path: the file; it may be missing, still be written, or be torn by a kill
    """

    def __init__(self, path: str | Path) -> None:
        self.last_step = -1  # W&B's own number of the last row
        self.rows_of_ours = 0
        self.kinds: Counter[str] = Counter()  # how many entries of each kind
        self.has_end = False
        self._path = Path(path)
        self._position = _FILE_HEADER
        self._body = b""

    def has(self, number: int, rows: int, kinds: Counter[str]) -> bool:
        """Whether the row of a number, so many rows of ours, and so many entries of other kinds were read."""
        return self.last_step >= number and self.rows_of_ours >= rows and self.kinds >= kinds

    def read(self) -> "WandBLog":
        """Take notice of what was written since the last call."""
        for _ in self.entries():
            pass
        return self

    def entries(self) -> Iterator[Any]:
        """The entries since the last call, as far as they are whole."""
        from wandb.proto.wandb_internal_pb2 import Record as Entry

        for kind, piece in self._pieces():
            self._body = piece if kind in (_WHOLE, _FIRST) else self._body + piece
            if kind in (_WHOLE, _LAST):
                entry = Entry.FromString(self._body)
                self._note(entry)
                yield entry

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows since the last call: W&B's number, what ``run.log`` was given, and W&B's own values.

        A rich value is a mapping that says its ``_type``.
        """
        for entry in self.entries():
            if entry.WhichOneof("record_type") == "history":
                yield entry.history.step.num, _row(entry.history.item)

    def _note(self, entry: Any) -> None:
        kind = entry.WhichOneof("record_type")
        if kind == "history":
            self.last_step = entry.history.step.num
            self.rows_of_ours += any(name in self._body for name in _OURS)
        elif kind == "exit":
            self.has_end = True
        self.kinds[kind] += 1

    def _pieces(self) -> Iterator[tuple[int, bytes]]:
        start, data = self._position, self._new()
        while (at := self._position - start) + _HEADER <= len(data):
            left = _BLOCK - self._position % _BLOCK
            _, size, kind = struct.unpack("<IHB", data[at : at + _HEADER])
            if left < _HEADER or kind == 0:
                self._position += left
                continue
            piece = data[at + _HEADER : at + _HEADER + size]
            if len(piece) < size:
                return  # not there yet, or torn
            self._position += _HEADER + size
            yield kind, piece

    def _new(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                return file.read()
        except FileNotFoundError:
            return b""


def _row(items: Iterable[Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for item in items:
        first, *rest = item.nested_key or [item.key]
        place, name = (nested.setdefault(first, {}), "/".join(rest)) if rest else (row, first)
        place[name] = json.loads(item.value_json)
    for key, parts in nested.items():
        is_rich = "_type" in parts
        row.update({key: parts} if is_rich else {f"{key}/{name}": value for name, value in parts.items()})
    return row


def all_logs(reference: Mapping[str, Any]) -> list[Path]:
    """The logs of all sessions of a run that are not set aside, the oldest first."""
    identity = glob.escape(str(reference["id"]))
    found = set(Path(reference["log"]).parents[1].glob(f"*run-*/run-{identity}.wandb"))
    return sorted(found | {Path(reference["log"])}, key=lambda log: log.parent.name.removeprefix(_OFFLINE))


def synced_step(reference: Mapping[str, Any]) -> int:
    """The last row of a run's offline sessions that the user has sent; -1 if there is none."""
    logs = filter(_is_synced, all_logs(reference) if reference else [])
    return max((WandBLog(log).read().last_step for log in logs), default=-1)


def is_unsent(log: Path) -> bool:
    """Whether an offline session stands, or did when it began to be replaced, and not all of it was sent."""
    return log.parent.name.startswith(_OFFLINE) and stands(log.parent) and not _is_synced(log)


def _is_synced(log: Path) -> bool:
    """Whether ``wandb sync`` has sent all of a log: the mark it leaves is younger."""
    mark = log.with_suffix(".wandb.synced")
    return mark.exists() and log.exists() and mark.stat().st_mtime >= log.stat().st_mtime


def wait_for_end(path: str | Path) -> None:
    """Wait until a finished run's log has its last entry: ``finish`` returns a moment earlier.

    :raises RuntimeError: it does not come, such as on a full disk
    """
    log = WandBLog(path)
    deadline = time.monotonic() + _END_TIMEOUT_S
    while Path(path).exists() and not log.read().has_end:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the end of the run is missing in W&B's log {path}")
        time.sleep(_END_POLL_S)
