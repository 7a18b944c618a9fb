"""Stats: what many numbers were like, in a size that does not grow with their count."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

RELATIVE_ERROR = 0.01  # of a percentile of many numbers, as DDSketch promises
FEW = 64  # numbers; so many are kept as they are
PERCENTILES = {"p50": 0.5, "p90": 0.9}


@dataclasses.dataclass(frozen=True)
class Stats:
    """Count, mean, spread, ends and percentiles of numbers.

    Mean and spread are put together as in Chan, Golub and LeVeque, "Updating formulae and a
    pairwise algorithm for computing sample variances" (1979). Few numbers are kept for their percentiles;
    many are put into a DDSketch, whose bins are added.

    :param squares: the sum of the squared distances from the mean
    :param few: the numbers, while there are no more than 64
    :param sketch: a ``ddsketch.DDSketch`` of more; it is never changed
    """

    count: int
    mean: float
    squares: float
    least: float
    greatest: float
    few: tuple[float, ...] = ()
    sketch: Any = None

    def results(self) -> dict[str, float]:
        """The figures by name; NaN among the numbers makes all of them NaN but the count."""
        if not self.count:
            return {}
        found = {
            "mean": self.mean,
            "std": math.sqrt(self.squares / self.count) if self.squares >= 0 else math.nan,
            "min": self.least,
            "max": self.greatest,
        }
        return {**found, **self._percentiles(), "count": self.count}

    def _percentiles(self) -> dict[str, float]:
        if self.sketch is None:
            with np.errstate(invalid="ignore"):
                found = np.quantile(self.few, list(PERCENTILES.values()))
            return dict(zip(PERCENTILES, found.tolist(), strict=True))
        if self.sketch.count < self.count:  # there are numbers that have no bin: NaN, infinities
            return dict.fromkeys(PERCENTILES, math.nan)
        return {
            name: min(max(self.sketch.get_quantile_value(share), self.least), self.greatest)
            for name, share in PERCENTILES.items()
        }


def together(all_stats: Sequence[Stats]) -> Stats:
    """Several as one."""
    some = [each for each in all_stats if each.count]
    if len(some) < 2:
        return some[0] if some else all_stats[0]
    counts, means = np.array([each.count for each in some]), np.array([each.mean for each in some])
    count = sum(each.count for each in some)
    with np.errstate(all="ignore"):  # NaN and infinities give what they give
        mean = float((counts * means).sum() / count)
        apart = float((counts * (means - mean) ** 2).sum())
        ends = float(np.min([each.least for each in some])), float(np.max([each.greatest for each in some]))
    squares = sum(each.squares for each in some) + apart
    if count <= FEW:
        return Stats(count, mean, squares, *ends, tuple(number for each in some for number in each.few))
    sketch = _sketched(np.array([number for each in some for number in each.few]))
    for each in some:
        if each.sketch is not None:
            sketch.merge(each.sketch)
    return Stats(count, mean, squares, *ends, sketch=sketch)


def stats_of(values: Any) -> Stats:
    """The stats of an array of any shape, or of one number.

    The spread is that of all the values (as numpy's), not of a sample.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    if not array.size:
        return Stats(0, 0.0, 0.0, math.inf, -math.inf)
    with np.errstate(all="ignore"):  # NaN and infinities give what they give
        mean = float(array.mean())
        squares = float(((array - mean) ** 2).sum())
        ends = float(array.min()), float(array.max())
    if array.size <= FEW:
        return Stats(array.size, mean, squares, *ends, tuple(array.tolist()))
    return Stats(array.size, mean, squares, *ends, sketch=_sketched(array))


def _empty_sketch() -> Any:
    from ddsketch import DDSketch

    return DDSketch(RELATIVE_ERROR)


def _sketched(array: np.ndarray) -> Any:
    """A sketch of those that are finite; those of one bin are added at once, each alone costs 1 us."""
    sketch, array = _empty_sketch(), array[np.isfinite(array)]
    with np.errstate(divide="ignore"):
        bins = np.ceil(np.log(np.abs(array)) / math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)))
    places = np.stack([np.sign(array), bins])
    _, first, counts = np.unique(places, axis=1, return_index=True, return_counts=True)
    for index, count in zip(first.tolist(), counts.tolist(), strict=True):
        sketch.add(float(array[index]), float(count))
    return sketch
