"""``rl-logging sync``: deliver what a run's trackers lack, now."""

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rl_logging import manifest
from rl_logging.cursor import FINISHED, PARKED, WAITING, Cursor, CursorFile
from rl_logging.deliveries import Deliveries, build
from rl_logging.formats import TRACKERS, check_names, formats, load
from rl_logging.formats.bounds import at_home, own_screen
from rl_logging.formats.tracker import KILLED, Tracker
from rl_logging.journal import last_record
from rl_logging.lock import FileLock
from rl_logging.manifest import Entry
from rl_logging.values import describe

_BEAT_S = 0.1
_LAST_S = 10.0  # for what a delivery does just now
_TRIES = 4  # without success, before an output is given up


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


def show(plan: Plan) -> int:
    """Say what there is to deliver, and deliver nothing.

    :return: 0
    """
    table = Table("output", "has", "lacks", "state", title=_title(plan))
    for entry in plan.entries:
        cursor = _cursor(plan, entry)
        lacks = max(plan.last_seq - cursor.handed, 0)
        table.add_row(
            Text(entry.name),
            str(cursor.handed - cursor.first),
            str(lacks),
            Text(cursor.error or cursor.state),
        )
    Console(highlight=False).print(table)
    return 0


def run(plan: Plan) -> int:
    """Deliver, with a bar for each output, and say in the end what was delivered.

    :return: 0 if nothing is missing, 1 if something is, 130 after Ctrl-C
    """
    with own_screen(plan.folder / "courier.log") as screen:
        return _Sync(plan, Console(file=screen, highlight=False)).run()


class _Sync:
    """One call of the command."""

    def __init__(self, plan: Plan, screen: Console) -> None:
        self._plan = plan
        self._screen = screen
        self._deliveries = Deliveries(plan.folder)
        self._failures: dict[str, str] = {}
        self._before = {entry.name: _cursor(plan, entry).retried for entry in plan.entries}
        self._writer = FileLock(plan.folder / "journal.lock")
        self._is_live = self._writer.is_held()

    def run(self) -> int:
        at_home()
        with contextlib.suppress(OSError):  # a run folder that cannot be written is delivered all the same
            manifest.save(self._plan.folder, self._merged())
        status = 0
        try:
            for entry in self._plan.entries:
                self._begin(entry)
            self._watch()
        except KeyboardInterrupt:
            status = 130
        self._deliveries.stop()
        self._deliveries.wait(_LAST_S)
        return max(self._report(), status)

    def _merged(self) -> list[Entry]:
        kept = {entry.name: entry for entry in manifest.load(self._plan.folder)}
        return list(({entry.name: entry for entry in self._plan.entries} | kept).values())

    def _begin(self, entry: Entry) -> None:
        lock = FileLock(CursorFile(self._plan.folder, entry.name).lock_path)
        if not self._plan.wait and lock.is_held():
            self._failures[entry.name] = f"is delivered to by {lock.holder()}"
            return
        try:
            self._deliveries.begin(entry, build(entry), self._plan.from_start)
        except Exception as error:  # one output's trouble is not the others'
            self._failures[entry.name] = describe(error)
        if not self._is_live:
            self._deliveries.end(KILLED)  # unless the journal says how the run ended

    def _watch(self) -> None:
        pause = threading.Event()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._screen) as progress:
            tasks = {name: progress.add_task(name, total=None) for name in self._deliveries.by_name}
            while waiting := [name for name in tasks if not self._is_done(name)]:
                self._draw(progress, tasks)
                pause.wait(_BEAT_S)
                if self._is_live and not self._writer.is_held():
                    self._is_live = False
                    self._deliveries.end(KILLED)  # as above
                if not self._plan.follow:
                    self._give_up(waiting)
            self._draw(progress, tasks)

    def _draw(self, progress: Progress, tasks: dict[str, TaskID]) -> None:
        for name, task in tasks.items():
            cursor = self._now(name)
            held = " (by the courier)" if self._deliveries.by_name[name].is_elsewhere else ""
            total = max(self._plan.last_seq - cursor.first, cursor.handed - cursor.first)
            progress.update(
                task, description=name + held, completed=cursor.handed - cursor.first, total=total
            )

    def _now(self, name: str) -> Cursor:
        """The cursor of whoever delivers."""
        delivery = self._deliveries.by_name[name]
        return _cursor(self._plan, delivery.entry) if delivery.is_elsewhere else delivery.cursor

    def _is_done(self, name: str) -> bool:
        if name in self._failures or self._deliveries.by_name[name].is_over:
            return True
        if self._plan.follow:
            return False
        if not self._deliveries.by_name[name].has_begun:
            return False
        cursor = self._now(name)
        has_all = cursor.handed >= self._plan.last_seq and cursor.state not in (WAITING, PARKED)
        return has_all and (self._is_live or cursor.state == FINISHED)

    def _give_up(self, names: Sequence[str]) -> None:
        for name in names:
            cursor = self._now(name)
            tries = cursor.retried - self._before[name]
            parked = cursor.state == PARKED and tries > 0
            if not self._deliveries.by_name[name].is_elsewhere and (parked or tries >= _TRIES):
                self._failures[name] = cursor.error

    def _report(self) -> int:
        """Say what was delivered.

        :return: 1 if anything is missing
        """
        columns: Sequence[Any] = ("output", "delivered", "refused", "missing", "where, or why not")
        table = Table(*columns, title=_title(self._plan), title_justify="left")
        is_incomplete = False
        for entry in self._plan.entries:
            cursor = _cursor(self._plan, entry)
            missing = max(self._plan.last_seq - cursor.handed, 0)
            why = self._failures.get(entry.name, "")
            is_incomplete |= bool(missing or why)
            counts = (cursor.handed - cursor.first, cursor.refused, missing)
            table.add_row(Text(entry.name), *map(str, counts), Text(why or cursor.url))
        self._screen.print(table)
        return int(is_incomplete)


def _title(plan: Plan) -> Text:
    return Text(f"{plan.folder}: {plan.last_seq} records", style="table.title")


def _cursor(plan: Plan, entry: Entry) -> Cursor:
    """How far an output is, by its file."""
    known = CursorFile(plan.folder, entry.name).load()
    return known or Cursor(first=entry.first, handed=entry.first)
