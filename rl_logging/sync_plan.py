"""What ``rl-logging sync`` is to deliver."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from rl_logging import manifest
from rl_logging.deliveries import build
from rl_logging.formats import TRACKERS, check_names, formats, load
from rl_logging.formats.tracker import Tracker
from rl_logging.journal import last_record
from rl_logging.manifest import Entry


@dataclass(frozen=True)
class Plan:
    """What to deliver, and how.

    :param folder: the run folder
    :param entries: the outputs
    :param last_seq: the number of the last record in the journal when this began
    :param follow: whether to go on while the run is trained
    :param from_start: whether to deliver all again
    :param wait: whether to wait for outputs that somebody else delivers to
    """

    folder: Path
    entries: tuple[Entry, ...]
    last_seq: int
    follow: bool = False
    from_start: bool = False
    wait: bool = True


def plan(
    folder: str, names: Sequence[str], follow: bool, from_start: bool, wait: bool, offline: bool
) -> Plan:
    """Check the options of the command.

    :param names: the outputs; by default all that the run was logged to
    :raises ValueError: there is no run, or an option that is not allowed; the message says what is
    :raises MissingBackendError: a tracker's package is not installed
    """
    path = Path(folder)
    if not (path / "journal.jsonl").is_file():
        raise ValueError(f"{folder!r} is no run folder: it has no journal.jsonl")
    kept = {entry.name: entry for entry in manifest.load(path)}
    if not names and not kept:
        raise ValueError(f"this run was logged to no tracker; name one by --to: {', '.join(TRACKERS)}")
    chosen = [kept[name] if name in kept else _new(path, name) for name in names or kept]
    if offline:
        chosen = [_offline(entry) for entry in chosen]
    last = last_record(path / "journal.jsonl")
    return Plan(path, tuple(chosen), last.seq if last else 0, follow, from_start, wait)


def _new(folder: Path, name: str) -> Entry:
    """A tracker that the run was not logged to: it gets all."""
    if name not in TRACKERS and formats().get(name, formats()["csv"]).sender is None:
        raise ValueError(f"--to {name!r} is no tracker; allowed are {', '.join(TRACKERS)}")
    check_names([name])
    sender: Tracker = load(cast(str, formats()[name].sender)).in_folder(folder)
    arguments = {key: value for key, value in sender.resolved().items() if key != "name"}
    return Entry(name, name, arguments)


def _offline(entry: Entry) -> Entry:
    sender = build(entry)
    here = sender.local_arguments() if isinstance(sender, Tracker) else {}
    return replace(entry, arguments={**entry.arguments, **here})
