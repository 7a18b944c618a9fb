"""Nothing that reaches a logger raises, whatever it is, and the rest of the dump arrives."""

import contextlib
import decimal
import io
import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from awkward import FalseClass, Hostile, HostileText, RaisesHostile
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.logger import Figure, HParam, Image, Video

from rl_logging import FixedHumanOutputFormat, Logger, MemoryOutputFormat, configure
from rl_logging.journal import read


def _list_in_itself() -> list:
    value: list = [1, "a"]
    value += [value, {"again": value}]
    return value


AWKWARD = {
    "hostile": Hostile,
    "false class": FalseClass,
    "hostile error": RaisesHostile,
    "hostile text": lambda: HostileText("text"),
    "long integer": lambda: 10**5000,
    "longer text": lambda: "x" * 1_000_000,
    "lone surrogate": lambda: "\ud800",
    "control characters": lambda: "\0\x1b[2J\r\n\u2028",
    "empty": lambda: "",
    "nan": lambda: math.nan,
    "none": lambda: None,
    "bytes": lambda: b"\xff",
    "list in itself": _list_in_itself,
    "list of hostile": lambda: [Hostile(), FalseClass()],
    "dict of hostile": lambda: {(): Hostile()},
    "signalling nan": lambda: decimal.Decimal("sNaN"),
    "generator": lambda: (n for n in range(3)),
    "class": lambda: Hostile,
    "array of objects": lambda: np.full(2, FalseClass, dtype=object),
    "array of long doubles": lambda: np.array([0.5, 1.5], np.longdouble),
    "array of dates": lambda: np.array(["2026-01-01"], "datetime64[D]"),
    "array of records": lambda: np.zeros(2, dtype=[("a", int), ("b", float)]),
    "masked": lambda: np.ma.masked,
    "empty array": lambda: np.zeros((0, 3)),
    "tensor with a graph": lambda: torch.ones(3, requires_grad=True) * 2,
    "bfloat16": lambda: torch.ones(3, dtype=torch.bfloat16),
    "meta": lambda: torch.zeros(3, device="meta"),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "complex": lambda: torch.ones(3, dtype=torch.complex64),
    "frame": lambda: pd.DataFrame({"a": [1]}),
    "video": lambda: Video(None, 30),  # type: ignore[arg-type]
    "video of a text": lambda: Video("frames", 30),  # type: ignore[arg-type]
    "image": lambda: Image(Hostile(), "HWC"),  # type: ignore[arg-type]
    "figure": lambda: Figure(None, close=True),  # type: ignore[arg-type]
    "hparam": lambda: HParam({"a": Hostile()}, {"b": 1}),  # type: ignore[dict-item]
}


@pytest.fixture
def run(tmp_path):
    """A logger with every output that needs no tracker, and the console's stream."""
    console, memory = io.StringIO(), MemoryOutputFormat()
    outputs = [FixedHumanOutputFormat(console), "log", "csv", "json", memory]
    with configure(tmp_path, outputs) as logger:
        yield logger, memory, console


def _everything_is_there(folder, steps):
    """Read every file with its real reader: each holds each of these steps."""
    with (folder / "progress.json").open(encoding="utf-8", newline="\n") as file:
        rows = [json.loads(line, parse_constant=pytest.fail) for line in file]
    assert [row["step"] for row in rows] == steps
    assert pd.read_csv(folder / "progress.csv", dtype=str)["step"].astype(int).to_list() == steps
    assert [record.step for record in read(folder / "journal.jsonl") if record.kind == "metrics"] == steps
    assert (folder / "train.log").read_text("utf-8").count("\n-- step ") == len(steps)


@pytest.mark.parametrize("kind", AWKWARD)
def test_any_value_is_recorded(run, tmp_path, caplog, kind):
    """It costs at most itself: what was recorded with it arrives, and no output complains."""
    logger, memory, console = run

    logger.record("value", AWKWARD[kind]())
    logger.record_mean("mean", AWKWARD[kind]())
    logger.record_mean("mean", AWKWARD[kind]())
    logger.record("good", 0.5, exclude=AWKWARD[kind]())
    logger.dump(7)
    logger.info(AWKWARD[kind](), "good")
    logger.close()

    assert "value" in memory.records[1].values
    assert memory.records[1].values["good"] == 0.5
    assert memory.records[2].values["message"].endswith(" good")
    assert "-- step 7 --" in console.getvalue()
    assert [told.getMessage() for told in caplog.records if "was not written" in told.getMessage()] == []
    _everything_is_there(tmp_path, [7])


@pytest.mark.parametrize("kind", AWKWARD)
def test_any_key_is_recorded(run, tmp_path, caplog, kind):
    """An unhashable key, one that raises, one of a million characters."""
    logger, memory, _ = run

    logger.record(AWKWARD[kind](), 1)
    logger.record_mean(AWKWARD[kind](), 2)
    logger.record("good", 0.5)
    logger.dump(7)
    logger.close()

    values = memory.records[1].values
    assert values["good"] == 0.5
    assert 2 <= len(values) <= 3
    assert all(type(key) is str for key in values)
    assert [told.getMessage() for told in caplog.records if "was not written" in told.getMessage()] == []
    _everything_is_there(tmp_path, [7])


