"""OutputFormat: what SB3's logger calls, over a :class:`~rl_logging.formats.base.Sender`."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from stable_baselines3.common.logger import FormatUnsupportedError, KVWriter, SeqWriter

from rl_logging.formats.base import Sender
from rl_logging.record import make_record, message_record, to_step
from rl_logging.redaction import Redaction
from rl_logging.rich import rich_kind
from rl_logging.values import Value, is_rich, to_plain, to_text


@functools.cache
def secrets() -> Redaction:
    """What hides secrets where no logger of ours has done it."""
    return Redaction()


class OutputFormat(Sender, KVWriter, SeqWriter):
    """Base of all outputs: works in our ``Logger`` and in SB3's own.

    Our ``Logger`` calls ``handle(record)``; SB3's calls ``write`` and ``write_sequence``.
    A subclass writes ``emit(record)``.
    """

    unsupported: ClassVar[frozenset[str]] = frozenset()  # kinds shown by a word only

    def write(self, key_values: Mapping[str, Any], key_excluded: Mapping[str, Any], step: int = 0) -> None:
        """Write one dump, as SB3's logger calls it.

        :raises FormatUnsupportedError: a value is shown by a word only, as SB3's outputs
            raise; the whole row is written by then
        """
        record = make_record(key_values, key_excluded, to_step(step), _take).without(self.name)
        self.handle(record)
        for value in record.values.values():
            if (kind := rich_kind(value)) in self.unsupported:
                raise FormatUnsupportedError([self.name], str(kind))

    def write_sequence(self, sequence: Iterable[Any]) -> None:
        """Write one message, as SB3's logger calls it."""
        message = secrets().text(" ".join(map(to_text, sequence)))
        self.handle(message_record(message, "info", step=0))


def _take(key: str, value: Any, step: int) -> Value:
    plain = to_plain(value)
    is_safe = isinstance(plain, (int, float)) or is_rich(plain) or rich_kind(plain) is not None
    return plain if is_safe else next(iter(secrets().nested({key: plain}).values()))
