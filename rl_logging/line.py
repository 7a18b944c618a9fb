"""A record as one line of the journal.

A line is one JSON object. Its first field is the checksum of all that follows, at a
fixed place, so that a torn or damaged line is told from a good one without parsing it::

    {"crc":"5d41402a","v":1,"seq":7,"kind":"metrics","step":2048,"time":1732180000.123,"values":{…}}

Numbers, texts, ``true``, ``false`` and ``null`` stand as they are. Everything else is an
object whose ``"$"`` names it: ``float`` (NaN and infinities), ``int`` (beyond 64 bits, in
hexadecimal), ``json`` (lists and dicts), ``numbers`` (an array of at most 1 MiB, its bytes in
base64), or the kind of a rich value, with its ``file`` in the run folder and what it is
``about``.
"""

import base64
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from rl_logging.errors import JournalError
from rl_logging.record import Record
from rl_logging.rich import Media, rich_kind
from rl_logging.values import Value, short_text

VERSION = 1
ARRAY_BYTES = 1 << 20  # of an array that stands in a line; a larger one has a file
_CRC_START, _BODY_START = len(b'{"crc":"'), len(b'{"crc":"00000000",')
_INT64 = 1 << 63
_PLAIN = frozenset({float, int, bool, str})


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
    if record.axis:
        body["axis"] = record.axis
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
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.nbytes <= ARRAY_BYTES:
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"$": "numbers", "text": data, "dtype": value.dtype.str, "shape": value.shape}
    if not isinstance(value, Media):
        return {"$": rich_kind(value) or "array", "text": short_text(value)}
    file = {"file": value.file} if value.file else {}
    about = {"about": json.dumps(value.about)} if value.about else {}
    return {"$": value.kind, "text": value.text, **file, **about}


def decode(line: bytes, folder: Path | None = None) -> Record:
    """Read one line of a journal, with or without its newline.

    :param folder: the run folder, in which the files of rich values are
    :raises JournalError: the line is torn or damaged, or this version cannot read it
    """
    body = line.rstrip(b"\n")
    if line[:_CRC_START] != b'{"crc":"' or not _sum_holds(body):
        raise JournalError("the checksum does not hold")
    try:
        fields = orjson.loads(b"{" + body[_BODY_START:])
        if fields["v"] <= VERSION:
            return _record(fields, folder)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise JournalError("its checksum holds, but it is no record") from error
    raise JournalError(f"the line has version {fields['v']}; this package reads up to {VERSION}")


def _record(fields: dict[str, Any], folder: Path | None) -> Record:
    return Record(
        step=fields["step"],
        time=fields["time"],
        values={key: _untagged(value, folder) for key, value in fields["values"].items()},
        excluded={key: tuple(names) for key, names in fields.get("excluded", {}).items()},
        kind=fields["kind"],
        seq=fields["seq"],
        axis=fields.get("axis", ""),
    )


def _sum_holds(body: bytes) -> bool:
    return body[_CRC_START : _CRC_START + 8] == b"%08x" % zlib.crc32(body[_BODY_START:])


def _untagged(value: Any, folder: Path | None) -> Value:
    if type(value) is not dict:
        return value
    kind, text = value["$"], value["text"]
    if kind == "float":
        return float(text)
    if kind == "int":
        return int(text, 16)
    if kind == "numbers":
        return np.frombuffer(base64.b64decode(text), value["dtype"]).reshape(value["shape"])
    if kind == "json":
        return json.loads(text)
    return Media(kind, text, value.get("file", ""), json.loads(value.get("about", "{}")), folder)
