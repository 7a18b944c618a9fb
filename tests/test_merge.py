"""Parts of ranks, merged: what one process would have had, however the values were split."""

import functools
import math
import pickle

import numpy as np
import pytest
from ddsketch import DDSketch
from hypothesis import given
from hypothesis import strategies as st

from rl_logging.distributed.bins import RELATIVE_ERROR, binned
from rl_logging.distributed.bins import together as bins_together
from rl_logging.distributed.buffer import Buffer
from rl_logging.distributed.parts import Part, follow, merge, part_of, reduced
from rl_logging.distributed.stats import stats_of, together

KEYS = ("a", "b", "c")
NUMBERS = st.floats(-1e6, 1e6) | st.integers(-100, 100)
VALUES = st.tuples(st.sampled_from(KEYS), NUMBERS, st.floats(0.1, 10))
NEAR = {"rel": 1e-9, "abs": 1e-6}


def record(values, rank=0, compared=()) -> Part:
    """The part of a rank that recorded values in every way."""
    buffer = Buffer()
    for key, value, weight in values:
        buffer.sum(f"{key}_sum", value)
        buffer.mean(f"{key}_mean", value, weight)
        buffer.min(f"{key}_least", value)
        buffer.max(f"{key}_greatest", value)
        buffer.stats(f"{key}_stats", [value])
    return part_of(rank, 0, buffer.take(), {}, compared)


def near(values: dict[str, object]) -> dict[str, object]:
    return {key: pytest.approx(value, **NEAR) for key, value in values.items()}


@given(st.lists(st.lists(VALUES, max_size=8), min_size=1, max_size=5))
def test_any_split_over_ranks_gives_what_one_process_has(ranks):
    """The mean of a mean that ignores counts is the mistake that users of every peer report."""
    whole = record([value for values in ranks for value in values])
    split = merge(record(values, rank) for rank, values in enumerate(ranks))

    assert reduced(split).values == near(reduced(whole).values)
    assert split.ranks == frozenset(range(len(ranks)))


@given(st.lists(st.tuples(VALUES, st.booleans()), max_size=20), st.integers(0, 3))
def test_any_split_in_time_gives_what_one_take_has(values, rank):
    """As a worker that sends several times between two dumps."""
    now = 0.0
    whole, split = Buffer(lambda: now), Buffer(lambda: now)
    parts = []
    for (key, value, weight), is_cut in values:
        now += weight
        for buffer in (whole, split):
            buffer.last(f"{key}_last", value)
            buffer.sum(f"{key}_sum", value)
            buffer.mean(f"{key}_mean", value, weight)
            buffer.min(f"{key}_least", value)
            buffer.max(f"{key}_greatest", value)
            buffer.stats(f"{key}_stats", [value])
            buffer.window(f"{key}_window", value, 3)
            buffer.ema(f"{key}_ema", value, 0.1)
            buffer.time(f"{key}_time", weight)
            buffer.rate("rate", weight)
        if is_cut:
            parts.append(part_of(rank, 0, split.take(), {}))
    parts.append(part_of(rank, 0, split.take(), {}))

    expected = reduced(part_of(rank, 0, whole.take(), {})).values
    assert reduced(functools.reduce(follow, parts)).values == near(expected)


@given(st.lists(VALUES, min_size=1, max_size=30))
def test_reductions_are_what_numpy_says_of_all_values(values):
    """Weighted means among them."""
    found = reduced(record(values)).values

    for key in {key for key, _, _ in values}:
        numbers = np.array([value for name, value, _ in values if name == key], dtype=float)
        weights = np.array([weight for name, _, weight in values if name == key])
        assert found[f"{key}_sum"] == pytest.approx(numbers.sum(), **NEAR)
        assert found[f"{key}_mean"] == pytest.approx(np.average(numbers, weights=weights), **NEAR)
        assert found[f"{key}_least"] == found[f"{key}_stats_min"] == numbers.min()
        assert found[f"{key}_greatest"] == found[f"{key}_stats_max"] == numbers.max()
        assert found[f"{key}_stats_mean"] == pytest.approx(numbers.mean(), **NEAR)
        assert found[f"{key}_stats_std"] == pytest.approx(numbers.std(), rel=1e-6, abs=1e-3)
        assert found[f"{key}_stats_count"] == len(numbers)


@given(st.permutations(range(4)), st.lists(st.lists(VALUES, max_size=4), min_size=4, max_size=4))
def test_order_and_grouping_of_parts_do_not_matter(order, ranks):
    """Parts come when they come, by trees or by rings."""
    parts = [record(values, rank, compared=["a_sum", "b_greatest"]) for rank, values in enumerate(ranks)]
    a, b, c, d = (parts[index] for index in order)

    in_turn, other = merge(parts), merge([merge([a, b]), merge([merge([c]), d])])

    assert reduced(other).values == near(reduced(in_turn).values)
    assert other.ranks == in_turn.ranks
    assert other.recorded_by == in_turn.recorded_by
    assert other.extremes == in_turn.extremes


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=500), st.integers(1, 5))
def test_percentiles_are_within_their_bound_however_values_are_split(values, ranks):
    """One per cent of a value of that rank, as the sketch promises."""
    parts = [stats_of(values[rank::ranks]) for rank in range(ranks)]
    whole = parts[0]
    for part in parts[1:]:
        whole = together([whole, part])
    found = whole.results()

    for name, share in (("p50", 0.5), ("p90", 0.9)):
        if len(values) <= 64:
            assert found[name] == pytest.approx(np.quantile(values, share), **NEAR)
            continue
        place = share * (len(values) - 1)
        low, high = (sorted(values)[index] for index in (math.floor(place), math.ceil(place)))
        slack = 1.001 * RELATIVE_ERROR
        assert low - slack * abs(low) - 1e-9 <= found[name] <= high + slack * abs(high) + 1e-9


