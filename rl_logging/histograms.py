"""What is shown of many numbers: how often each size occurs, and the usual figures.

Only finite values are counted. Any array of real numbers will do, up to floats at the
end of their range.
"""

import math
from collections.abc import Iterator

import numpy as np

_CHUNK = 1 << 16  # numbers looked at together, which fit a processor's cache
_EPSILON = float(np.finfo(np.float64).eps)
_LARGEST = float(np.finfo(np.float64).max)
_NARROWEST = 1e-290  # a narrower range is one value: numpy divides by it
_WIDEST = 1e150  # numbers beyond it have no square
_SHRINK = 2.0**-600  # takes the largest number below that, and rounds nothing that counts beside it
_PERCENTILES = (5, 50, 95)


def bins_of(array: np.ndarray, bins: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Count the finite values in bins of equal width, from the least to the greatest.

    Where all are equal, the bins reach half a unit to both sides, or as far as a float needs
    to tell the edges apart. Where there is none, both arrays are empty.

    :param bins: how many
    :return: the ``int64`` count in each bin, and the ``float64`` edges, one more than bins
    :raises ValueError: the array holds no real numbers, or ``bins`` is not positive
    """
    if bins < 1:
        raise ValueError(f"a histogram has at least one bin, not {bins}")
    array = _flat(array)
    least, greatest = _ends(array)
    if math.isnan(least):
        return np.empty(0, np.int64), np.empty(0, np.float64)
    scale = _scale(least, greatest)
    within = _range(least * scale, greatest * scale, bins, scale)
    counts = np.zeros(bins, np.int64)
    for values in _finite(array, scale):
        counts += np.histogram(values, bins, within)[0]
    return counts, np.histogram_bin_edges(np.empty(0), bins, within) / scale


def stats_of(array: np.ndarray) -> dict[str, float]:
    """How many values there are, how many are not finite, and the usual figures of those that are.

    The figures are ``mean``, ``std``, ``min``, ``max``, ``p5``, ``p50`` and ``p95``; where no
    value is finite, each is NaN.

    :return: ``count``, ``not_finite`` and the figures
    :raises ValueError: the array holds no real numbers
    """
    array = _flat(array)
    least, greatest = _ends(array)
    finite = array[np.isfinite(array)]
    stats = {"count": array.size, "not_finite": array.size - finite.size}
    if math.isnan(least):
        return stats | dict.fromkeys(("mean", "std", "min", "max", *_names()), math.nan)
    mean, std = _mean_and_std(array, finite.size, _scale(least, greatest))
    mean = min(max(mean, least), greatest)  # rounding may take it a little beyond
    figures = {"mean": mean, "std": std, "min": least, "max": greatest}
    return stats | figures | dict(zip(_names(), _percentiles(finite), strict=True))


def _flat(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"a histogram is of real numbers, not of {array.dtype}")
    if array.dtype.char == "g":
        with np.errstate(over="ignore"):  # a long double may be beyond a float
            array = array.astype(np.float64)
    return array.reshape(-1)


def _finite(array: np.ndarray, scale: float = 1.0) -> Iterator[np.ndarray]:
    """The finite values, multiplied by ``scale``, as float64, piece by piece."""
    for start in range(0, array.size, _CHUNK):
        values = array[start : start + _CHUNK].astype(np.float64)
        finite = np.isfinite(values)
        values = values if finite.all() else values[finite]
        values *= scale
        yield values


def _ends(array: np.ndarray) -> tuple[float, float]:
    """The least and the greatest finite value; NaN where there is none."""
    pieces = [(values.min(), values.max()) for values in _finite(array) if values.size]
    if not pieces:
        return math.nan, math.nan
    return float(min(least for least, _ in pieces)), float(max(greatest for _, greatest in pieces))


def _scale(least: float, greatest: float) -> float:
    """A power of two; values multiplied by it have squares whose sum is finite."""
    return _SHRINK if max(-least, greatest) > _WIDEST else 1.0


def _range(least: float, greatest: float, bins: int, scale: float) -> tuple[float, float]:
    """Ends between which floats can tell all the edges apart."""
    size = max(-least, greatest, 0.0)
    if greatest - least > max(_NARROWEST, 4 * bins * _EPSILON * size):
        return least, greatest
    margin, limit = max(0.5 * scale, 1e-6 * size), _LARGEST * scale
    return max(least - margin, -limit), min(greatest + margin, limit)


def _mean_and_std(array: np.ndarray, count: int, scale: float) -> tuple[float, float]:
    mean = sum(float(values.sum()) for values in _finite(array, scale)) / count
    squares = sum(float(np.square(values - mean).sum()) for values in _finite(array, scale))
    return mean / scale, min(math.sqrt(squares / count) / scale, _LARGEST)


def _names() -> list[str]:
    return [f"p{share}" for share in _PERCENTILES]


def _percentiles(values: np.ndarray) -> list[float]:
    """As ``np.percentile`` gives them, which overflows where the values are far apart."""
    ordered, last = np.sort(values), values.size - 1
    found = []
    for share in _PERCENTILES:
        place = share / 100 * last
        rank = math.floor(place)
        low, high = float(ordered[rank]), float(ordered[min(rank + 1, last)])
        half = (high / 2 - low / 2) * (place - rank)  # the whole may be beyond a float
        found.append(low + half + half)
    return found
