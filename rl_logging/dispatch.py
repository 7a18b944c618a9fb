"""The trainer's side of delivery: which outputs are delivered to, by whom, and how far they are."""

import shlex
import threading
import time
from dataclasses import replace

from rl_logging import manifest
from rl_logging.cursor import FINISHED, PARKED, WAITING, Cursor, CursorFile
from rl_logging.deliveries import Deliveries
from rl_logging.errors import Trouble
from rl_logging.formats import kind_of
from rl_logging.formats.base import Sender
from rl_logging.formats.tracker import Tracker
from rl_logging.health import Health
from rl_logging.journal import Journal
from rl_logging.journal_reader import Reader
from rl_logging.manifest import Entry
from rl_logging.supervision import CourierProcess
from rl_logging.values import describe

_POLL_S = 0.02


class Dispatch:
    """Sees to it that a run's remote outputs get its journal.

    What can be built again in another process is the courier's; the rest is delivered to by
    threads of this process: a run that the user opened here, an output of the user's own.

    :param journal: the run's journal
    :param session: when the logger was made, in milliseconds
    :param in_threads: whether to start no process
    :param linger_s: for how long the courier goes on when this process is gone
    """

    def __init__(self, journal: Journal, session: int, in_threads: bool, linger_s: float) -> None:
        self._journal = journal
        self._folder = journal.path.parent
        self._in_threads = in_threads
        self._outputs: dict[str, Sender] = {}
        self._entries: dict[str, Entry] = {}
        self._threads = Deliveries(self._folder, session)
        self._linger_s = linger_s
        self._courier = CourierProcess(self._folder, session, linger_s)
        self._trouble = Trouble()

    # Who is delivered to

    def adopt(self, output: Sender, from_start: bool = False) -> None:
        """Deliver to an output from the run's next record on, or from its first."""
        if output.name in self._outputs:
            told = f"a second output is named {output.name!r} and gets nothing; give it a name= of its own"
            self._trouble.tell(f"twice {output.name}", told)
            return
        entry = self._entry(output)
        if not from_start:
            entry = replace(entry, offset=self._journal.size, first=self._journal.written_seq)
        earlier = {known.name: known for known in self._kept()}.get(entry.name)
        if (
            earlier is not None and earlier.kind == entry.kind
        ):  # it goes on where it was in an earlier session
            entry = replace(entry, offset=earlier.offset, first=earlier.first)
        self._outputs[entry.name], self._entries[entry.name] = output, entry
        self._keep()
        if not entry.kind or self._in_threads or not self._goes_by_courier(output):
            self._threads.begin(entry, output)

    def remove(self, output: Sender) -> None:
        """Finish an output with the last record that is in the journal now."""
        if self._outputs.get(output.name) is not output:
            return
        entry = replace(self._entries[output.name], until=self._journal.written_seq)
        self._entries[output.name] = entry
        self._keep()
        if output.name in self._threads.by_name:
            self._threads.by_name[output.name].entry = entry
        else:
            self._goes_by_courier(output)

    def _entry(self, output: Sender) -> Entry:
        """The output in plain values; without a kind where only this process can deliver to it."""
        kind = kind_of(output)
        if kind == "media":
            return Entry(output.name, kind)
        if kind is not None and isinstance(output, Tracker) and not output.is_open:
            is_joined = output.active() is not None
            arguments = output.joined() if is_joined else output.resolved()
            if arguments is not None:
                plain = {name: value for name, value in arguments.items() if name != "name"}
                entry = Entry(output.name, kind, plain, leave_open=is_joined)
                if manifest.is_plain(entry):
                    return entry
        return Entry(output.name, "")

    def _goes_by_courier(self, output: Sender) -> bool:
        entries = [e for name, e in self._entries.items() if e.kind and name not in self._threads.by_name]
        try:
            self._courier.deliver(manifest.encode(entries))
        except OSError as error:
            told = f"no process can be started ({describe(error)}): the trackers live in threads of this one"
            self._trouble.tell("no courier", f"{told}, and training has to share its time with them.")
            self._in_threads = True
            return False
        if isinstance(output, Tracker):
            output.is_away = True
        return True

    def _kept(self) -> list[Entry]:
        try:
            return manifest.load(self._folder)
        except (OSError, ValueError) as error:
            self._trouble.tell("outputs", f"outputs.json is not read: {describe(error)}")
            return []

    def _keep(self) -> None:
        kept = {entry.name: entry for entry in self._kept()} | self._entries
        try:
            manifest.save(self._folder, [entry for entry in kept.values() if entry.kind])
        except OSError as error:
            self._trouble.tell("outputs", f"outputs.json is not written: {describe(error)}")

    # How far they are

    def cursor(self, name: str) -> Cursor:
        """How far an output is."""
        if name in self._threads.by_name:
            return self._threads.by_name[name].cursor
        entry = self._entries[name]
        return CursorFile(self._folder, name).load() or Cursor(handed=entry.first, first=entry.first)

    def health(self) -> dict[str, Health]:
        """How each output does, by name."""
        return {name: self._health(self.cursor(name), self._last(name)) for name in self._outputs}

    def urls(self) -> dict[str, str]:
        """Where each output's run is, by name; as soon as it was opened."""
        cursors = {name: self.cursor(name) for name in self._outputs}
        for name, cursor in cursors.items():
            self._outputs[name].located = cursor.run
        return {name: cursor.url for name, cursor in cursors.items() if cursor.url}

    def lacking(self, seq: int, ended: bool = False) -> dict[str, int]:
        """How many records up to a number each output lacks; those that lack none are left out.

        :param ended: whether also its run must have been ended
        """
        counts = {}
        for name in self._outputs:
            cursor = self.cursor(name)
            missing = min(seq, self._last(name)) - cursor.handed
            if missing > 0 or (ended and cursor.state != FINISHED):
                counts[name] = max(missing, 0)
        return counts

    def wait(self, seq: int, timeout_s: float, ended: bool = False) -> dict[str, int]:
        """Wait until every output has all records up to a number.

        :return: what :meth:`lacking` says in the end
        """
        deadline = time.monotonic() + timeout_s
        pause = threading.Event()
        self.wake()
        while (lacking := self.lacking(seq, ended)) and time.monotonic() < deadline:
            if not self._folder.exists():  # and the cursors with it
                break
            pause.wait(_POLL_S)
        return lacking

    def wake(self) -> None:
        """Let every delivery look at the journal now, and try again what has failed."""
        self._courier.wake()
        self._threads.wake()

    def close(self, timeout_s: float, status: str) -> dict[str, int]:
        """Wait until every output has all, and its run has ended.

        :param status: how the run went, where the journal could not be told
        :return: how many records each output lacks that is not done
        """
        deadline = time.monotonic() + timeout_s
        self._threads.end(status)
        lacking = self.wait(self._journal.written_seq, timeout_s, ended=True)
        self._courier.close()
        if not lacking:
            self._courier.wait(max(deadline - time.monotonic(), 0.0))
        self.urls()
        return lacking if self._folder.exists() else {}  # nothing is left to be delivered from

    def advice(self, lacking: dict[str, int]) -> str:
        """What outputs lack, in words, and the command that delivers it."""
        what = ", ".join(f"{name} lacks {count} records" for name, count in lacking.items())
        unkept = {name: kind_of(self._outputs[name]) for name in lacking if not self._entries[name].kind}
        to = " ".join(["", "--to", *(unkept.get(name) or name for name in lacking)]) if unkept else ""
        pid = self.courier_pid
        when = f"the courier (process {pid}) goes on for {self._linger_s:g} s; after that" if pid else "later"
        return f"{what}; {when}: rl-logging sync {shlex.quote(str(self._folder))}{to}"

    def refusals(self) -> str:
        """What outputs refused, in words; empty where it is nothing."""
        cursors = {name: self.cursor(name) for name in self._outputs}
        told = [
            f"{name} refused {c.refused} values, the last {c.refusal}"
            for name, c in cursors.items()
            if c.refused
        ]
        return "; ".join(told)

    @property
    def courier_pid(self) -> int | None:
        """The courier's process number, while it runs."""
        return self._courier.pid

    def _last(self, name: str) -> int:
        """The number of the last record that there is for an output."""
        until = self._entries[name].until
        return self._journal.last_seq if until is None else until

    def _health(self, cursor: Cursor, last: int) -> Health:
        waiting = max(last - cursor.handed, 0)
        delivered = cursor.handed - cursor.first
        error = cursor.error if cursor.state in (WAITING, PARKED) else cursor.refusal
        age_s = time.time() - self._time_at(cursor.handed_offset) if waiting else 0.0
        return Health(delivered, waiting, cursor.refused, cursor.retried, error, max(age_s, 0.0))

    def _time_at(self, offset: int) -> float:
        """When the record at an offset was made; now, where none can be read."""
        try:
            reader = Reader(self._journal.path, offset, lambda at, error: None)
        except OSError:  # the run folder was removed
            return time.time()
        records = reader.read()
        reader.close()
        return records[0][0].time if records else time.time()
