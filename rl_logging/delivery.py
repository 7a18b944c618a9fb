"""Delivery: the loop that carries a run's journal to one tracker, in order, at least once.

Live delivery, what is left after an outage or a crash, and ``rl-logging sync`` are this
one loop: the journal is the queue, and a cursor says how far the tracker has got.
"""

import random
import threading
import time
from pathlib import Path

from rl_logging.backlog import Backlog, Batch
from rl_logging.cursor import DELIVERING, FINISHED, PARKED, WAITING, Cursor, CursorFile, Others, of_service
from rl_logging.errors import Trouble
from rl_logging.formats.base import Sender
from rl_logging.handover import HandOver, RefusesAllError
from rl_logging.lock import FileLock
from rl_logging.manifest import Entry
from rl_logging.record import LIFECYCLE
from rl_logging.values import describe
from rl_logging.verdict import PARK, RETRY

BEAT_S = 0.25  # how often the journal is looked at
_chance = random.Random()  # a trainer's own numbers, which it may have seeded, stay as they are
_PAUSES_S = {RETRY: (0.5, 60.0), PARK: (30.0, 600.0)}  # after the first failure, and at most


class Delivery:
    """Carries a run's records to one tracker until the run has ended and the tracker has all.

    :param folder: the run folder
    :param entry: the output, as ``outputs.json`` has it
    :param sender: the output itself
    :param session: when the logger that this delivery serves was made, in milliseconds; a
        later one delivers for itself
    :param from_start: deliver all again, into the same run
    :raises OSError: there is no journal
    """

    def __init__(
        self,
        folder: Path,
        entry: Entry,
        sender: Sender,
        session: float = float("inf"),
        from_start: bool = False,
    ) -> None:
        self.entry, self.sender = entry, sender
        self.ending: str | None = None  # how the run ended, when its journal does not say so
        self.is_elsewhere = False  # whether somebody else delivers to it, and this waits
        self.behind_since: float | None = None  # on the monotonic clock
        self._from_start = from_start
        self._file = CursorFile(folder, entry.name)
        self._lock = FileLock(self._file.lock_path)
        self._backlog, self._hands = Backlog(folder, session), HandOver(sender)
        self._others: Others = {}
        self._earlier: Cursor | None = None  # of a run that is to be continued
        self._begin()
        self._pauses, self._wake = 0, threading.Event()
        self._taken = self._over = self._stopped = False
        self._trouble = Trouble()

    @property
    def has_begun(self) -> bool:
        """Whether it is known who delivers to the output now."""
        return self.is_elsewhere or self._taken

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do here."""
        return self._stopped or self._over or self._backlog.is_superseded

    def take(self) -> bool:
        """Take the output over where it was left; False while somebody else delivers to it."""
        if not self._lock.acquire():
            return False
        service = self.sender.service()  # a run of another one is unknown there
        known, self._others = of_service(self._file.load(), service)
        if known is not None and (not known.theirs or self.sender.joins()):  # else it is the user's
            self._earlier = known
            self._begin(None if self._from_start else known)
            self._hands.refused, self._hands.refusal = self.cursor.refused, self.cursor.refusal
        self.cursor.service, self.cursor.others = service, self._others
        self._taken = True
        return True

    def run(self) -> None:
        """Deliver until the run's end is delivered, or :meth:`stop`."""
        try:
            while not self._stopped and not self._taken:
                self._pause(self._try_to_take())
            while not self.is_over:
                self._pause(self.step())
        finally:
            self.leave()

    def _try_to_take(self) -> float:
        try:
            self.is_elsewhere = not self.take()
            return BEAT_S if self.is_elsewhere else 0.0
        except OSError as error:  # the run folder cannot be written
            return self._failed(error)

    def leave(self) -> None:
        """Let others deliver."""
        self._lock.release()
        self._backlog.close()

    def stop(self) -> None:
        """End :meth:`run` after what it does now; the tracker's run is not ended."""
        self._stopped = True
        self._wake.set()

    def wake(self) -> None:
        """Look at the journal at once, and try again what has failed."""
        self._wake.set()

    def _pause(self, pause_s: float) -> None:
        self._wake.wait(pause_s)
        self._wake.clear()

    # One piece of work

    def step(self) -> float:
        """Hand over the next records, or end the tracker's run where there are no more.

        :return: how many seconds to wait before the next step
        """
        try:
            told = self.ending  # first: what the run wrote before its end is in the journal then
            batch = self._backlog.next_batch(self.entry)
            if batch:
                self.behind_since = self.behind_since or time.monotonic()
                self._hand_over(batch)
            else:
                self.behind_since = None
            ended = None if batch else self._backlog.ending() or self._ended_otherwise(told)
            if ended or not self._hands.unproven:
                self._acknowledge()
            if self.cursor.state in (WAITING, PARKED):
                self.cursor.state, self.cursor.error = DELIVERING, ""
            if ended:
                self._finish(*ended)
            self._pauses = 0
            pause_s = 0.0 if batch or self._over else BEAT_S
        except Exception as error:  # a tracker's trouble must not end its delivery
            pause_s = self._failed(error)
        self._save()
        return pause_s

    def _ended_otherwise(self, told: str | None) -> tuple[str, Batch] | None:
        if self.entry.until is not None and self.cursor.handed >= self.entry.until:
            return "finished", []
        return (told, []) if told and not self._backlog.is_superseded else None

    def _hand_over(self, batch: Batch) -> None:
        if any(record.kind != LIFECYCLE for record, _ in batch):
            if not self._open():
                return
            self.cursor.state = DELIVERING
        size = len(batch) if self.sender.batches else 1
        for start in range(0, len(batch), size):
            piece = batch[start : start + size]
            records = [record.without(self.sender.name) for record, _ in piece if record.kind != LIFECYCLE]
            if records:  # else a tracker would open a run for nothing
                self._hands.give(records)
            self.cursor.handed, self.cursor.handed_offset = piece[-1][0].seq, piece[-1][1]
            self.cursor.refused = self._hands.refused + sum(self.sender.refused.values())
            self.cursor.refusal = self.sender.refusal or self._hands.refusal
            self._backlog.took(piece)

    def _open(self) -> bool:
        """Open or continue the tracker's run; False where all has to be delivered again."""
        if (earlier := self._earlier) is not None:
            stays = not earlier.run or self.sender.resume(earlier.run)
            self._earlier = None
            if not stays or self._from_start:
                self.sender.start_over()
                self._begin()
                self.cursor.service, self.cursor.run = earlier.service, earlier.run
                return False
        was_open = self.sender.is_open  # perhaps by the user
        try:
            self.sender.run  # noqa: B018  it is opened on first use
        except Exception as error:
            raise _NotOpenedError(error) from error
        if not was_open or (not self.cursor.run and self.sender.reference()):
            self.cursor.run, self.cursor.url = self.sender.reference(), self.sender.url()
            self.cursor.theirs = self.sender.joins() and not self.sender.leave_open
            self._save()
        return True

    def _begin(self, cursor: Cursor | None = None) -> None:
        """Go on from a cursor, or from the first record that is for this output."""
        first = self.entry.first
        self.cursor = cursor or Cursor(offset=self.entry.offset, acknowledged=first, first=first)
        self.cursor.others = self._others
        self.cursor.handed, self.cursor.handed_offset = self.cursor.acknowledged, self.cursor.offset
        self._backlog.rewind(self.cursor.offset)

    # What is known of the output

    def _acknowledge(self) -> None:
        if self.cursor.acknowledged != self.cursor.handed and self.sender.settle():
            self._acknowledge_all()

    def _acknowledge_all(self) -> None:
        self.cursor.offset, self.cursor.acknowledged = self.cursor.handed_offset, self.cursor.handed
        self.cursor.run = self.sender.reference() or self.cursor.run

    def _finish(self, status: str, last_word: Batch) -> None:
        if self.cursor.state != FINISHED:
            if self.cursor.run and not self._open():
                return
            self.sender.end(status)
        for record, offset in last_word:
            self.cursor.handed, self.cursor.handed_offset = record.seq, offset
        self._acknowledge_all()
        self.cursor.state, self.cursor.error = FINISHED, ""
        self._over = True

    def _failed(self, error: Exception) -> float:
        cause = error.cause if isinstance(error, _NotOpenedError) else error
        kind = RETRY if self.sender.verdict(cause) == RETRY else PARK  # what is left out does not come here
        if isinstance(error, RefusesAllError):
            self._hands.forget_unproven()
            self._begin(self.cursor)
        first_s, longest_s = _PAUSES_S[kind]
        pause_s = min(first_s * float(2**self._pauses), longest_s) * _chance.uniform(0.8, 1.2)
        self._pauses = min(self._pauses + 1, 20)
        self.cursor.retried += 1
        self.cursor.state, self.cursor.error = WAITING if kind == RETRY else PARKED, describe(cause)
        what = "tried again until it works" if kind == RETRY else "parked until that is mended"
        told = f"{self.entry.name} is {what}: {self.cursor.error}. Nothing is lost."
        self._trouble.tell(f"{kind} {type(cause).__name__}", told)
        return pause_s

    def _save(self) -> None:
        try:
            self._file.save(self.cursor)
        except OSError as error:  # a full disk, or the run folder is gone: what is delivered, is
            self._trouble.tell("cursor", f"{self.entry.name}: its cursor cannot be saved: {describe(error)}")


class _NotOpenedError(Exception):
    """The tracker's run could not be opened, whatever its values are."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause
