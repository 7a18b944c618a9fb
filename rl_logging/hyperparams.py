"""Hyperparameters of any depth and type as plain nested values, and their file in the run folder.

What :func:`to_nested` gives holds dicts with texts as keys, lists, ``str``, ``int``, ``float``,
``bool`` and ``None``. It never raises, and it imports nothing for the sake of a type: a
library's types exist only if the user imported it.
"""

import dataclasses
import enum
import functools
import json
import os
import re
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from rl_logging.values import number_text, short_text, to_plain, to_text

FILE_NAME = "hyperparams.yaml"
_MAX_DEPTH = 32
_LISTED = 100  # elements; of a larger array there is a word
_PRINTABLE_INT_BITS = 4096  # Python refuses to print integers of more than 4,300 digits
_FUNCTION = re.compile(r"<function (\S+) at 0x[0-9A-Fa-f]+>")
_LINE_BREAK = re.compile("[\r\x85\u2028\u2029]")
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
_SCALARS = (str, int, float, type(None))
_SETS = (set, frozenset)
_LISTS = (list, tuple, deque, *_SETS)


def to_nested(value: Any) -> dict[str, Any]:
    """Hyperparameters as plain nested values, whatever they are kept in.

    Configurations of OmegaConf, pydantic, attrs, argparse and dataclasses become dicts;
    classes and functions become their names; what is nothing of the kind becomes its text.

    :return: for a value that has no names in it, ``{"value": …}``
    """
    nested = _nested(value, ())
    return nested if isinstance(nested, dict) else {"value": nested}


def flatten(nested: Mapping[str, Any], sep: str = "/") -> dict[str, Any]:
    """The numbers and texts of what :func:`to_nested` gave, by their joined keys.

    A list is one JSON text: by index, the rows of two runs could not be compared.
    """
    flat: dict[str, Any] = {}
    for key, leaf in _leaves(nested.items(), "", sep):
        while key in flat:  # {"a/b": 1, "a": {"b": 2}}: both are kept
            key += "_"
        flat[key] = leaf
    return flat


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The old values with the new ones over them, dict by dict."""
    merged = dict(old)
    for key, value in new.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def save(folder: Path, params: Any) -> Path:
    """Add hyperparameters to the file in a folder, which is replaced as a whole.

    :return: the file
    :raises OSError: it cannot be written
    :raises ValueError: what is there is no YAML
    """
    text = _yaml(merge(load(folder), to_nested(params)))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    draft = path.with_suffix(".new")
    draft.write_bytes(text.encode())
    os.replace(draft, path)
    return path


def load(folder: Path) -> dict[str, Any]:
    """What :func:`save` wrote into a folder; nothing if there is no file.

    :raises ValueError: the file is no YAML
    """
    import yaml

    path = folder / FILE_NAME
    try:
        loaded = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML; mend it or move it away: {error}") from error
    return {} if loaded is None else to_nested(loaded)


def _yaml(params: dict[str, Any]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        # PyYAML writes other line breaks than "\n" as they are, and reads "\n" in their place.
        def represent_str(self, data: str) -> yaml.ScalarNode:
            style = '"' if _LINE_BREAK.search(data) else None
            return self.represent_scalar("tag:yaml.org,2002:str", data, style)

    Dumper.add_representer(str, Dumper.represent_str)
    return yaml.dump(params, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1 << 30)


def _leaves(items: Iterable[tuple[Any, Any]], prefix: str, sep: str) -> Iterator[tuple[str, Any]]:
    for key, value in items:
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from _leaves(value.items(), name + sep, sep)
        elif isinstance(value, (dict, list)):
            yield name, json.dumps(value, ensure_ascii=False)
        else:
            yield name, value


def _nested(value: Any, parents: tuple[int, ...]) -> Any:
    try:
        parts = _parts(value)
        if parts is None:
            return _leaf(value)
        if id(value) in parents or len(parents) == _MAX_DEPTH:
            # Not its text: that would show what is in it without the names that make it secret.
            what = "holds itself" if id(value) in parents else "is nested too deeply"
            return f"<{type(value).__name__} that {what}>"
        parents = (*parents, id(value))
        if isinstance(parts, dict):
            return _named(parts, parents)
        items = [_nested(item, parents) for item in parts]
        return _sorted(items) if issubclass(type(value), _SETS) else items
    except Exception:  # the object's own code may raise anything; its text is what is left of it
        return _text(value)


def _named(parts: dict[Any, Any], parents: tuple[int, ...]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for key, item in parts.items():
        name = _key(key)
        while name in named:  # 1 and "1" are both kept
            name += "_"
        named[name] = _nested(item, parents)
    return named


def _key(key: Any) -> str:
    plain = _nested(key, ())
    return to_text(key if isinstance(plain, (dict, list)) else plain)


def _sorted(items: list[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:  # of several types
        return sorted(items, key=lambda item: (type(item).__name__, to_text(item)))


def _parts(value: Any) -> dict[Any, Any] | list[Any] | None:
    """What a value holds, one level deep; None if it is a leaf."""
    kind = type(value)
    if issubclass(kind, (str, int, float, enum.Enum)):
        return None
    if _is_a(value, "omegaconf", "Container"):
        return _omegaconf_parts(value)
    if dataclasses.is_dataclass(kind):
        return _attributes(value, [field.name for field in dataclasses.fields(kind)])
    if hasattr(kind, "__attrs_attrs__"):
        return _attributes(value, [field.name for field in kind.__attrs_attrs__])
    if issubclass(kind, Mapping) or _is_a(value, "pydantic.main", "BaseModel"):
        return dict(value.items() if issubclass(kind, Mapping) else value)
    if issubclass(kind, types.SimpleNamespace) or _is_a(value, "argparse", "Namespace"):
        return dict(vars(value))
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return dict(zip(kind._fields, value, strict=True))
    if issubclass(kind, functools.partial) and (value.args or value.keywords):
        given = {"args": value.args, "keywords": value.keywords}
        return {"function": value.func, **{name: what for name, what in given.items() if what}}
    if issubclass(kind, np.ndarray) and value.dtype.kind not in "biuf" and value.size <= _LISTED:
        return value.tolist() if value.ndim else None
    return list(value) if issubclass(kind, _LISTS) else None


def _is_a(value: Any, module: str, name: str) -> bool:
    """Whether a value is of a library's class, where the library is loaded."""
    return issubclass(type(value), getattr(sys.modules.get(module), name, ()))


