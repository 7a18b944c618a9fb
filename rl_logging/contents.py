"""What records hold besides numbers, counted by kind, to compare with what arrived."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from rl_logging.record import ARTIFACT, HYPERPARAMETERS, METRICS, TAGS, Record
from rl_logging.rich import Media
from rl_logging.values import Value, is_number

IMAGE, FIGURE, VIDEO, HISTOGRAM, TABLE, TEXT = "image", "figure", "video", "histogram", "table", "text"
HYPERPARAMETER, TAG, FILE, MODEL = "hyperparameter", "tag", "artifact", "model"
KINDS = (IMAGE, FIGURE, VIDEO, HISTOGRAM, TABLE, TEXT, HYPERPARAMETER, TAG, FILE, MODEL)


def count(records: Iterable[Record]) -> dict[str, int]:
    """How much of each kind is in the records; of a name that is given again, the last.

    Hyperparameters are counted one by one, however deep they lie.
    """
    found: Counter[str] = Counter()
    named: dict[str, set[str]] = {HYPERPARAMETER: set(), TAG: set()}
    for record in records:
        if record.kind == METRICS:
            for value in record.values.values():
                if isinstance(value, Media) and value.kind == "hparam":
                    named[HYPERPARAMETER].update(leaves(value.about.get("hparams", {})))
                elif value is not None and not is_number(value):
                    found[kind_of_value(value)] += 1
        elif record.kind == HYPERPARAMETERS:
            named[HYPERPARAMETER].update(leaves(record.values))
        elif record.kind == TAGS:
            named[TAG].update(record.values)
        elif record.kind == ARTIFACT:
            found.update(map(kind_of_value, record.values.values()))
    found.update({kind: len(names) for kind, names in named.items() if names})
    return dict(found)


def kind_of_value(value: Value) -> str:
    """The kind, of :data:`KINDS`, of a value that is no number."""
    if isinstance(value, np.ndarray):
        return HISTOGRAM
    if not isinstance(value, Media):
        return TEXT
    if value.kind == "artifact":
        return MODEL if value.about.get("type") == "model" else FILE
    return HISTOGRAM if value.kind == "array" else value.kind


def leaves(nested: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The paths of all values in a nested mapping; an empty one is a value, and so is a list."""
    if isinstance(nested, dict) and (nested or not path):
        for name, value in nested.items():
            yield from leaves(value, (*path, str(name)))
    else:
        yield "/".join(path)
