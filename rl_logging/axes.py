"""Metrics that are drawn against another one than the training step."""

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

from rl_logging.record import to_step
from rl_logging.values import to_text

_MAX_DEPTH = 32  # of nested metrics; a mapping that holds itself has no end


class Axes:
    """Which metric is the axis of which others.

    A rule holds for what is recorded after it; of several that fit a name, the last one.
    """

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}  # axes by name or pattern
        self._known: dict[str, str] = {}  # axes by name, as they were found
        self._steps: dict[str, int] = {}  # the last value of each axis

    def define(self, pattern: str, axis: str) -> None:
        """Draw the metrics whose names fit a pattern, such as ``ray/*``, against a metric.

        :raises ValueError: a name that is no text, or an empty one
        """
        for name in (pattern, axis):
            if not isinstance(name, str) or not name:
                raise ValueError(f"define_metric takes two names, such as 'ray/*', 'ray/step', not {name!r}")
        self._rules.pop(pattern, None)
        self._rules[pattern] = axis
        self._known.clear()

    def split(self, values: Mapping[Any, Any], step: int) -> list[tuple[str, int, dict[Any, Any]]]:
        """The values of one dump, apart by axis: its name, its step, the values.

        The training step's come first; their name is empty. An axis stands beside what is
        drawn against it. As long as an axis has no value, the training step takes its place.
        """
        if not self._rules:
            return [("", step, dict(values))]
        parts: dict[str, dict[Any, Any]] = {"": {}}
        for key, value in values.items():
            parts.setdefault(self._axis(key), {})[key] = value
        for axis in parts.keys() & values.keys():
            self._note(axis, values[axis])
        for axis in [axis for axis in parts if axis and axis not in self._steps]:
            parts[""].update(parts.pop(axis))
        return [(axis, self._steps.get(axis, step), part) for axis, part in parts.items() if part]

    def _axis(self, key: Any) -> str:
        if not isinstance(key, str):
            return ""
        if key not in self._known:
            fits = [axis for pattern, axis in self._rules.items() if fnmatch.fnmatchcase(key, pattern)]
            is_axis = key in self._rules.values()
            self._known[key] = key if is_axis else fits[-1] if fits else ""
        return self._known[key]

    def _note(self, axis: str, value: Any) -> None:
        try:
            self._steps[axis] = to_step(value)
        except ValueError:  # it stays where it was
            return


def flat(metrics: Iterable[tuple[Any, Any]], depth: int = 0) -> dict[Any, Any]:
    """Nested metrics under names with slashes.

    :param metrics: names and values
    """
    found: dict[Any, Any] = {}
    for name, value in metrics:
        inner = items_of(value) if depth < _MAX_DEPTH else None
        if inner:
            nested = flat(inner, depth + 1)
            found.update({f"{to_text(name)}/{to_text(key)}": item for key, item in nested.items()})
        else:
            found[name] = value
    return found


def items_of(value: Any) -> list[tuple[Any, Any]] | None:
    """What a mapping holds; None for any other value, and for one that does not say."""
    if not issubclass(type(value), Mapping):  # isinstance() would ask the object itself
        return None
    try:
        return list(value.items())
    except Exception:  # the object's own code may raise anything
        return None