@pytest.mark.parametrize("kind", AWKWARD)
def test_any_step_is_taken(run, tmp_path, kind):
    """What is no number counts as the last dump's step."""
    logger, memory, _ = run

    for step in (41, AWKWARD[kind](), 43):
        logger.record("a", 1)
        logger.dump(step)
    logger.close()

    steps = [record.step for record in memory.records[1:]]
    assert steps == [41, 41, 43]
    _everything_is_there(tmp_path, steps)


@pytest.mark.parametrize(
    ("step", "taken"),
    [
        ("x", 5),
        ("7", 5),
        (math.nan, 5),
        (math.inf, 5),
        (2**70, 5),
        (None, 5),
        (np.int64(9), 9),
        (1.7, 1),
        (-3, -3),
    ],
)
def test_step_is_a_number_or_the_last_one(step, taken):
    """A wrong step must not cost the values, nor make up a number."""
    with Logger(None, [memory := MemoryOutputFormat()]) as logger:
        for given_step in (5, step):
            logger.record("a", 1)
            logger.dump(given_step)

    assert [record.step for record in memory.records] == [5, taken]


def test_wrong_step_is_told(caplog):
    """It is a mistake in the user's program, which they want to find."""
    with Logger(None, []) as logger:
        logger.dump(3)
        logger.dump("x")  # type: ignore[arg-type]
        logger.dump("x")  # type: ignore[arg-type]

    assert [told.getMessage() for told in caplog.records] == [
        "dump: a step is a finite number, not 'x'; taken as step 3, the last one"
    ]


@pytest.mark.parametrize("level", ["loud", None, math.nan, [20], Hostile(), np.array([1, 2])], ids=range(6))
def test_any_level_is_taken(level, caplog):
    """A message with a level that is none counts as info."""
    with Logger(None, [memory := MemoryOutputFormat()]) as logger:
        logger.log("one", level=level)
        logger.set_level(level)
        logger.log("two")
        logger.debug("unseen")
        logger.record("a", 1)
        logger.dump(1)

    assert [record.values.get("message") for record in memory.records] == ["one", "two", None]
    assert "is no level; taken as info" in caplog.text


def test_keys_that_differ_only_in_type_are_both_there():
    """``1`` and ``"1"``; SB3's console raises when it sorts them."""
    with Logger(None, [memory := MemoryOutputFormat()]) as logger:
        logger.record(1, "number")
        logger.record("1", "text")
        logger.record((1,), "tuple")
        logger.dump(1)

    assert memory.records[0].values == {"1 (int)": "number", "1": "text", "(1,) (tuple)": "tuple"}


def test_what_has_no_mean_stands_beside_it():
    """Neither is lost, and nothing is made up."""
    with Logger(None, [memory := MemoryOutputFormat()]) as logger:
        for value in (1.0, "text", 3.0):
            logger.record_mean("a", value)
        logger.record_mean(["unhashable"], 5.0)
        logger.record_mean("b", torch.tensor([1.0, 3.0], requires_grad=True))
        logger.record_mean("b", torch.tensor([3.0, 5.0]))
        logger.dump(1)

    values = memory.records[0].values
    assert values.pop("b").tolist() == [2.0, 4.0]
    assert values == {"a": 2.0, "a (str)": "text", "['unhashable'] (list)": 5.0}


def test_logger_that_was_closed_goes_on_in_silence(run, tmp_path):
    """A callback may log at the very end; what is in the files stays."""
    logger, _, _ = run
    logger.record("a", 1)
    logger.dump(1)
    logger.close()

    logger.record("a", 2)
    logger.dump(2)
    logger.info("late")
    logger.close()

    _everything_is_there(tmp_path, [1])


ORDINARY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=5,
)
# Functions that make the value: Hypothesis itself cannot look at some of them.
ANYTHING = ORDINARY.map(lambda value: lambda: value) | st.sampled_from(list(AWKWARD.values()))


@settings(max_examples=60)
@given(st.lists(st.tuples(ANYTHING, ANYTHING, ANYTHING, ANYTHING), min_size=1, max_size=3))
def test_nothing_raises(tmp_path_factory, calls):
    """Whatever is combined with whatever."""
    folder = tmp_path_factory.mktemp("run")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about numbers too big for a mean
        with configure(folder, ["stdout", "log", "csv", "json"]) as logger:
            for key, value, exclude, step in calls:
                logger.record(key(), value(), exclude())
                logger.record_mean(key(), value(), exclude())
                logger.record("good", 1)
                logger.dump(step())
                logger.warn(value(), key())
    steps = [record.step for record in read(folder / "journal.jsonl") if record.kind == "metrics"]

    assert len(steps) == len(calls)
    _everything_is_there(folder, steps)