def _attributes(value: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _omegaconf_parts(config: Any) -> dict[Any, Any] | list[Any] | None:
    raw = sys.modules["omegaconf"].OmegaConf.to_container(config, resolve=False)
    if isinstance(raw, dict):
        return {key: _resolved(config, key, raw[key]) for key in raw}
    return [_resolved(config, at, raw[at]) for at in range(len(raw))] if isinstance(raw, list) else None


def _resolved(config: Any, key: Any, raw: Any) -> Any:
    try:
        return config[key]
    except Exception:  # it is missing, or refers to what is not there: its resolver may raise anything
        return raw


def _leaf(value: Any) -> Any:
    kind = type(value)
    if issubclass(kind, enum.Enum):
        return _leaf(value.value if isinstance(value.value, _SCALARS) else value.name)
    if issubclass(kind, np.ndarray) and value.size > _LISTED:
        return short_text(value)
    if issubclass(kind, PurePath):
        return to_text(value.as_posix())
    if issubclass(kind, functools.partial):
        return _leaf(value.func)
    if callable(value) and isinstance(getattr(value, "__qualname__", None), str):
        return _name(value)
    plain = to_plain(value)
    if isinstance(plain, np.ndarray):
        return plain.tolist() if plain.size <= _LISTED else short_text(plain)
    if isinstance(plain, int):
        return plain if plain.bit_length() <= _PRINTABLE_INT_BITS else number_text(plain, digits=0)
    if isinstance(plain, str) and not issubclass(kind, str):
        return _text(value)
    return plain if isinstance(plain, _SCALARS) else short_text(plain)


def _text(value: Any) -> str:
    """An object's text; its class where that tells only an address, which is new in every run."""
    text = _FUNCTION.sub(r"\1", to_text(value))
    return _name(type(value)) if _ADDRESS.search(text) else text


def _name(value: Any) -> str:
    module = getattr(value, "__module__", None)
    own = not isinstance(module, str) or module == "builtins"
    return to_text(value.__qualname__ if own else f"{module}.{value.__qualname__}")
