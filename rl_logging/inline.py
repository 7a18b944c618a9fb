"""Handing records to an output where it stands, so that its trouble stays its own."""

import time
from collections.abc import Callable

from rl_logging.errors import Trouble
from rl_logging.formats.base import Sender
from rl_logging.record import Record
from rl_logging.values import describe

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 300.0


class InlineDelivery:
    """Hands records to one output where it stands, in the caller's time; never raises.

    A remote output that failed gets a pause, twice as long each time, in which records
    are counted and left to the journal, so that a dead server is not waited for at every
    dump. A local one is tried at each record.

    :param output: the output
    :param clock: seconds that only grow
    """

    def __init__(self, output: Sender, clock: Callable[[], float] = time.monotonic) -> None:
        self.output = output
        self.delivered = 0
        self.missed = 0
        self.last_error = ""
        self._lost = 0  # of those, the ones that are in no journal
        self._clock = clock
        self._trouble = Trouble(clock)
        self._pause_s = _FIRST_PAUSE_S
        self._resume_at = clock()

    def deliver(self, record: Record) -> None:
        """Hand over one record, or count it as missed."""
        if self.output.remote and self._clock() < self._resume_at:
            self._miss(record)
            return
        try:
            self.output.handle(record)
            self.delivered += 1
            self.last_error = ""
            self._pause_s = _FIRST_PAUSE_S
        except Exception as error:  # an output's trouble must not reach the training loop
            self._miss(record)
            self._resume_at = self._clock() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            self.last_error = describe(error)
            self._tell(record, error)

    def close(self) -> None:
        """Close the output; its trouble is told, not raised."""
        try:
            self.output.close()
        except Exception as error:  # as above
            self._trouble.tell("close", f"{self.output.name}: could not be closed: {describe(error)}", error)
        if self.missed:
            kept = f"{self._lost} of them are in no journal" if self._lost else "the journal has them"
            self._trouble.tell("missed", f"{self.output.name}: {self.missed} records did not arrive; {kept}")

    def _miss(self, record: Record) -> None:
        self.missed += 1
        self._lost += record.seq == 0

    def _tell(self, record: Record, error: Exception) -> None:
        what = f"step {record.step} was not written: {describe(error)}"
        self._trouble.tell(type(error).__name__, f"{self.output.name}: {what}. Training goes on.", error)
