"""Episodes of an environment, made plain: a line for each step, and their return."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rl_logging.values import Value, is_array, is_number, number_text, short_text, to_numpy, to_plain, to_text

KEYS = ("observations", "actions", "rewards")
_DIGITS = 4
_SHOWN, _KEPT = 8, 1000  # numbers of one array in a line for people, and in a file; of more, its shape


def is_episode(log: Any) -> bool:
    """Whether it is a mapping with observations, actions and rewards."""
    return isinstance(log, Mapping) and all(key in log for key in KEYS)


def episode_return(log: Mapping[str, Any]) -> float:
    """The sum of an episode's rewards.

    :raises ValueError: they are no numbers
    """
    try:
        return float(np.asarray(_column(log["rewards"]), float).sum())
    except TypeError as error:
        raise ValueError(f"its rewards are no numbers: {error}") from None


def to_steps(log: Mapping[str, Any]) -> list[dict[str, Value]]:
    """An episode's steps as plain values; an observation after the last action is a step of its own.

    :param log: ``actions`` and ``rewards`` of T steps, and ``observations`` of T or T + 1: arrays,
        tensors, lists, or mappings of them, the first dimension the step
    :raises ValueError: their lengths do not belong together
    """
    columns = {key: _column(log[key]) for key in KEYS}
    lengths = {key: _length(column) for key, column in columns.items()}
    steps = lengths["actions"]
    if lengths["rewards"] != steps or lengths["observations"] not in (steps, steps + 1):
        told = ", ".join(f"{lengths[key]} {key}" for key in KEYS)
        raise ValueError(
            f"it has {told}; there is a reward for each action, and at most one observation more"
        )
    return [
        {key[:-1]: _kept(_at(column, step)) for key, column in columns.items() if step < lengths[key]}
        for step in range(lengths["observations"])
    ]


def step_text(place: int, step: Mapping[str, Value]) -> str:
    """A step as a line for people."""
    seen = f"{place}: {_shown(step['observation'])}"
    if "action" not in step:
        return f"{seen} (end)"
    return f"{seen} -> {_shown(step['action'])}, reward {_shown(step['reward'])}"


def _column(values: Any) -> Any:
    """Values over the steps, in one transfer where they are on a device."""
    if isinstance(values, Mapping):
        return {key: _column(value) for key, value in values.items()}
    if is_array(values):
        return to_numpy(values)
    return [to_plain(value) if is_array(value) else value for value in values]


def _length(column: Any) -> int:
    if not isinstance(column, Mapping):
        return len(column)
    lengths = {_length(value) for value in column.values()}
    if len(lengths) != 1:
        raise ValueError(f"parts of its observations or actions have the lengths {sorted(lengths)}")
    return lengths.pop()


def _at(column: Any, step: int) -> Any:
    if isinstance(column, Mapping):
        return {key: _at(value, step) for key, value in column.items()}
    return column[step]


def _kept(value: Any) -> Value:
    if isinstance(value, Mapping):
        return {to_text(key): _kept(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_kept(item) for item in value]
    plain = to_plain(value)
    if not isinstance(plain, np.ndarray):
        return plain
    return plain.tolist() if plain.size <= _KEPT else short_text(plain)


def _shown(value: Value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        shape = _shape(value)
        is_short = math.prod(shape) <= _SHOWN
        return f"[{' '.join(map(_shown, value))}]" if is_short else f"<array {'x'.join(map(str, shape))}>"
    return number_text(value, _DIGITS) if is_number(value) else to_text(value)


def _shape(value: Value) -> list[int]:
    """The lengths of nested lists, as those that come first have them."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape
