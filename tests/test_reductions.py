"""The logger's record_* methods: one value of many, once a dump."""

import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_logging import Logger, MemoryOutputFormat
from rl_logging.distributed.buffer import Buffer
from rl_logging.distributed.parts import part_of, reduced
from rl_logging.tensors import fetched


@pytest.fixture
def memory():
    return MemoryOutputFormat()


@pytest.fixture
def logger(tmp_path, memory):
    with Logger(str(tmp_path), [memory]) as made:
        yield made


def dumped(logger, memory) -> dict:
    """What the next dump has."""
    logger.dump(1)
    return dict(memory.records[-1].values)


def test_each_reduction_gives_one_value_a_dump(logger, memory):
    """And begins anew with the next."""
    for value in (3.0, 1.0, 2.0):
        logger.record_sum("sum", value)
        logger.record_min("min", value)
        logger.record_max("max", value)
        logger.record_mean("mean", value)
    assert dumped(logger, memory) == {"sum": 6.0, "min": 1.0, "max": 3.0, "mean": 2.0}

    logger.record_sum("sum", 1)
    assert dumped(logger, memory) == {"sum": 1}


def test_mean_is_weighted(logger, memory):
    """A batch of three counts three times one of one."""
    logger.record_mean("loss", 1.0, weight=3)
    logger.record_mean("loss", 5.0)
    logger.record_mean("loss", 8.0, weight=0.5)

    assert dumped(logger, memory) == {"loss": pytest.approx((3 + 5 + 4) / 4.5)}


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.01, 100)), min_size=1))
def test_weighted_mean_is_numpys(values):
    """Of all raw values."""
    logger = Logger(None, [])
    for value, weight in values:
        logger.record_mean("a", value, weight=weight)
    expected = np.average([value for value, _ in values], weights=[weight for _, weight in values])

    assert logger.name_to_value["a"] == pytest.approx(expected, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, "1"])
def test_bad_weight_loses_no_value_and_raises_nothing(logger, memory, caplog, weight):
    """It is said, and the value stands beside."""
    logger.record_mean("loss", 1.0)
    logger.record_mean("loss", 7.0, weight=weight)

    assert dumped(logger, memory) == {"loss": 1.0, "loss (float)": 7.0}
    assert "recorded as 'loss (float)', because" in caplog.text


def test_weight_of_nothing_counts_for_nothing(logger, memory, caplog):
    """A batch of which all is masked."""
    logger.record_mean("loss", 1.0)
    logger.record_mean("loss", math.nan, weight=0)
    logger.record_mean("other", 3.0, weight=0)

    assert dumped(logger, memory) == {"loss": 1.0}
    assert caplog.text == ""


def test_percentiles_of_few_numbers_are_numpys(logger, memory):
    """An evaluation has five episodes, not five thousand."""
    logger.record_stats("return", [10, 20])

    found = dumped(logger, memory)
    assert (found["return_p50"], found["return_p90"]) == (15.0, 19.0)


def test_recorded_value_with_the_name_of_an_ending_is_kept_beside(logger, memory, caplog):
    """Nothing is lost."""
    logger.record_stats("x", [1.0, 3.0])
    logger.record("x_mean", 7.0)
    found = dumped(logger, memory)

    assert (found["x_mean"], found["x_mean (reduced)"]) == (7.0, 2.0)
    assert "'x_mean' was recorded, too" in caplog.text


def test_stats_have_an_ending_each(logger, memory):
    """Of arrays of any shape, over several calls."""
    values = np.arange(100.0).reshape(4, 25)
    logger.record_stats("return", values[:2])
    logger.record_stats("return", values[2:].tolist())
    logger.record_stats("return", torch.tensor(500.0))
    whole = np.append(values.ravel(), 500)

    found = dumped(logger, memory)
    assert found == {
        "return_mean": pytest.approx(whole.mean()),
        "return_std": pytest.approx(whole.std()),
        "return_min": 0.0,
        "return_max": 500.0,
        "return_p50": pytest.approx(50, rel=0.02),
        "return_p90": pytest.approx(90, rel=0.02),
        "return_count": 101,
    }


def test_stats_take_a_copy(logger, memory):
    """The caller's buffer is used again for the next rollout."""
    buffer = np.ones(3)
    logger.record_stats("a", buffer)
    buffer[:] = 100

    assert dumped(logger, memory)["a_max"] == 1.0


def test_stats_of_nothing_are_nothing(logger, memory):
    """No episode has ended in this rollout."""
    logger.record_stats("a", [])
    logger.record("b", 1)

    assert dumped(logger, memory) == {"b": 1}


def test_window_goes_on_over_dumps(logger, memory):
    """As SB3's own mean of the last 100 episodes."""
    seen = []
    for value in (1.0, 2.0, 3.0, 4.0):
        logger.record_window("a", value, window=3)
        seen.append(dumped(logger, memory)["a"])
    logger.record("b", 1)

    assert seen == [1.0, 1.5, 2.0, 3.0]
    assert dumped(logger, memory) == {"b": 1}


def test_ema_counts_the_first_value_in_full_and_goes_on(logger, memory):
    """No long way up from zero."""
    seen = []
    for value in (10.0, 20.0):
        logger.record_ema("a", value, coefficient=0.5)
        seen.append(dumped(logger, memory)["a"])

    assert seen == [10.0, pytest.approx((0.25 * 10 + 0.5 * 20) / 0.75)]