@given(st.lists(st.lists(st.floats(-1e300, 1e300) | st.just(0.0) | st.floats(-1, 1)), min_size=1, max_size=4))
def test_bins_are_those_of_the_ddsketch_package(splits):
    """However the numbers were split; a number at the edge of two bins may be in either."""
    sketch = DDSketch(RELATIVE_ERROR)
    for value in (value for values in splits for value in values):
        sketch.add(value)

    found = bins_together([binned(np.array(values, dtype=float)) for values in splits])

    assert found.total == sketch.count
    if found.total:
        shares = [0.0, 0.25, 0.5, 0.9, 1.0]
        expected = [sketch.get_quantile_value(share) for share in shares]
        assert found.percentiles(shares) == pytest.approx(expected, rel=2.1 * RELATIVE_ERROR, abs=0.0)


def test_ranks_may_have_different_keys():
    """A rank that has nothing to say blocks nobody."""
    found = merge([record([("a", 1, 1)], 0), record([("b", 2, 1)], 1), record([], 2)])

    assert found.ranks == {0, 1, 2}
    assert reduced(found).values["a_sum"] == 1
    assert reduced(found).values["b_sum"] == 2


def test_key_with_two_reductions_has_two_names_and_one_message():
    """Mixing them in silence is what peers do."""
    one, other = Buffer(), Buffer()
    one.mean("loss", 4)
    other.max("loss", 9)
    parts = [part_of(0, 0, one.take(), {"loss": ("csv",)}), part_of(3, 0, other.take(), {})]

    found = reduced(merge(parts))

    assert found.values == {"loss (mean)": 4, "loss (max)": 9}
    assert found.excluded == {"loss (mean)": ("csv",), "loss (max)": ("csv",)}
    (message,) = found.told.values()
    assert message.startswith("'loss' was recorded in several ways (max on rank 3; mean on rank 0)")


def test_rank_with_the_extreme_is_named_on_request():
    """Which of 64 workers is it that everyone waits for?"""
    parts = []
    for rank, seconds in enumerate([1.0, 5.0, 2.0]):
        buffer = Buffer()
        buffer.time("time/rollout", seconds)
        buffer.time("time/rollout", seconds)
        buffer.max("reward", -seconds)
        parts.append(part_of(rank, 0, buffer.take(), {}, ["time/rollout", "reward"]))

    alone = Buffer()
    alone.sum("alone", 1)
    parts.append(part_of(3, 0, alone.take(), {}, ["alone"]))

    assert reduced(merge(parts)).values == {
        "alone": 1,
        "time/rollout": 10.0,
        "time/rollout_count": 6,
        "time/rollout_mean": pytest.approx(16 / 6),
        "time/rollout@slowest_rank": 1,
        "time/rollout@fastest_rank": 0,
        "time/rollout@spread": 8.0,
        "reward": -1.0,
        "reward@highest_rank": 0,
        "reward@lowest_rank": 1,
        "reward@spread": 4.0,
    }


@pytest.mark.parametrize("order", [1, -1])
def test_nan_of_one_rank_is_seen(order):
    """Left out, it would hide that a rank has gone wrong; counts stay."""
    parts = [record([("a", 1, 1)], 0), record([("a", math.nan, 1)], 1)][::order]
    found = reduced(merge(parts)).values

    for key in (
        "sum",
        "mean",
        "least",
        "greatest",
        "stats_mean",
        "stats_std",
        "stats_min",
        "stats_max",
        "stats_p50",
    ):
        assert math.isnan(found[f"a_{key}"]), key
    assert found["a_stats_count"] == 2


def test_part_is_small_and_can_be_pickled():
    """It crosses processes at every dump."""
    part = record([("a", value, 1) for value in range(1000)])
    copy = pickle.loads(pickle.dumps(part))

    assert reduced(copy).values == reduced(part).values
    assert len(pickle.dumps(part)) < 10_000


def test_merge_of_nothing_is_nothing():
    """No rank has come."""
    assert reduced(merge([])).values == {}


def test_last_value_is_the_lowest_ranks_latest():
    """What all ranks record alike, such as the learning rate, is the first one's."""
    parts = [
        part_of(rank, 0, {("lr", "last"): (value,)}, {}) for rank, value in [(2, "c"), (0, "a"), (0, "b")]
    ]
    third, first, later = parts

    assert reduced(merge([third, first, later])).values == {"lr": "b"}
    assert reduced(merge([third, follow(first, later)])).values == {"lr": "b"}
