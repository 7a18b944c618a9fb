"""``rl-logging sync``: deliver what a run's trackers lack, now."""

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rl_logging import manifest
from rl_logging.cursor import DELIVERING, FINISHED, PARKED, WAITING, Cursor, CursorFile, of_service
from rl_logging.deliveries import Deliveries, build
from rl_logging.formats.bounds import at_home, own_screen
from rl_logging.formats.tracker import KILLED
from rl_logging.lock import FileLock
from rl_logging.manifest import Entry
from rl_logging.sync_plan import Plan
from rl_logging.values import describe

_BEAT_S = 0.1
_LAST_S = 10.0  # for what a delivery does just now
_TRIES = 4  # without success, before an output is given up


def show(plan: Plan) -> int:
    """Say what there is to deliver, and deliver nothing.

    :return: 0 if nothing is missing, else 1
    """
    table, is_incomplete = Table("output", "has", "lacks", "refused", "state", title=_title(plan)), False
    for entry in plan.entries:
        cursor = _cursor(plan, entry)
        lacks = max(plan.last_seq - cursor.handed, 0)
        table.add_row(
            Text(entry.name),
            str(cursor.handed - cursor.first),
            str(lacks),
            str(cursor.refused),
            Text(cursor.error or _state(plan, entry, cursor)),
        )
        is_incomplete |= lacks > 0
    Console(highlight=False).print(table)
    return int(is_incomplete)


def _state(plan: Plan, entry: Entry, cursor: Cursor) -> str:
    lock = FileLock(CursorFile(plan.folder, entry.name).lock_path)
    is_left = cursor.state == DELIVERING and not lock.is_held()  # its process was killed
    return "nobody delivers" if is_left else cursor.state


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
        self._said: dict[str, str] = {}  # what was said of each output that waits
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
            if cursor.state in (WAITING, PARKED):
                held += f" {cursor.state}"
                self._say_once(name, cursor.error)
            total = max(self._plan.last_seq - cursor.first, cursor.handed - cursor.first)
            progress.update(
                task, description=name + held, completed=cursor.handed - cursor.first, total=total
            )

    def _say_once(self, name: str, error: str) -> None:
        if error and self._said.get(name) != error:
            self._said[name] = error
            self._screen.print(Text(f"{name}: {error}"), soft_wrap=True)

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
        columns: Sequence[Any] = ("output", "delivered", "refused", "missing")
        table = Table(*columns, title=_title(self._plan), title_justify="left")
        lines, is_incomplete = [], False
        for entry in self._plan.entries:
            cursor = _cursor(self._plan, entry)
            missing = max(self._plan.last_seq - cursor.handed, 0)
            why = self._failures.get(entry.name, "")
            is_incomplete |= bool(missing or why)
            counts = (cursor.handed - cursor.first, cursor.refused, missing)
            table.add_row(Text(entry.name), *map(str, counts))
            error = cursor.error if cursor.state in (WAITING, PARKED) else ""
            lines.append((f"{entry.name}:", cursor.url, why or error, cursor.refused and cursor.refusal))
        self._screen.print(table)
        for line in lines:  # below, since no table is as wide as a path
            self._screen.print(Text(" ".join(part for part in line if part)), soft_wrap=True)
        return int(is_incomplete)


def _title(plan: Plan) -> Text:
    return Text(f"{plan.folder}: {plan.last_seq} records", style="table.title")


def _cursor(plan: Plan, entry: Entry) -> Cursor:
    """How far an output is, by its file."""
    known = CursorFile(plan.folder, entry.name).load()
    with contextlib.suppress(ImportError, KeyError, TypeError, ValueError):  # it cannot be built: said later
        known, _ = of_service(known, build(entry).service())
    return known or Cursor(first=entry.first, handed=entry.first)
