"""progress.json: every line is valid JSON, whatever was recorded."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from awkward import Hostile
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.logger import FormatUnsupportedError, Video

from rl_logging import JSONOutputFormat
from rl_logging.record import Record, make_record


@pytest.fixture
def path(tmp_path):
    return tmp_path / "progress.json"


def _rows(path):
    """The lines by a reader that takes JSON only, not what Python adds to it."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line, parse_constant=pytest.fail) for line in file]


def test_line_holds_step_and_time_first(path):
    """The exact bytes, so that jq and other programs can rely on them."""
    output = JSONOutputFormat(path)
    output.handle(Record(10, 1.5, {"loss": 0.1, "on": True, "note": 'é "x"\n', "none": None}))
    output.close()

    line = '{"step":10,"time":1.5,"loss":0.1,"on":true,"note":"é \\"x\\"\\n","none":null}\n'
    assert path.read_text(encoding="utf-8") == line


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner), max_leaves=6
)


@given(st.lists(st.dictionaries(st.text(max_size=5), VALUES, min_size=1, max_size=4), min_size=1, max_size=3))
def test_every_line_is_strict_json(tmp_path_factory, rows):
    """One line that a strict reader refuses makes the whole file unreadable for it."""
    path = tmp_path_factory.mktemp("json") / "progress.json"
    output = JSONOutputFormat(path)
    records = [make_record(row, {}, step) for step, row in enumerate(rows)]
    for record in records:
        output.handle(record)
    output.close()

    assert [list(row) for row in _rows(path)] == [["step", "time", *record.values] for record in records]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        ([1.0, math.nan, [math.inf]], [1.0, "NaN", ["Infinity"]]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([0.5, np.nan], np.float32), [0.5, "NaN"]),
        (np.array([0.5, 1.5], np.longdouble), [0.5, 1.5]),
        (torch.tensor([True, False]), [True, False]),
        (torch.tensor([0.5, 1.5], dtype=torch.bfloat16), [0.5, 1.5]),
        ({"a": [np.float32(0.5), {"b": np.arange(2)}]}, {"a": [0.5, {"b": [0, 1]}]}),
        (np.array([]), []),
        (2**63, "9223372036854775808"),
        (-(2**70), "-1180591620717411303424"),
        (10**5000, "<integer of 16610 bits>"),
        ([10**5000, 2**70], ["<integer of 16610 bits>", "1180591620717411303424"]),
        (1 + 2j, "(1+2j)"),
        ("\ud800", "\\ud800"),
        (Hostile(), "<Hostile whose text failed: RuntimeError>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_is_stored(path, value, stored):
    """The rule of the documentation, value by value."""
    output = JSONOutputFormat(path)
    output.handle(make_record({"value": value}, {}, 1))
    output.close()

    assert _rows(path)[0]["value"] == stored


def test_pandas_gives_numbers(path):
    """``NaN`` as a text must not make a column of texts of a column of numbers."""
    output = JSONOutputFormat(path)
    values = [0.1, math.nan, math.inf, -math.inf, 1 / 3]
    for step, value in enumerate(values):
        output.handle(make_record({"loss": value}, {}, step))
    output.close()

    table = pd.read_json(path, lines=True, precise_float=True)

    assert list(table["step"]) == [0, 1, 2, 3, 4]
    assert table["loss"].dtype == np.float64
    assert repr(table["loss"].tolist()) == repr(values)


def test_reopening_appends_after_a_torn_line(path):
    """Starting a run again keeps its first part, but not the half line that a kill left."""
    path.write_text('{"step":1,"time":1.5,"loss":0.5}\n{"step":2,"ti')

    output = JSONOutputFormat(path)
    output.handle(Record(3, 2.5, {"loss": 0.25}))
    output.close()

    assert _rows(path) == [{"step": 1, "time": 1.5, "loss": 0.5}, {"step": 3, "time": 2.5, "loss": 0.25}]


def test_history_is_what_was_measured(path):
    """Only numbers are compared with the journal, NaN and infinities among them."""
    output = JSONOutputFormat(path)
    output.handle(
        make_record({"note": "Infinite", "on": True, "x": math.inf, "big": 2**70, "list": [1]}, {}, 4)
    )
    output.close()

    assert output.history() == {"on": [(4, 1.0)], "x": [(4, math.inf)], "big": [(4, 2.0**70)]}


def test_refused_value_does_not_lose_the_row(path):
    """A video cannot go into this file, but the scalars recorded with it still do."""
    output = JSONOutputFormat(path)

    with pytest.raises(FormatUnsupportedError, match="json is not supported for the video"):
        output.write(
            {"loss": 0.5, "clip": Video(torch.zeros(1, 3, 3, 4, 4), 30)}, {"loss": (), "clip": ()}, 3
        )
    output.close()

    (row,) = _rows(path)
    assert {key: row[key] for key in ("step", "loss", "clip")} == {
        "step": 3,
        "loss": 0.5,
        "clip": "<video 3 frames>",
    }
