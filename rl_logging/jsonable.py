"""Rows of a batch as JSON, whatever stands in them."""

import json
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import numpy as np

from rl_logging.values import Value, is_array, short_text, to_numpy, to_plain, to_text

Hide = Callable[[Value], Value]
_MAX_DEPTH = 32  # deeper nesting, or a list that holds itself, becomes text
_NUMBERS = frozenset({bool, float, int, type(None)})
_CONTAINERS = (Mapping, list, tuple, Set)


def row_line(row: Mapping[str, Any], hide: Hide) -> bytes:
    """A row as one line of JSON, with its newline.

    :param hide: takes the secrets out of plain values
    """
    plain = {name: _plain(value) for name, value in row.items()}
    numbers = {name: value for name, value in plain.items() if _is_numbers(value)}
    safe = hide({**plain, **dict.fromkeys(numbers)})  # to look at each number would take most of the time
    pairs = zip(plain, safe.items(), strict=True)
    return (
        json.dumps({safe_name: numbers.get(name, text) for name, (safe_name, text) in pairs}).encode() + b"\n"
    )


def _is_numbers(plain: Value) -> bool:
    """Whether there are numbers only, in which there is no secret."""
    if type(plain) is not list:
        return type(plain) in _NUMBERS
    return _NUMBERS.issuperset(map(type, plain)) or all(map(_is_numbers, plain))


def _plain(value: Any, parents: tuple[int, ...] = ()) -> Value:
    kind = type(value)
    if kind in _NUMBERS:
        return value
    if not issubclass(kind, _CONTAINERS):  # isinstance() would ask the object itself
        return _leaf(value)
    if kind is list and _NUMBERS.issuperset(map(type, value)):  # token by token, it takes ten times as long
        return value
    if id(value) in parents or len(parents) == _MAX_DEPTH:
        return to_text(value)
    parents = (*parents, id(value))
    if issubclass(kind, Mapping):
        return {name: _plain(item, parents) for name, item in zip(named(value), value.values(), strict=True)}
    return [_plain(item, parents) for item in value]


def _leaf(value: Any) -> Value:
    try:
        if is_array(value) or (hasattr(value, "__array__") and hasattr(value, "dtype")):
            return _plain(listed(to_numpy(value)))
    except Exception:  # the object's own code may raise anything
        return to_text(value)
    plain = to_plain(value)
    return plain if type(plain) in _NUMBERS or type(plain) is str else short_text(plain)


def listed(array: np.ndarray) -> Any:
    """An array as nested lists of what Python has; of what it has not, such as dates, texts."""
    if array.dtype.char == "g":
        array = array.astype(np.float64)
    return (array if array.dtype.kind in "biufOSUV" else array.astype(str)).tolist()


def named(keys: Iterable[Any], taken: str | None = None) -> list[str]:
    """Keys as texts, none twice: of two that are the same text, the second gets an underscore."""
    names = dict.fromkeys([taken] if taken else [])
    for key in keys:
        name = to_text(key)
        while name in names:
            name += "_"
        names[name] = None
    return [name for name in names if name != taken]