def test_rate_is_the_amount_over_the_time_between_dumps():
    """By a clock that the test turns."""
    now = [100.0]
    buffer = Buffer(lambda: now[0])
    buffer.rate("fps", 30)
    buffer.rate("fps", 10)
    now[0] = 104.0
    assert reduced(part_of(0, 0, buffer.take(), {})).values == {"fps": 10.0}

    now[0] = 106.0
    assert buffer.take() == {}
    buffer.rate("fps", 3)
    now[0] = 107.0
    assert reduced(part_of(0, 0, buffer.take(), {})).values == {"fps": 3.0}


def test_one_key_with_two_reductions_is_kept_apart(logger, memory, caplog):
    """And said once."""
    for _ in range(2):
        logger.record("loss", 5.0)
        logger.record_max("loss", 7.0)
        logger.record_sum("loss", 1.0)
        assert dumped(logger, memory) == {"loss (last)": 5.0, "loss (max)": 7.0, "loss (sum)": 1.0}

    assert caplog.text.count("'loss' was recorded in several ways (last, max, sum)") == 1


def test_exclusion_holds_for_every_ending(logger, memory):
    """As for recorded values."""
    logger.record_stats("a", [1, 2], exclude="memory")
    logger.record_sum("b", 1, exclude=("memory", "csv"))
    logger.record_sum("c", 1)

    assert dumped(logger, memory) == {"c": 1}


METHODS = [
    "record_sum",
    "record_min",
    "record_max",
    "record_stats",
    "record_window",
    "record_ema",
    "record_rate",
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", ["text", None, object, {"a": 1}, np.array(["x"])], ids=str)
def test_what_cannot_be_reduced_is_kept_beside_and_nothing_raises(logger, memory, method, value):
    """A wrong type must not end a run of three days."""
    getattr(logger, method)("a", 1.0)
    getattr(logger, method)("a", value)
    found = dumped(logger, memory)

    assert f"a ({type(value).__name__})" in found
    assert (
        {key for key in found if not key.endswith(")")} == {key for key in found if " (" not in key} != set()
    )


@pytest.mark.parametrize("method", ["record_sum", "record_min", "record_max", "record_window", "record_ema"])
@pytest.mark.parametrize("value", [torch.ones(3), np.ones((2, 2))], ids=["tensor", "array"])
def test_array_is_no_number(logger, memory, method, value):
    """record_stats takes arrays."""
    getattr(logger, method)("a", value)

    assert list(dumped(logger, memory)) == [f"a ({type(value).__name__})"]


@pytest.mark.parametrize(
    ("method", "option"), [("record_window", {"window": 0}), ("record_ema", {"coefficient": 2})]
)
def test_bad_option_is_said_and_the_default_taken(logger, memory, caplog, method, option):
    """Inside a training loop nothing raises."""
    getattr(logger, method)("a", 1.0, **option)

    assert dumped(logger, memory) == {"a": 1.0}
    assert "taken as" in caplog.text


def test_key_of_any_type_is_taken(logger, memory):
    """As by record()."""
    logger.record_sum(7, 1)
    logger.record_sum(["x"], 1)

    assert dumped(logger, memory) == {"7 (int)": 1, "['x'] (list)": 1}


class Counted(torch.Tensor):
    """A tensor that counts how often it is waited for."""

    waits = 0

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("item", "tolist", "cpu", "__float__", "numpy"):
            Counted.waits += 1
        return super().__torch_function__(function, types, args, kwargs or {})


def test_numbers_on_a_device_come_in_one_transfer():
    """Each alone would wait for all the device's work."""
    Counted.waits = 0
    values = {key: torch.tensor(float(key)).as_subclass(Counted) for key in range(50)}

    assert fetched({**values, "text": "a", "many": torch.ones(2)}).items() >= {
        (key, float(key)) for key in range(50)
    }
    assert Counted.waits == 1


def test_object_that_lies_about_its_class_is_not_asked():
    """A dump must not raise for it."""

    class Liar:
        @property
        def __class__(self):
            raise RuntimeError("no")

    liar = Liar()
    assert fetched({"a": liar})["a"] is liar


def test_tensors_keep_their_types_and_graphs_are_dropped():
    """An integer stays one."""
    values = {"i": torch.tensor(2**60), "f": torch.tensor([0.5], requires_grad=True), "b": torch.tensor(True)}

    assert fetched(values) == {"i": 2**60, "f": 0.5, "b": True}


def test_state_goes_on_from_a_checkpoint(tmp_path, memory):
    """Windows, averages, rates and the step, through JSON."""
    import json

    with Logger(str(tmp_path / "a"), []) as first:
        for value in (1.0, 2.0):
            first.record_window("w", value, window=3)
            first.record_ema("e", torch.tensor(value), coefficient=0.5)
        first.dump(40)
        state = json.loads(json.dumps(first.state_dict()))
        first.record_window("w", 6.0, window=3)
        first.record_ema("e", 6.0, coefficient=0.5)
        values, _ = first._take()
    with Logger(str(tmp_path / "b"), [memory]) as second:
        second.load_state_dict(state)
        second.record_window("w", 6.0, window=3)
        second.record_ema("e", 6.0, coefficient=0.5)
        second.info("at the step of the checkpoint")
        found = dumped(second, memory)

    assert (
        found == {key: pytest.approx(value) for key, value in values.items()} == {"w": 3.0, "e": found["e"]}
    )


@pytest.mark.parametrize("state", [{}, None, {"reductions": {}}, {"reductions": {}, "step": 1}])
def test_what_is_no_state_is_an_error_at_once(logger, state):
    """A checkpoint is loaded before training begins."""
    with pytest.raises(ValueError, match="no state of a logger"):
        logger.load_state_dict(state)


def test_threads_lose_no_value(logger, memory):
    """Environments in threads record into one logger."""

    def work() -> None:
        for _ in range(1000):
            logger.record_sum("a", 1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert dumped(logger, memory) == {"a": 4000}
