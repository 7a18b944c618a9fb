"""Handing each record to all outputs of a logger, each on its own."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stable_baselines3.common import logger as sb3

from rl_logging.dispatch import Dispatch
from rl_logging.errors import Trouble
from rl_logging.formats import formats
from rl_logging.formats.base import Sender
from rl_logging.formats.media import MediaSender
from rl_logging.health import Health
from rl_logging.inline import InlineDelivery
from rl_logging.record import Record
from rl_logging.values import describe


class FanOut:
    """The outputs in a logger's list: those here are called, the remote ones are delivered to.

    :param trouble: where trouble is told
    :param make_dispatch: what is needed once there is a remote output; None where it is called, too
    """

    def __init__(self, trouble: Trouble, make_dispatch: Callable[[], Dispatch | None]) -> None:
        self.dispatch: Dispatch | None = None
        self._make_dispatch = make_dispatch
        self._trouble = trouble
        self._inline: dict[int, InlineDelivery] = {}  # by identity: an output need not be hashable
        self._adopted: dict[int, Sender] = {}
        self._encoder: MediaSender | None = None
        self._seen: list[int] = []  # the outputs' identities at the last look
        self._exclusions: set[tuple[str, ...]] = set()  # those that were looked at

    # Outputs that are delivered to

    def current(self, outputs: Sequence[sb3.KVWriter], from_start: bool = False) -> list[sb3.KVWriter]:
        """The outputs as they are now; new remote ones are delivered to from now on, removed ones finished.

        :param from_start: whether new ones get all that the journal has
        """
        outputs = list(outputs)
        listed = list(map(id, outputs))
        if listed == self._seen:  # as at nearly every dump
            return outputs
        self._seen = listed
        for output in outputs:
            if isinstance(output, Sender) and output.remote and id(output) not in self._adopted:
                self._adopt(output, from_start)
        for key in self._adopted.keys() - set(listed):
            adopted = self._adopted.pop(key)
            if self.dispatch is not None:
                self.dispatch.remove(adopted)
        return outputs

    def _adopt(self, output: Sender, from_start: bool) -> None:
        if id(output) in self._inline:
            return
        try:
            self.dispatch = self.dispatch or self._make_dispatch()
            if self.dispatch is None:
                self._delivery(output)
                return
            self._adopted[id(output)] = output
            self.dispatch.adopt(output, from_start)
        except Exception as error:  # an output's trouble must not reach the training loop
            told = f"{output.name} is not delivered to: {describe(error)}. The journal keeps all."
            self._trouble.tell(f"adopt {output.name}", told, error)

    def encode_from_here(self) -> None:
        """Have the files in ``media/`` encoded, from the run's next record on."""
        if self._encoder is not None:
            return
        self._encoder = MediaSender()
        try:
            self.dispatch = self.dispatch or self._make_dispatch()
            if self.dispatch is not None:
                self.dispatch.adopt(self._encoder)
        except Exception as error:  # as above
            told = f"videos and images stay as they were recorded: {describe(error)}"
            self._trouble.tell("adopt media", f"{told}. rl-logging sync encodes them.", error)

    # Outputs that are called

    def write(
        self,
        outputs: list[sb3.KVWriter],
        records: Sequence[Record],
        values: Mapping[Any, Any],
        excluded: Mapping[Any, Any],
        step: int,
    ) -> None:
        """Hand over one dump.

        :param records: none where nothing was recorded; foreign outputs are called all the same
        :param values: what was recorded, as SB3 hands it to its outputs
        """
        for record in records:
            self._check_exclusions(record, outputs)
        for output in outputs:
            if isinstance(output, Sender):
                for record in records:
                    self._take(output, record)
            elif isinstance(output, sb3.KVWriter):
                self._call(output, "write", step, dict(values), dict(excluded), step)
            else:
                kind = type(output).__name__
                told = f"a {kind} in output_formats is no KVWriter: it gets nothing"
                self._trouble.tell(f"no output {kind}", told)
        if self._encoder is not None and self.dispatch is None:
            for record in records:
                self._take(self._encoder, record)

    def hand(self, outputs: list[sb3.KVWriter], record: Record) -> None:
        """Hand over a record that only outputs of ours know what to do with."""
        for output in outputs:
            if isinstance(output, Sender):
                self._take(output, record)

    def message(self, outputs: list[sb3.KVWriter], record: Record, texts: Sequence[str]) -> None:
        """Hand over one message."""
        for output in outputs:
            if isinstance(output, Sender):
                self._take(output, record)
            elif isinstance(output, sb3.SeqWriter):
                self._call(output, "write_sequence", record.step, list(texts))

    def close(self, outputs: list[sb3.KVWriter], step: int) -> None:
        """Finish the outputs that are called."""
        for output in outputs:
            if not isinstance(output, Sender):
                self._call(output, "close", step)
            elif id(output) not in self._adopted:
                self._delivery(output)
        for delivery in self._inline.values():
            delivery.close()

    def health(self) -> dict[str, Health]:
        """How each output of ours does, by name."""
        here = {
            delivery.output.name: Health(
                delivery.delivered,
                delivery.missed,
                sum(delivery.output.refused.values()),
                0,
                delivery.last_error,
            )
            for delivery in self._inline.values()
        }
        return {**here, **(self.dispatch.health() if self.dispatch else {})}

    def _take(self, output: Sender, record: Record) -> None:
        if id(output) not in self._adopted:
            self._delivery(output).deliver(record)

    def _delivery(self, output: Sender) -> InlineDelivery:
        delivery = self._inline.get(id(output))
        if delivery is None:
            delivery = self._inline[id(output)] = InlineDelivery(output)
        return delivery

    def _call(self, output: Any, method: str, step: int, *args: Any) -> None:
        """Call an output that is not ours as SB3 does, but isolated."""
        try:
            getattr(output, method)(*args)
        except Exception as error:  # the user's own output must not stop the others
            name = type(output).__name__
            told = f"{name}.{method} failed at step {step}: {describe(error)}. Training goes on."
            self._trouble.tell(f"{name} {type(error).__name__}", told, error)

    def _check_exclusions(self, record: Record, outputs: list[sb3.KVWriter]) -> None:
        """Say so when ``exclude`` names what is no output, with this logger or any other."""
        new = set(record.excluded.values()) - self._exclusions
        if not new:
            return
        self._exclusions |= new
        known = {*formats(), *(getattr(output, "name", "") for output in outputs)}
        for name in {name for names in new for name in names} - known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self._trouble.tell(f"exclude {name[:100]}", f"exclude={name!r} is no output{hint}")
