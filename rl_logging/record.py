"""Record: what one ``dump`` (or one message, or one file) hands to every output."""

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rl_logging.values import NUMBERS, Value, to_plain, to_text, to_utf8

METRICS, TEXT, LIFECYCLE = "metrics", "text", "lifecycle"
HYPERPARAMETERS, TAGS, ARTIFACT, PROVENANCE = "hyperparameters", "tags", "artifact", "provenance"
RESUMED, CLOSED = "resumed", "closed"  # what happened to the run
RESERVED_KEYS = frozenset({"step", "time", "global_step"})
_INT64 = 1 << 63
Exclusions = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Record:
    """One dump or one message; it never changes once it is made.

    :param step: the training step, a Python integer
    :param time: seconds since 1970, to the millisecond
    :param values: plain values by key (see :mod:`rl_logging.values`)
    :param excluded: the outputs that shall not get a key, by key
    :param kind: ``"metrics"``, ``"text"`` (a message), ``"hyperparameters"``, ``"tags"``,
        ``"artifact"``, ``"provenance"`` or ``"lifecycle"``
    :param seq: its number in the journal, from 1; 0 when it is in none
    :param axis: the metric that counts as its step; empty for the training step
    """

    step: int
    time: float
    values: Mapping[str, Value]
    excluded: Exclusions = field(default_factory=dict)
    kind: str = METRICS
    seq: int = 0
    axis: str = ""

    def without(self, output: str) -> "Record":
        """The record with only what ``output``, an output's name, may have."""
        if not self.excluded:
            return self
        hidden = self.excluded
        values = {k: v for k, v in self.values.items() if k not in hidden or output not in hidden[k]}
        return replace(self, values=values, excluded={})


def make_record(
    key_values: Mapping[Any, Any],
    key_excluded: Mapping[Any, Any],
    step: int,
    take: Callable[[str, Any, int], Value] = lambda key, value, step: to_plain(value),
) -> Record:
    """Make a record of what was recorded, whatever that is.

    :param key_values: values by key, as SB3's writers get them
    :param key_excluded: outputs by key: a name, several, or None
    :param step: a Python integer, see :func:`to_step`
    :param take: makes a plain value of a value that is no common number
    """
    values: dict[str, Value] = {}
    excluded: dict[str, tuple[str, ...]] = {}
    number_of, names_of = NUMBERS.get, key_excluded.get  # looked up once: this runs for each value
    for key, value in key_values.items():
        name = _text_name(key) if type(key) is str else key_name(key)
        while name in values:  # two keys that differ only in type are both kept
            name += "_"
        number = number_of(type(value))
        values[name] = take(name, value, step) if number is None else number(value)
        names = names_of(key)
        if names and names != ("",):
            excluded[name] = exclusion_names(names)
    return Record(step, now(), values, excluded)


def now() -> float:
    """Seconds since 1970, to the millisecond."""
    return round(time.time(), 3)


def message_record(message: str, level: str, step: int) -> Record:
    """The record of one message, such as ``logger.info`` writes."""
    values = {"message": to_utf8(message), "level": level}
    return Record(step, now(), values, kind=TEXT)


def lifecycle_record(event: str, step: int, **about: Value) -> Record:
    """The record of what happened to the run itself.

    :param event: ``"resumed"`` or ``"closed"``
    """
    return Record(step, now(), {"event": event, **about}, kind=LIFECYCLE)


def key_name(key: Any) -> str:
    """The name under which a key is kept everywhere.

    A key that is no text gets its type, ``1 (int)``, so that ``1`` and ``"1"`` stay apart;
    ``step``, ``time`` and ``global_step``, which outputs use themselves, get an underscore.
    """
    is_text = issubclass(type(key), str)  # isinstance() would ask the object itself
    return _text_name(str.__str__(key) if is_text else f"{to_text(key)} ({type(key).__name__})")


@functools.lru_cache(maxsize=10_000)  # a run uses the same keys at every dump
def _text_name(key: str) -> str:
    name = to_utf8(key)
    return name + "_" if name.rstrip("_") in RESERVED_KEYS else name


def exclusion_names(names: Any) -> tuple[str, ...]:
    """The names of outputs in what was given as ``exclude``, whatever that is."""
    try:
        several = not isinstance(names, str) and isinstance(names, Iterable)
        return tuple(map(to_text, names)) if several else (to_text(names),)
    except Exception:  # the object's own code may raise anything; its text is what is left of it
        return (to_text(names),)


def to_step(step: Any) -> int:
    """The step as a Python integer; a fraction is cut off.

    :raises ValueError: it is no finite number of at most 64 bits
    """
    try:
        whole = step if type(step) is int else int(step)
    except Exception as error:  # the object's own code may raise anything
        raise ValueError(f"a step is a finite number, not {to_text(step)!r}") from error
    if isinstance(step, (str, bytes)) or not -_INT64 <= whole < _INT64:
        raise ValueError(f"a step is a number of at most 64 bits, not {to_text(step)!r}")
    return whole
