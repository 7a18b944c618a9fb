"""What every output is: something that takes records, with no word of SB3 or torch.

:class:`Sender` is the half of an output that does the work, so that a process that
trains nothing can deliver records without importing SB3. What SB3's logger calls is the
adapter in :mod:`rl_logging.formats.sb3`.
"""

import hashlib
import inspect
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rl_logging.contents import count
from rl_logging.errors import Trouble
from rl_logging.record import ARTIFACT, HYPERPARAMETERS, METRICS, PROVENANCE, TAGS, TEXT, Record
from rl_logging.values import is_number, is_rich, short_text, to_float
from rl_logging.verdict import verdict

History = dict[str, list[tuple[int, float]]]
"""The points (step, value) of each key, in the order in which they arrived."""


class Sender:
    """One destination of records.

    A subclass writes :meth:`emit`, and what else it can do. Each constructor parameter is
    kept as an attribute of its own name, so that the output can be built again from
    :meth:`arguments` in another process.

    :param name: what ``exclude`` calls this output; by default the class's own name
    """

    name: str = ""
    remote: ClassVar[bool] = False  # whether it may be slow or away, as a tracker's server is
    batches: ClassVar[bool] = False  # whether handle_all takes many records at once, all or none
    limit: ClassVar[str] = "it is beyond this output's limits"  # why a number is refused, for the message

    def __init__(self, *, name: str | None = None) -> None:
        self.name = name or self.name or type(self).__name__
        self.trouble = Trouble()
        self.refused: dict[str, int] = {}
        self.refusal = ""  # the last one
        self.is_broken = False  # whether only a new process could go on
        self.leave_open = False  # whether the run is the user's to end
        self.located: Mapping[str, Any] = {}  # the run that an earlier process, or another, has opened
        self._names: dict[str, str] = {}

    @classmethod
    def in_folder(cls, folder: Path, /, **arguments: Any) -> "Sender":
        """Build the output so that it keeps what is local in a run folder."""
        return cls(**{"folder": folder, **arguments})

    def arguments(self) -> dict[str, Any]:
        """What the constructor was given."""
        given: dict[str, Any] = {}
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = getattr(self, name)
            given.update(value if parameter.kind is parameter.VAR_KEYWORD else {name: value})
        return given

    def handle(self, record: Record) -> None:
        """Take a record: leave out what is excluded here, and write the rest."""
        emits = {
            METRICS: self.emit,
            TEXT: self.emit_text,
            HYPERPARAMETERS: self.emit_hyperparameters,
            TAGS: self.emit_tags,
            ARTIFACT: self.emit_artifact,
            PROVENANCE: self.emit_provenance,
        }
        if record.kind in emits and (shown := record.without(self.name)).values:
            emits[record.kind](shown)

    def handle_all(self, records: Sequence[Record]) -> None:
        """Take several records, in order."""
        for record in records:
            self.handle(record)

    def verdict(self, error: Exception) -> str:
        """What is to be done after an error of :meth:`handle`: ``"skip"``, ``"retry"`` or ``"park"``."""
        return verdict(error)

    def emit(self, record: Record) -> None:
        """Write a record; what is excluded here is no longer in it."""
        raise NotImplementedError

    def emit_text(self, record: Record) -> None:
        """Write a message, ``record.values["message"]``; an output without a place for it does not."""

    def emit_hyperparameters(self, record: Record) -> None:
        """Write hyperparameters, nested plain values; what came before under other names stays."""

    def emit_tags(self, record: Record) -> None:
        """Write tags, texts by name."""

    def emit_artifact(self, record: Record) -> None:
        """Write a file or folder: one :class:`~rl_logging.rich.Media` by its name."""

    def emit_provenance(self, record: Record) -> None:
        """Write what produced the run, nested plain values (see :mod:`rl_logging.provenance`)."""

    def close(self) -> None:
        """Finish; a second call does nothing."""

    def where(self) -> str:
        """In one line, where a remote output's data goes."""
        raise NotImplementedError

    def viewer(self) -> str | None:
        """The command that opens this output's own user interface on its data, if it has one offline."""
        return None

    # A run that is opened once, and continued by other processes

    @property
    def is_open(self) -> bool:
        """Whether it can take records now, without opening a run first."""
        return True

    @property
    def run(self) -> Any:
        """What records are written into; it is opened if it was not."""
        return self

    def joins(self) -> bool:
        """Whether it writes into a run that the user opened in this process."""
        return False

    def service(self) -> str:
        """Where runs live, such as a server's address: a run of one service is unknown to another."""
        return ""

    def reference(self) -> dict[str, Any]:
        """Plain values by which another process can continue the open run, or read it."""
        return {}

    def resume(self, reference: Mapping[str, Any]) -> bool:
        """Continue an earlier run instead of opening a new one.

        :param reference: that run's :meth:`reference`
        :return: whether what was delivered to it stays there; if not, all has to be delivered again
        """
        self.located = reference
        return True

    def start_over(self) -> None:
        """Make room for all records to be delivered again, where the output would show them twice."""

    def settle(self) -> bool:
        """Whether all that was handed over is safe from the death of this process."""
        return True

    def end(self, status: str) -> None:
        """Finish, saying how the run went; after an error it can be tried again.

        :param status: ``"finished"``, ``"failed"`` or ``"killed"``
        """
        self.close()

    def url(self) -> str:
        """The address or folder of the run; empty while there is none."""
        return ""

    # What arrives, and reading it back

    def numbers(self, record: Record) -> dict[str, float]:
        """The numbers of a record as this output must hold them: its names, its limits."""
        numbers = ((key, value) for key, value in record.values.items() if is_number(value))
        held = ((key, self.held(value, record.step)) for key, value in numbers)
        return {self.rename(key): value for key, value in held if value is not None}

    def taken(self, record: Record) -> dict[str, float]:
        """The numbers, as :meth:`numbers` gives them; what cannot be held is counted and said."""
        numbers = self.numbers(record)
        if len(numbers) < sum(map(is_number, record.values.values())):
            for key, value in record.values.items():
                if is_number(value) and self.held(value, record.step) is None:
                    self.refuse(key, record.step, self.limit)
        return numbers

    def held(self, value: float, step: int) -> float | None:
        """A number as it can be held here, or None where it cannot."""
        return to_float(value)

    def texts(self, record: Record) -> dict[str, str]:
        """All that is neither number nor rich, as text. None stands for nothing."""
        return {
            self.rename(key): value if isinstance(value, str) else short_text(value)
            for key, value in record.values.items()
            if value is not None and not is_number(value) and not is_rich(value)
        }

    def history(self) -> History:
        """The numbers that stand in this output, read by its own reader, after :meth:`close`."""
        raise NotImplementedError

    def expected(self, records: Iterable[Record]) -> History:
        """What :meth:`history` must give when these records were handled."""
        points: History = defaultdict(list)
        for record in records:
            if record.kind == METRICS:
                for key, value in self.numbers(record.without(self.name)).items():
                    points[key].append((record.step, value))
        return dict(points)

    def contents(self) -> dict[str, int]:
        """How much of each kind but numbers stands in this output, by its own reader, after :meth:`close`."""
        return {}

    def expected_contents(self, records: Iterable[Record]) -> dict[str, int]:
        """What :meth:`contents` must give when these records were handled."""
        return count(record.without(self.name) for record in records)

    # Keys and values that an output cannot hold

    def rename(self, key: str) -> str:
        """The key as this output takes it.

        A key that :meth:`clean` has to change gets eight digits of its SHA-256, so that two
        keys never meet in one.
        """
        name = self._names.get(key)
        if name is None:
            name = self.clean(key)
            if name != key:
                name = with_digest(name, key)
            self._names[key] = name
        return name

    def renamed(self) -> dict[str, str]:
        """The original of each key that had to be changed."""
        return {name: key for key, name in self._names.items() if name != key}

    def clean(self, key: str) -> str:
        """The key with what this output refuses replaced."""
        return key

    def refuse(self, key: str, step: int, reason: str) -> None:
        """Count a value that cannot be held here, and say so once for each reason."""
        self.refused[key] = self.refused.get(key, 0) + 1
        self.refusal = f"{key!r} at step {step}: {reason}"
        told = f"{self.name}: leaves out {self.refusal}. The journal and the other outputs have it."
        self.trouble.tell(reason, told)


def with_digest(name: str, key: str) -> str:
    """A changed key's name, made unlike any other's by its original."""
    return f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
