"""Handing records to a tracker that may refuse some of their values."""

from collections.abc import Sequence
from dataclasses import replace

from rl_logging.errors import Trouble
from rl_logging.formats.base import Sender
from rl_logging.record import METRICS, Record
from rl_logging.values import describe
from rl_logging.verdict import SKIP

_IN_A_ROW = 20  # refusals without one success: then it is not the values that are to blame


class RefusesAllError(Exception):
    """The tracker refuses whatever it is given."""


class HandOver:
    """Hands records over, and narrows a refusal down to the values that it is for.

    :param sender: the output
    """

    def __init__(self, sender: Sender) -> None:
        self.refused = 0
        self.unproven = 0  # refusals since the last success
        self.refusal = ""  # the last one
        self._sender = sender
        self._trouble = Trouble()

    def give(self, records: Sequence[Record]) -> None:
        """Hand over all but the values that are refused, which are counted and named.

        :param records: without what is excluded at this output
        :raises RefusesAllError: nothing but refusals
        :raises Exception: what the sender raised, unless the values are to blame
        """
        try:
            self._sender.handle_all(records)
            self.unproven = 0
        except Exception as error:
            if self._sender.verdict(error) != SKIP:
                raise
            parts = _halves(records)
            for part in parts:
                self.give(part)
            if not parts:
                self._refuse(records[0], error)

    def forget_unproven(self) -> None:
        """Take back the refusals since the last success: they are to be tried again."""
        self.refused -= self.unproven
        self.unproven, self.refusal = 0, ""

    def _refuse(self, record: Record, error: Exception) -> None:
        self.unproven += 1
        self.refused += 1
        if self.unproven >= _IN_A_ROW:
            raise RefusesAllError(f"{self.unproven} values in a row are refused; the last: {describe(error)}")
        key = next(iter(record.values), "")
        self.refusal = f"{key!r} at step {record.step}: {describe(error)}"
        what = f"{self._sender.name} refuses {self.refusal}"
        self._trouble.tell(f"refused {key}", f"{what}. It is left out there; the journal has it.")


def _halves(records: Sequence[Record]) -> list[list[Record]]:
    """The same in two parts: some records each, or some values of the only one."""
    if len(records) > 1:
        return [list(records[: len(records) // 2]), list(records[len(records) // 2 :])]
    (record,) = records
    if record.kind != METRICS or len(record.values) < 2:
        return []
    keys, middle = list(record.values), len(record.values) // 2
    parts = (keys[:middle], keys[middle:])
    return [[replace(record, values={key: record.values[key] for key in part})] for part in parts]
