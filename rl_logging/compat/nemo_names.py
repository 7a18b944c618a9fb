"""The names under which NeMo-RL's loggers show metrics, tracker by tracker."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np

from rl_logging.axes import items_of
from rl_logging.rich import Histogram
from rl_logging.values import is_number, to_plain, to_text

_DOTTED = ("wandb",)  # its own page joins nested names so
_AXIS_PREFIXED = ("tensorboard", "mlflow")  # they know no step metric, and prefix it like any other
_MAX_DEPTH = 32  # of nested metrics; a mapping that holds itself has no end


class Named:
    """Metrics by name, and the outputs that shall not get each.

    Nested ones have joined names, with dots in W&B, else with slashes. A list of numbers is a
    histogram.

    :param outputs: the names of all outputs
    """

    def __init__(
        self,
        outputs: Collection[str],
        metrics: Iterable[tuple[Any, Any]],
        prefix: str | None,
        step_metric: str | None,
    ) -> None:
        self.values: dict[str, Any] = {}
        self.excluded: dict[str, tuple[str, ...]] = {}
        self._outputs = outputs
        for key, value in metrics:
            name = to_text(key)
            full = f"{prefix}/{name}" if prefix else name
            if name == step_metric:
                self._put(name, full, _AXIS_PREFIXED, value)
            else:
                self._add(full, full, value, 0)

    def without(self, outputs: Collection[str]) -> Callable[[str], tuple[str, ...]]:
        """What is excluded by name where some outputs shall not get anything."""
        return lambda name: (*outputs, *self.excluded.get(name, ()))

    def _add(self, name: str, dotted: str, value: Any, depth: int) -> None:
        nested = items_of(value) if depth < _MAX_DEPTH else None
        if nested:
            for key, inner in nested:
                part = to_text(key)
                self._add(f"{name}/{part}", f"{dotted}.{part}", inner, depth + 1)
        else:
            self._put(name, dotted, _DOTTED, _histogram(value))

    def _put(self, name: str, other: str, others: Collection[str], value: Any) -> None:
        """Add a value that the outputs ``others`` know under another name."""
        while name in self.values or other in self.values:  # {"a/b": 1, "a": {"b": 2}}: both are kept
            name, other = f"{name}_", f"{other}_"
        theirs = tuple(output for output in self._outputs if output in others)
        rest = tuple(output for output in self._outputs if output not in others)
        if name == other or not theirs:
            self.values[name] = value
            return
        self.values[other] = value
        if rest:
            self.values[name] = value
            self.excluded[name], self.excluded[other] = theirs, rest


def _histogram(value: Any) -> Any:
    if not issubclass(type(value), (list, tuple)) or not value:
        return value
    plain = [to_plain(item) for item in value]
    return Histogram(np.asarray(plain, np.float64)) if all(map(is_number, plain)) else value
