"""A record's line in the journal: exact both ways, and honest about damage."""

import json
import math
import zlib

import numpy as np
import pytest
import torch
from awkward import Hostile, RaisesHostile
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.logger import Video

from rl_logging.errors import JournalError
from rl_logging.line import decode, encode
from rl_logging.record import (
    METRICS,
    TEXT,
    Record,
    exclusion_names,
    key_name,
    make_record,
    message_record,
    to_step,
)
from rl_logging.rich import Media

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
NESTED = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=8)


@st.composite
def records(draw):
    values = draw(st.dictionaries(TEXTS, NESTED, max_size=6))
    excluded = {key: tuple(draw(st.lists(TEXTS, min_size=1, max_size=2))) for key in list(values)[::2]}
    time = draw(st.floats(0, 4e9))
    kind = draw(st.sampled_from([METRICS, TEXT]))
    return Record(draw(INT64), time, values, excluded, kind, draw(INT64), draw(TEXTS))


@given(records())
def test_line_reads_back_as_the_record(record):
    """The journal is the run's one truth; what it changes is wrong everywhere."""
    result = decode(encode(record))

    # repr: NaN equals NaN, and 0.0, -0.0, 0 and False all differ.
    assert repr(result) == repr(record)


@given(records())
def test_line_is_one_line_of_json(record):
    """``jq`` and ``grep`` work on a journal, and a reader can wait for the newline."""
    line = encode(record)

    assert line.index(b"\n") == len(line) - 1
    assert isinstance(json.loads(line, parse_constant=pytest.fail), dict)


@pytest.mark.parametrize("value", [2**63, 2**64, -(2**63) - 1, 10**5000, -(10**5000)], ids=list("abcde"))
def test_integer_beyond_64_bits_is_exact(value):
    """A seed or a hash may be such a number."""
    assert decode(encode(Record(0, 0.0, {"n": value}))).values == {"n": value}


def test_rich_value_keeps_its_kind_and_a_word():
    """Readers of the journal need neither torch nor the video."""
    values = {"clip": Video(torch.zeros(1, 5, 3, 4, 4), 30), "frame": np.zeros((512, 512))}

    assert decode(encode(make_record(values, {}, 3))).values == {
        "clip": Media("video", "<video 5 frames>"),
        "frame": Media("array", "<array 512x512 float64>"),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint64", "bool", ">f4"])
def test_array_is_kept_to_the_bit(dtype):
    """A histogram of it is drawn by another process."""
    array = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)[:, ::2]

    kept = decode(encode(make_record({"weights": array}, {}, 3))).values["weights"]

    assert (kept.dtype, kept.shape, kept.tolist()) == (array.dtype, array.shape, array.tolist())


@given(records(), st.data())
def test_damaged_line_is_never_taken_for_a_good_one(record, data):
    """A wrong number in a paper is worse than a missing one."""
    line = bytearray(encode(record))
    at = data.draw(st.integers(0, len(line) - 2))
    line[at] ^= data.draw(st.integers(1, 255))

    try:
        result = repr(decode(bytes(line)))
    except JournalError:
        result = "reported"

    # The two bytes between checksum and body carry nothing: a change there loses nothing.
    assert result == "reported" or (at in (16, 17) and result == repr(record))


@given(records(), st.data())
def test_torn_line_is_reported(record, data):
    """A kill in the middle of a write leaves the start of a line."""
    line = encode(record)
    end = data.draw(st.integers(0, len(line) - 2))

    with pytest.raises(JournalError, match="checksum"):
        decode(line[:end])


@pytest.mark.parametrize(
    "body", [b'"v":1}', b'"v":1,"seq":1,"kind":"metrics"}', b"not json", b'"v":"x"}', b'"v":null}']
)
def test_line_of_another_shape_is_reported(body):
    """A checksum that holds says nothing about who wrote the line."""
    with pytest.raises(JournalError):
        decode(sealed(body))


def test_line_of_a_later_version_names_it():
    """An old installation must say that it is old, not that the file is damaged."""
    with pytest.raises(JournalError, match="the line has version 2; this package reads up to 1"):
        decode(sealed(b'"v":2,"anything":[]}'))


def sealed(body: bytes) -> bytes:
    return b'{"crc":"%08x",' % zlib.crc32(body) + body + b"\n"


def test_output_gets_what_is_not_excluded_from_it():
    """``exclude`` is by output: leaving one out changes nothing for the others."""
    record = make_record({"a": 1, "b": 2, "c": 3}, {"a": ("csv",), "b": ("csv", "log"), "c": None}, step=1)

    assert record.without("csv").values == {"c": 3}
    assert record.without("log").values == {"a": 1, "c": 3}
    assert record.without("stdout").values == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("loss", "loss"),
        ("", ""),
        (1, "1 (int)"),
        (None, "None (NoneType)"),
        (("a", 1), "('a', 1) (tuple)"),
        (np.str_("loss"), "loss"),
        ("step", "step_"),
        ("step_", "step__"),
        ("time", "time_"),
        ("global_step", "global_step_"),
        ("train/step", "train/step"),
        ("\udcff", "\\udcff"),
    ],
)
def test_key_has_one_name_everywhere(key, name):
    """A key may be anything; the files' own columns are never overwritten."""
    assert key_name(key) == name


def test_keys_that_differ_in_type_are_both_kept():
    """``1`` and ``"1"`` are two keys of a Python dict."""
    record = make_record({1: "a", "1": "b", "1 (int)": "c", "step": 5, "step_": 6}, {}, step=1)

    assert record.values == {"1 (int)": "a", "1": "b", "1 (int)_": "c", "step_": 5, "step__": 6}


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("csv", ("csv",)),
        (["csv", "log"], ("csv", "log")),
        (("csv",), ("csv",)),
        (7, ("7",)),
        ([None, 1], ("None", "1")),
        ("\ud800", ("\\ud800",)),
        (["\ud800"], ("\\ud800",)),
    ],
)
def test_exclusions_are_names(given, names):
    """What SB3 takes, and lists too."""
    assert exclusion_names(given) == names


@pytest.mark.parametrize("hostile", [Hostile, RaisesHostile])
def test_hostile_exclusion_is_a_text(hostile):
    """An object that cannot be listed excludes nothing, and raises nothing."""
    (name,) = exclusion_names(hostile())

    assert name.startswith(f"<{hostile.__name__} whose text failed")


@pytest.mark.parametrize(
    ("given", "step"),
    [(7, 7), (np.int64(7), 7), (1.7, 1), (-1.7, -1), (True, 1), (torch.tensor(5), 5), (-(2**63), -(2**63))],
)
def test_step_becomes_a_python_integer(given, step):
    """Algorithms count in whatever their arrays hold."""
    result = to_step(given)

    assert (type(result), result) == (int, step)


@pytest.mark.parametrize("step", ["7", b"7", "x", None, math.nan, math.inf, 2**63, 2**70, [1], Hostile])
def test_step_that_is_none_says_so(step):
    """An output called directly tells its caller what a step is."""
    with pytest.raises(ValueError, match=r"^a step is a (finite )?number"):
        to_step(step() if step is Hostile else step)


def test_step_too_long_to_print_says_so():
    """Not even the message about it may raise another error."""
    with pytest.raises(ValueError, match=r"^a step is a number of at most 64 bits"):
        to_step(10**5000)


def test_message_can_be_stored():
    """A message may hold what a file name on Linux holds."""
    record = message_record("cannot read \udcff", "warn", step=3)

    assert (record.kind, record.values) == (TEXT, {"message": "cannot read \\udcff", "level": "warn"})
