"""``outputs.json``: what must be built to deliver a run, by the courier or by ``sync``."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from rl_logging.values import without_users

_SECRET = re.compile(r"api_?key|token|passw(or)?d|secret|authorization|credential", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One output of a run, in plain values.

    :param name: what ``exclude`` calls it
    :param kind: its name in the registry of outputs
    :param arguments: for its sender's constructor
    :param offset: where in the journal its records begin
    :param first: the number of the record before that
    :param until: the number of its last record, when it was removed from the logger
    :param leave_open: whether its run is the user's to end
    """

    name: str
    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    offset: int = 0
    first: int = 0
    until: int | None = None
    leave_open: bool = False


def encode(entries: Iterable[Entry]) -> bytes:
    """The entries as JSON.

    :raises TypeError: an argument is no plain value
    """
    return orjson.dumps({"v": 1, "outputs": [asdict(entry) for entry in entries]})


def is_plain(entry: Entry) -> bool:
    """Whether another process can be told of the output."""
    try:
        return bool(encode([entry]))
    except TypeError:  # an argument is an object of this process
        return False


def decode(text: bytes) -> list[Entry]:
    """What :func:`encode` gave.

    :raises ValueError: it is no list of outputs that this version can read
    """
    try:
        return [Entry(**fields) for fields in orjson.loads(text)["outputs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no list of outputs that this version can read: {error}") from error


def load(folder: str | Path) -> list[Entry]:
    """The outputs of a run folder; none where it never had a tracker.

    :raises ValueError: the file is damaged
    """
    folder = Path(folder).absolute()
    path = folder / "outputs.json"
    if not path.exists():
        return []
    try:
        entries = decode(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return [replace(entry, arguments=_placed(entry.arguments, folder)) for entry in entries]


def save(folder: str | Path, entries: Iterable[Entry]) -> None:
    """Write the outputs of a run folder, with no secret in it, and so that the folder can be moved.

    :raises OSError: it cannot be written
    """
    folder = Path(folder).absolute()
    kept = [
        replace(entry, arguments=_without_secrets(_moveable(entry.arguments, folder))) for entry in entries
    ]
    draft = folder / "outputs.json.new"
    draft.write_bytes(orjson.dumps(orjson.loads(encode(kept)), option=orjson.OPT_INDENT_2))
    os.replace(draft, folder / "outputs.json")


def _moveable(arguments: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """With the place for local files given from the run folder on, where it stands in or beside it."""
    place = arguments.get("folder")
    if not isinstance(place, str) or not Path(place).is_relative_to(folder.parent):
        return dict(arguments)
    return {**arguments, "folder": os.path.relpath(place, folder)}


def _placed(arguments: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    place = arguments.get("folder")
    if not isinstance(place, str):
        return dict(arguments)
    return {**arguments, "folder": os.path.normpath(folder / place)}


def _without_secrets(value: Any) -> Any:
    """The same without passwords, keys and the like; whoever delivers later has them in the environment."""
    if isinstance(value, Mapping):
        kept = {name: inner for name, inner in value.items() if not _SECRET.search(str(name))}
        return {name: _without_secrets(inner) for name, inner in kept.items()}
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in value]
    return without_users(value) if isinstance(value, str) else value
