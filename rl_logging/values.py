"""What can be recorded, and the one place that turns it into plain values.

A plain value is a ``bool``, ``int``, ``float``, ``str``, ``None``, a list or dict of
those, a numeric :class:`numpy.ndarray`, or a rich value (see :mod:`rl_logging.rich`).
Nothing here raises, whatever it is given, and nothing here imports torch or SB3: their
types exist only if somebody else did.
"""

import math
import numbers
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rl_logging.rich import Media, Table, rich_kind

Value = Any
"""A plain value, as the module describes it."""

_TEXT_ARRAY_SIZE = 8  # a longer array is shown by its shape
_CONTAINERS = (Mapping, list, tuple, set, frozenset)
_USER = re.compile(r"(?<=://)[^/\s]*@")  # what stands before a host's name in an address
_HEAD, _TAIL = 160, 120  # characters of an error's text; what it is about stands at both ends
_MAX_DEPTH = 32  # deeper nesting, or a list that holds itself, becomes text
# The common numbers, which need no closer look: a run records hundreds at every dump.
NUMBERS: dict[type, Callable[[Any], Value]] = {
    float: float,
    int: int,
    bool: bool,
    np.float64: float,
    np.float32: float,
    np.int64: int,
    np.int32: int,
}
_PRINTABLE_INT_BITS = 4096  # Python refuses to print integers of more than 4,300 digits


def is_number(value: Value) -> bool:
    """Whether a plain value is a number; a bool counts as one."""
    return isinstance(value, (int, float))


def is_rich(value: Value) -> bool:
    """Whether a plain value is an array or has a file of its own."""
    return isinstance(value, (Media, np.ndarray))


def detached(value: Any) -> Any:
    """The value without the graph that a torch tensor would keep alive."""
    if type(value) in NUMBERS:
        return value
    torch = sys.modules.get("torch")
    return value.detach() if torch is not None and isinstance(value, torch.Tensor) else value


def to_plain(value: Any) -> Value:
    """Turn whatever was recorded into a plain value, detached from the caller's buffers.

    Numbers of numpy and torch, and arrays of one element, become Python numbers: what
    ``float(value)`` or ``int(value)`` gives. An object that is nothing of the kind
    becomes its text.
    """
    try:
        number = NUMBERS.get(type(value))
        return _convert(value) if number is None else number(value)
    except Exception:  # the object's own code may raise anything; its text is what is left of it
        return to_text(value)


def _convert(value: Any) -> Value:
    if value is None:
        return None
    if isinstance(value, str):
        return to_utf8(str.__str__(value))
    if isinstance(value, np.generic):
        return _from_array(np.asarray(value))
    if is_array(value):
        return _from_array(to_numpy(value))
    if isinstance(value, numbers.Integral):
        return int(value)
    if hasattr(value, "__float__") and hasattr(value, "__mul__") and not hasattr(value, "shape"):
        return float(value)  # Decimal, Fraction and their like
    if isinstance(value, _CONTAINERS):
        return _nested(value)
    if rich_kind(value) is not None:
        return value
    if hasattr(value, "__array__") and hasattr(value, "dtype"):
        return _from_array(np.asarray(value))
    return to_text(value)


def _nested(value: Any, parents: tuple[int, ...] = ()) -> Value:
    if not issubclass(type(value), _CONTAINERS):  # isinstance() would ask the object itself
        return _leaf(to_plain(value))
    if id(value) in parents or len(parents) == _MAX_DEPTH:
        return to_text(value)
    parents = (*parents, id(value))
    if isinstance(value, Mapping):
        return {to_text(key): _nested(item, parents) for key, item in value.items()}
    return [_nested(item, parents) for item in value]


def _leaf(plain: Value) -> Value:
    if isinstance(plain, np.ndarray):
        return plain.tolist()
    if isinstance(plain, int):  # one too long to print cannot stand in JSON
        return plain if plain.bit_length() <= _PRINTABLE_INT_BITS else number_text(plain, digits=0)
    return plain if rich_kind(plain) is None else short_text(plain)


