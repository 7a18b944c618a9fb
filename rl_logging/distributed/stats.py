"""Stats: what many numbers were like, in a size that does not grow with their count."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rl_logging.distributed.bins import Bins, binned
from rl_logging.distributed.bins import together as bins_together

FEW = 64  # numbers; so many are kept as they are
PERCENTILES = {"p50": 0.5, "p90": 0.9}


@dataclasses.dataclass(frozen=True)
class Stats:
    """Count, mean, spread, ends and percentiles of numbers.

    Mean and spread are put together as in Chan, Golub and LeVeque, "Updating formulae and a
    pairwise algorithm for computing sample variances" (1979). Few numbers are kept for their
    percentiles; many are put into a DDSketch's bins, which are added.

    :param squares: the sum of the squared distances from the mean
    :param few: the numbers, while there are no more than 64
    :param bins: of more
    """

    count: int
    mean: float
    squares: float
    least: float
    greatest: float
    few: tuple[float, ...] = ()
    bins: Bins | None = None

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
        if self.bins is None:
            with np.errstate(invalid="ignore"):
                exact = np.quantile(self.few, list(PERCENTILES.values()))
            return dict(zip(PERCENTILES, exact.tolist(), strict=True))
        if self.bins.total < self.count:  # there are numbers that have no bin: NaN, infinities
            return dict.fromkeys(PERCENTILES, math.nan)
        found = np.clip(self.bins.percentiles(list(PERCENTILES.values())), self.least, self.greatest)
        return dict(zip(PERCENTILES, found.tolist(), strict=True))


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
    few = binned(np.array([number for each in some for number in each.few]))
    bins = bins_together([few, *(each.bins for each in some if each.bins is not None)])
    return Stats(count, mean, squares, *ends, bins=bins)


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
    return Stats(array.size, mean, squares, *ends, bins=binned(array))
