"""Bins: how many numbers fell into which bin of a DDSketch, in a form that is quickly put together.

The bins and the percentiles are those of the ``ddsketch`` package (Masson, Rim and Lee, "DDSketch",
2019). Its own ``add`` and ``merge`` take a loop of Python over numbers and bins, 0.1 ms for each
key of each rank; here all that is done at once.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

RELATIVE_ERROR = 0.01  # of a percentile, as DDSketch promises


class Bins(NamedTuple):
    """Finite numbers by their bins.

    :param positive: bins of positive numbers and how many are there, as bytes of int64
    :param negative: the same of negative numbers, by their size
    :param zeros: how many are zero, or too small for a bin
    """

    positive: bytes = b""
    negative: bytes = b""
    zeros: int = 0

    @property
    def total(self) -> int:
        """How many numbers there are."""
        return sum(int(_pairs(each)[1].sum()) for each in (self.positive, self.negative)) + self.zeros

    def percentiles(self, shares: Sequence[float]) -> list[float]:
        """Numbers of these ranks, each at most 1 % of its size beside the true one."""
        from ddsketch.ddsketch import BaseDDSketch
        from ddsketch.store import DenseStore

        class_: Any = BaseDDSketch
        stores: list[Any] = []
        for packed in (self.positive, self.negative):
            stores.append(store := DenseStore())
            for key, count in _pairs(packed).T.tolist():
                store.add(key, count)
        sketch = class_(_mapping(), *stores, self.zeros)
        return [sketch.get_quantile_value(share) for share in shares]


def binned(array: np.ndarray) -> Bins:
    """The finite ones of some numbers."""
    finite = array[np.isfinite(array)]
    least = _mapping().min_possible
    positive, negative = finite[finite > least], -finite[finite < -least]
    return Bins(
        _packed(_keys(positive)), _packed(_keys(negative)), finite.size - positive.size - negative.size
    )


def together(several: Sequence[Bins]) -> Bins:
    """The numbers of several as one."""
    return Bins(
        _joined([bins.positive for bins in several]),
        _joined([bins.negative for bins in several]),
        sum(bins.zeros for bins in several),
    )


def _joined(several: Sequence[bytes]) -> bytes:
    some = [packed for packed in several if packed]
    if len(some) < 2:
        return some[0] if some else b""
    keys, counts = np.concatenate([_pairs(packed) for packed in some], axis=1)
    return _packed(keys, counts)


def _packed(keys: np.ndarray, counts: np.ndarray | None = None) -> bytes:
    """Bins, some more than once, as those that there are, each with its count."""
    if not keys.size:
        return b""
    first = keys.min()
    totals = np.bincount(keys - first, counts)
    filled = np.flatnonzero(totals)
    return np.stack([filled + first, totals[filled].astype(np.int64)]).tobytes()


def _pairs(packed: bytes) -> np.ndarray:
    return np.frombuffer(packed, np.int64).reshape(2, -1)


def _keys(numbers: np.ndarray) -> np.ndarray:
    """The bins of positive numbers, as ``LogarithmicMapping.key`` gives them one by one."""
    size = math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))
    keys: np.ndarray = np.ceil(np.log(numbers) / size).astype(np.int64)
    return keys


@functools.cache
def _mapping() -> Any:
    from ddsketch.mapping import LogarithmicMapping

    return LogarithmicMapping(RELATIVE_ERROR)