def is_array(value: Any) -> bool:
    """Whether it is an array of numpy or a tensor of torch."""
    torch = sys.modules.get("torch")
    kind = type(value)  # isinstance() would ask the object itself
    return issubclass(kind, np.ndarray) or (torch is not None and issubclass(kind, torch.Tensor))


def to_numpy(value: Any) -> np.ndarray:
    """An array, tensor or list as an array; its buffer is shared where it can be."""
    is_tensor = is_array(value) and not isinstance(value, np.ndarray)
    return _tensor_to_numpy(value) if is_tensor else np.asarray(value)


def _tensor_to_numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    # numpy has no bfloat16 and no float8; float32 holds both exactly.
    reduced = tensor.is_floating_point() and tensor.element_size() < 4
    array: np.ndarray = (tensor.float() if reduced else tensor).resolve_conj().resolve_neg().numpy()
    return array


def _from_array(array: np.ndarray) -> Value:
    if array.dtype.kind not in "biuf":
        listed = array.tolist()
        return _nested(listed) if isinstance(listed, list) else to_text(listed)
    if array.dtype.char == "g":  # long double: no JSON writer knows it
        with np.errstate(over="ignore"):
            array = array.astype(np.float64)
    if array.size != 1:
        return np.array(array)  # a copy: the caller may fill its buffer again at once
    element = array.reshape(()).item()
    return float(element) if array.dtype.kind == "f" else element


def to_utf8(text: str) -> str:
    """The text with lone surrogates, which no file can hold, written as ``\\udcff``."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def to_text(value: Any) -> str:
    """``str(value)`` that UTF-8 can hold; a value that refuses gives its type's name."""
    try:
        return to_utf8(str(value))
    except Exception as error:  # the object's own code may raise anything
        return f"<{type(value).__name__} whose text failed: {type(error).__name__}>"


def short_text(value: Value) -> str:
    """One short line for a plain value that is neither number nor text.

    :return: such as ``<video 120 frames>``, ``<array 84x84 uint8>``, ``[1 2 3]``
    """
    if isinstance(value, Media):
        return value.text
    if isinstance(value, np.ndarray):
        if value.size <= _TEXT_ARRAY_SIZE:
            return " ".join(str(value).split())
        return f"<array {_shape(value)} {value.dtype}>"
    kind = rich_kind(value)
    return to_text(value) if kind is None else _rich_text(value, kind)


def _rich_text(value: Any, kind: str) -> str:
    try:
        if kind == "video":
            _, frames, _, _, _ = value.frames.shape  # N, T, C, H, W
            return f"<video {frames} frames>"
        if kind == "table":
            table = Table.of(value)
            return f"<table {len(table.columns)} columns {len(table.rows)} rows>"
        return f"<image {_shape(value.image)}>" if kind == "image" else f"<{kind}>"
    except Exception:  # what it holds may be anything
        return f"<{kind}>"


def _shape(array: Any) -> str:
    return "x".join(str(n) for n in array.shape)


def number_text(value: float, digits: int) -> str:
    """A number for people: integers whole, the rest to so many significant digits."""
    if not isinstance(value, int):
        return f"{value:.{digits}g}"
    if value.bit_length() > _PRINTABLE_INT_BITS:
        return f"<integer of {value.bit_length()} bits>"
    return str(value)


def to_float(value: float) -> float:
    """The number as a float; an integer beyond a float's range becomes an infinity."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def without_users(text: str) -> str:
    """A text without the names and passwords in its addresses."""
    return _USER.sub("", text)


def describe(error: BaseException) -> str:
    """An error's type and text, in one line, with no password, and nothing that steers a terminal."""
    words = without_users(" ".join(to_text(error).split()))
    if len(words) > _HEAD + _TAIL:
        root = _root(error)
        end = words[-_TAIL:]
        if isinstance(root, OSError) and root.strerror:
            end = f"{type(root).__name__}: {root.strerror}"
        words = f"{words[:_HEAD]} … {end}"
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)
    return f"{type(error).__name__}: {text}".rstrip(": ")


def _root(error: BaseException) -> BaseException:
    """The error with which it began."""
    seen = {id(error)}
    while (cause := error.__cause__ or error.__context__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        error = cause
    return error
