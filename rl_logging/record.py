"""Record: what one ``dump`` (or one message) hands to every output, and its line in the journal.

A line is one JSON object. Its first field is the checksum of all that follows, at a
fixed place, so that a torn or damaged line is told from a good one without parsing it::

    {"crc":"5d41402a","v":1,"seq":7,"kind":"metrics","step":2048,"time":1732180000.123,"values":{…}}

Numbers, texts, ``true``, ``false`` and ``null`` stand as they are. Everything else is an
object whose ``"$"`` names it: ``float`` (NaN and infinities), ``int`` (beyond 64 bits, in
hexadecimal), ``json`` (lists and dicts), ``numbers`` (an array of at most 1 MiB, its bytes in
base64), or the kind of a rich value.
"""

import base64
import functools
import json
import math
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson

from rl_logging.errors import JournalError
from rl_logging.values import NUMBERS, Described, Value, rich_kind, short_text, to_plain, to_text, to_utf8

VERSION = 1
METRICS, TEXT, LIFECYCLE = "metrics", "text", "lifecycle"
RESUMED, CLOSED = "resumed", "closed"  # what happened to the run
RESERVED_KEYS = frozenset({"step", "time", "global_step"})
_CRC_START, _BODY_START = len(b'{"crc":"'), len(b'{"crc":"00000000",')
_INT64 = 1 << 63
_ARRAY_BYTES = 1 << 20  # of an array that stands in a line; of a larger one there is a word
_PLAIN = frozenset({float, int, bool, str})
Exclusions = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Record:
    """One dump or one message; it never changes once it is made.

    :param step: the training step, a Python integer
    :param time: seconds since 1970, to the millisecond
    :param values: plain values by key (see :mod:`rl_logging.values`)
    :param excluded: the outputs that shall not get a key, by key
    :param kind: ``"metrics"``, ``"text"`` (a message) or ``"lifecycle"``
    :param seq: its number in the journal, from 1; 0 when it is in none
    """

    step: int
    time: float
    values: Mapping[str, Value]
    excluded: Exclusions = field(default_factory=dict)
    kind: str = METRICS
    seq: int = 0

    def without(self, output: str) -> "Record":
        """The record with only what ``output``, an output's name, may have."""
        if not self.excluded:
            return self
        hidden = self.excluded
        values = {k: v for k, v in self.values.items() if k not in hidden or output not in hidden[k]}
        return replace(self, values=values, excluded={})


def make_record(key_values: Mapping[Any, Any], key_excluded: Mapping[Any, Any], step: int) -> Record:
    """Make a record of what was recorded, whatever that is.

    :param key_values: values by key, as SB3's writers get them
    :param key_excluded: outputs by key: a name, several, or None
    :param step: a Python integer, see :func:`to_step`
    """
    values: dict[str, Value] = {}
    excluded: dict[str, tuple[str, ...]] = {}
    for key, value in key_values.items():
        name = _text_name(key) if type(key) is str else key_name(key)
        while name in values:  # two keys that differ only in type are both kept
            name += "_"
        number = NUMBERS.get(type(value))
        values[name] = to_plain(value) if number is None else number(value)
        names = key_excluded.get(key)
        if names and names != ("",):
            excluded[name] = exclusion_names(names)
    return Record(step, round(time.time(), 3), values, excluded)


def message_record(message: str, level: str, step: int) -> Record:
    """The record of one message, such as ``logger.info`` writes."""
    values = {"message": to_utf8(message), "level": level}
    return Record(step, round(time.time(), 3), values, kind=TEXT)


def lifecycle_record(event: str, step: int, **about: Value) -> Record:
    """The record of what happened to the run itself.

    :param event: ``"resumed"`` or ``"closed"``
    """
    return Record(step, round(time.time(), 3), {"event": event, **about}, kind=LIFECYCLE)


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


def encode(record: Record) -> bytes:
    """One line for the journal, with its newline."""
    body: dict[str, Any] = {
        "v": VERSION,
        "seq": record.seq,
        "kind": record.kind,
        "step": record.step,
        "time": record.time,
        "values": record.values,
    }
    if record.excluded:
        body["excluded"] = record.excluded
    text = _plain_json(body)
    if text is None:
        body["values"] = {key: _tagged(value) for key, value in record.values.items()}
        text = orjson.dumps(body)
    return b'{"crc":"%08x",' % zlib.crc32(text[1:]) + text[1:] + b"\n"


def _plain_json(body: dict[str, Any]) -> bytes | None:
    """The body as JSON, or None where orjson would not keep every value exactly."""
    if not _PLAIN.issuperset(map(type, body["values"].values())):
        return None
    try:
        text = orjson.dumps(body)
    except TypeError:  # an integer beyond 64 bits
        return None
    return None if b"null" in text else text  # what orjson writes for NaN and infinities


def _tagged(value: Value) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$": "float", "text": repr(value)}
    if isinstance(value, int):
        fits = isinstance(value, bool) or -_INT64 <= value < _INT64
        return value if fits else {"$": "int", "text": hex(value)}
    if isinstance(value, (dict, list)):
        return {"$": "json", "text": json.dumps(value)}
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.nbytes <= _ARRAY_BYTES:
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"$": "numbers", "text": data, "dtype": value.dtype.str, "shape": value.shape}
    return {"$": rich_kind(value) or "array", "text": short_text(value)}


def decode(line: bytes) -> Record:
    """Read one line of a journal, with or without its newline.

    :raises JournalError: the line is torn or damaged, or this version cannot read it
    """
    body = line.rstrip(b"\n")
    if line[:_CRC_START] != b'{"crc":"' or not _sum_holds(body):
        raise JournalError("the checksum does not hold")
    try:
        fields = orjson.loads(b"{" + body[_BODY_START:])
        if fields["v"] <= VERSION:
            return _record(fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise JournalError("its checksum holds, but it is no record") from error
    raise JournalError(f"the line has version {fields['v']}; this package reads up to {VERSION}")


def _record(fields: dict[str, Any]) -> Record:
    return Record(
        step=fields["step"],
        time=fields["time"],
        values={key: _untagged(value) for key, value in fields["values"].items()},
        excluded={key: tuple(names) for key, names in fields.get("excluded", {}).items()},
        kind=fields["kind"],
        seq=fields["seq"],
    )


def _sum_holds(body: bytes) -> bool:
    return body[_CRC_START : _CRC_START + 8] == b"%08x" % zlib.crc32(body[_BODY_START:])


def _untagged(value: Any) -> Value:
    if type(value) is not dict:
        return value
    kind, text = value["$"], value["text"]
    if kind == "float":
        return float(text)
    if kind == "int":
        return int(text, 16)
    if kind == "numbers":
        return np.frombuffer(base64.b64decode(text), value["dtype"]).reshape(value["shape"])
    return json.loads(text) if kind == "json" else Described(kind, text)
