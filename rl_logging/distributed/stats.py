"""Stats: what many numbers were like, in a size that does not grow with their count."""

import dataclasses
import math
from typing import Any

import numpy as np

RELATIVE_ERROR = 0.01  # of a percentile, as DDSketch promises
PERCENTILES = {"p50": 0.5, "p90": 0.9}


@dataclasses.dataclass(frozen=True)
class Stats:
    """Count, mean, spread, ends and percentiles of numbers.

    Mean and spread are merged as in Chan, Golub and LeVeque, "Updating formulae and a pairwise
    algorithm for computing sample variances" (1979); percentiles by a DDSketch, whose bins are
    added.

    :param squares: the sum of the squared distances from the mean
    :param sketch: a ``ddsketch.DDSketch``; it is never changed
    """

    count: int
    mean: float
    squares: float
    least: float
    greatest: float
    sketch: Any

    def merge(self, other: "Stats") -> "Stats":
        """Both together."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * other.count / count
        squares = self.squares + other.squares + apart**2 * self.count * other.count / count
        ends = float(np.minimum(self.least, other.least)), float(np.maximum(self.greatest, other.greatest))
        sketch = empty_sketch()
        sketch.merge(self.sketch)
        sketch.merge(other.sketch)
        return Stats(count, mean, squares, *ends, sketch)

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
        if self.sketch.count < self.count:  # there are numbers that have no bin: NaN, infinities
            return dict.fromkeys(PERCENTILES, math.nan)
        return {
            name: min(max(self.sketch.get_quantile_value(share), self.least), self.greatest)
            for name, share in PERCENTILES.items()
        }


def stats_of(values: Any) -> Stats:
    """The stats of an array of any shape, or of one number.

    The spread is that of all the values (as numpy's), not of a sample.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    if not array.size:
        return Stats(0, 0.0, 0.0, math.inf, -math.inf, empty_sketch())
    with np.errstate(all="ignore"):  # NaN and infinities give what they give
        mean = float(array.mean())
        squares = float(((array - mean) ** 2).sum())
        ends = float(array.min()), float(array.max())
    return Stats(array.size, mean, squares, *ends, _sketched(array[np.isfinite(array)]))


def empty_sketch() -> Any:
    """A sketch without numbers."""
    from ddsketch import DDSketch

    return DDSketch(RELATIVE_ERROR)


def _sketched(array: np.ndarray) -> Any:
    """A sketch of finite numbers. Those that share a bin are added at once: one by one, each costs 1 us."""
    sketch = empty_sketch()
    if array.size <= 64:
        for value in array.tolist():
            sketch.add(value)
        return sketch
    with np.errstate(divide="ignore"):
        bins = np.ceil(np.log(np.abs(array)) / math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)))
    places = np.stack([np.sign(array), bins])
    _, first, counts = np.unique(places, axis=1, return_index=True, return_counts=True)
    for index, count in zip(first.tolist(), counts.tolist(), strict=True):
        sketch.add(float(array[index]), float(count))
    return sketch
