"""What is shown of many numbers is true of them, whatever they are."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rl_logging.histograms import bins_of, stats_of

LARGEST = float(np.finfo(np.float64).max)
DTYPES = [np.float64, np.float32, np.float16, np.int64, np.uint64, np.int8, np.bool_]
ANY_NUMBERS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


def test_bins_are_those_of_numpy():
    """A reader knows what a histogram of numpy is; here are only more kinds of numbers."""
    numbers = np.random.default_rng(0).normal(size=(700, 300)).astype(np.float32)

    counts, edges = bins_of(numbers)

    expected_counts, expected_edges = np.histogram(numbers.astype(np.float64), 30)
    assert (counts.dtype, edges.dtype) == (np.int64, np.float64)
    assert counts.tolist() == expected_counts.tolist()
    assert edges.tolist() == expected_edges.tolist()


@given(ANY_NUMBERS, st.integers(1, 40))
def test_every_finite_value_is_in_a_bin(numbers, bins):
    """No warning, no overflow and no value lost, from bools to the ends of the floats."""
    counts, edges = bins_of(numbers, bins)

    finite = int(np.isfinite(numbers).sum())
    assert (len(counts), len(edges)) == ((bins, bins + 1) if finite else (0, 0))
    assert counts.sum() == finite
    assert np.isfinite(edges).all()
    assert (np.diff(edges / 4) > 0).all()


@pytest.mark.parametrize(
    ("numbers", "counts", "ends"),
    [
        (np.full(9, 2.0), [0, 0, 9, 0, 0], (1.5, 2.5)),
        (np.array(7), [0, 0, 1, 0, 0], (6.5, 7.5)),
        (np.array([True, False, True]), [1, 0, 0, 0, 2], (0.0, 1.0)),
        (np.array([-1e308, 1e308, 1e308]), [1, 0, 0, 0, 2], (-1e308, 1e308)),
        (np.array([-LARGEST, 0.0, LARGEST]), [1, 0, 1, 0, 1], (-LARGEST, LARGEST)),
        (np.array([0, 2**64 - 1], np.uint64), [1, 0, 0, 0, 1], (0.0, 2.0**64)),
        (np.array([0.0, 5e-324]), [0, 0, 2, 0, 0], (-0.5, 0.5)),
        (np.array([np.nan, 1.0, np.inf, 6.0, -np.inf]), [1, 0, 0, 0, 1], (1.0, 6.0)),
        (np.arange(10, dtype=np.float16)[::2], [1, 1, 1, 1, 1], (0.0, 8.0)),
    ],
    ids=lambda value: None if isinstance(value, np.ndarray) else "-",
)
def test_numbers_are_counted(numbers, counts, ends):
    """The cases that plain numpy refuses, warns of, or puts into one bin of no width."""
    found, edges = bins_of(numbers, 5)

    assert (found.tolist(), (edges[0], edges[-1])) == (counts, pytest.approx(ends, rel=1e-12))


def test_equal_values_at_the_end_of_the_range_have_bins():
    """Half a unit more is the same float, and more than that is none."""
    counts, edges = bins_of(np.full(3, LARGEST), 5)

    assert counts.tolist() == [0, 0, 0, 0, 3]
    assert edges[-1] == LARGEST
    assert (np.diff(edges) > 0).all()


@pytest.mark.parametrize("numbers", [[], [math.nan, math.inf]])
def test_nothing_finite_gives_empty_arrays(numbers):
    """An empty buffer is recorded sooner or later; there is nothing to count, and no error."""
    counts, edges = bins_of(np.array(numbers))

    assert (counts.tolist(), edges.tolist()) == ([], [])
    assert (counts.dtype, edges.dtype) == (np.int64, np.float64)


@pytest.mark.parametrize("function", [bins_of, stats_of])
@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([None])])
def test_what_is_no_real_number_is_refused(function, array):
    """An error that names the type is found; a histogram of it is not."""
    with pytest.raises(ValueError, match=f"real numbers, not of {array.dtype}"):
        function(array)


def test_no_bins_are_refused():
    """The limit is said where the number was given."""
    with pytest.raises(ValueError, match="at least one bin, not 0"):
        bins_of(np.arange(3), 0)


@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float64, np.int16]),
        arrays.array_shapes(max_dims=2, max_side=40),
        elements=st.integers(-1000, 1000),
    )
)
def test_figures_are_those_of_numpy(numbers):
    """A mean in one tracker and a histogram in another are of the same values."""
    stats = stats_of(numbers)

    exact = numbers.astype(np.float64)
    assert stats == pytest.approx(
        {
            "count": exact.size,
            "not_finite": 0,
            "mean": exact.mean(),
            "std": exact.std(),
            "min": exact.min(),
            "max": exact.max(),
            "p5": np.percentile(exact, 5),
            "p50": np.percentile(exact, 50),
            "p95": np.percentile(exact, 95),
        },
        rel=1e-9,
        abs=1e-9,
    )


@given(ANY_NUMBERS)
def test_figures_stand_in_order(numbers):
    """No warning and no overflow, and nothing outside of what was there."""
    stats = stats_of(numbers)

    finite = int(np.isfinite(numbers).sum())
    assert (stats["count"], stats["not_finite"]) == (numbers.size, numbers.size - finite)
    order = [stats[name] for name in ("min", "p5", "p50", "p95", "max")]
    if finite == 0:
        assert all(map(math.isnan, [*order, stats["mean"], stats["std"]]))
    else:
        assert order == sorted(order)
        assert stats["min"] <= stats["mean"] <= stats["max"]
        assert 0 <= stats["std"] <= LARGEST


def test_figures_of_numbers_at_the_ends_of_the_range():
    """Their sum, their squares and their distance are all beyond a float."""
    stats = stats_of(np.array([-LARGEST, LARGEST, math.nan, -LARGEST, LARGEST]))

    assert stats == pytest.approx(
        {
            "count": 5,
            "not_finite": 1,
            "mean": 0.0,
            "std": LARGEST,
            "min": -LARGEST,
            "max": LARGEST,
            "p5": -LARGEST,
            "p50": 0.0,
            "p95": LARGEST,
        }
    )


def test_long_double_beyond_a_float_is_not_finite():
    """No tracker has such a number."""
    if np.finfo(np.longdouble).max == LARGEST:
        pytest.skip("long doubles are doubles here")
    numbers = np.array([1.0, 2.0, 0.0], np.longdouble)
    numbers[2] = np.finfo(np.longdouble).max

    assert (bins_of(numbers, 2)[0].tolist(), stats_of(numbers)["not_finite"]) == ([1, 1], 1)
