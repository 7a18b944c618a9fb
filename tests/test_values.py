"""Whatever is recorded becomes a plain value, once, in one place."""

import collections
import decimal
import enum
import fractions
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from awkward import FalseClass, Hostile, HostileText, RaisesHostile
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.logger import Figure, HParam, Image, Video

from rl_logging.rich import Media, rich_kind
from rl_logging.values import describe, number_text, short_text, to_float, to_plain, to_text


class Colour(enum.IntEnum):
    RED = 3


class Loud(str):
    def __str__(self) -> str:
        return "not what it holds"


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float16(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.int64(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.array(2.5), 2.5),
        (np.array([7]), 7),
        (np.array([[1.5]]), 1.5),
        (np.str_("text"), "text"),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (torch.tensor([0.5], dtype=torch.bfloat16), 0.5),
        (torch.tensor(1.5, dtype=torch.float8_e5m2), 1.5),
        (torch.tensor(7), 7),
        (torch.tensor(True), True),
        (torch.nn.Parameter(torch.tensor(2.0)), 2.0),
        (torch.tensor([0.0, 3.0]).to_sparse()[1], 3.0),
        (decimal.Decimal("0.25"), 0.25),
        (fractions.Fraction(1, 4), 0.25),
        (Colour.RED, 3),
        (True, True),
        (None, None),
        (10**5000, 10**5000),
        (-0.0, -0.0),
        (Loud("kept"), "kept"),
        ("\ud800!", "\\ud800!"),
        ("", ""),
        (1 + 2j, "(1+2j)"),
        (np.complex64(1 + 2j), "(1+2j)"),
        (b"raw", "b'raw'"),
        ([1, (2.5, {"a": np.int8(3)})], [1, [2.5, {"a": 3}]]),
        ([np.array([1, 2]), torch.tensor([3])], [[1, 2], 3]),
        ({1: "a", None: np.arange(2)}, {"1": "a", "None": [0, 1]}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([None, 1], dtype=object), [None, 1]),
        ([Video(torch.zeros(1, 9, 3, 4, 4), 30)], ["<video 9 frames>"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_becomes_plain(given, plain):
    """The type of a number must not decide in which outputs it stands."""
    result = to_plain(given)

    assert (type(result), repr_of(result)) == (type(plain), repr_of(plain))


def repr_of(value: object) -> object:
    """The value so that 0.0 and -0.0 differ, and integers of any length compare."""
    return value if isinstance(value, int) else repr(value)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_array_is_copied(kind):
    """A training loop fills its buffers again before anybody has read the record."""
    buffer = kind([1.0, 2.0, 3.0])

    plain = to_plain(buffer)
    buffer[0] = 99.0

    assert plain.tolist() == [1.0, 2.0, 3.0]


def test_long_double_array_holds_python_floats():
    """No JSON writer knows numpy's long double."""
    plain = to_plain([np.array([0.5, 1.5], dtype=np.longdouble)])

    assert [type(number) for number in plain[0]] == [float, float]


@pytest.mark.parametrize("kind", [Hostile, FalseClass, RaisesHostile])
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value], lambda value: {"a": value}])
def test_hostile_object_becomes_a_text(kind, wrap):
    """Logging calls code that it does not know; that code may raise anything."""
    text = str(to_plain(wrap(kind())))

    assert f"<{kind.__name__} whose text failed" in text


def test_hostile_text_is_read_as_the_text_it_is():
    """A subclass of str may override what every writer calls."""
    assert to_plain(HostileText("kept")) == "kept"


def test_text_that_fails_names_the_type():
    """What cannot be shown is still found in the user's program."""
    assert to_plain(Hostile()) == "<Hostile whose text failed: RuntimeError>"


@pytest.mark.parametrize("copies", [1, 2, 50])
def test_list_that_holds_itself_ends(copies):
    """Two references to itself must not cost two to the power of the depth."""
    value: list[object] = ["leaf"]
    value += [value] * copies

    plain = to_plain(value)

    assert plain[0] == "leaf"
    assert len(plain) == 1 + copies


def test_deep_nesting_ends_as_text():
    """A list of a thousand levels is beyond what JSON's readers follow."""
    value: list[object] = []
    for _ in range(1000):
        value = [value]

    plain, depth = to_plain(value), 0
    while isinstance(plain, list):
        plain, depth = plain[0], depth + 1

    assert isinstance(plain, str)
    assert depth < 100


def test_integer_too_long_to_print_becomes_a_word_inside_a_list():
    """Python refuses to print it, so no JSON text can hold it."""
    assert to_plain([10**5000]) == ["<integer of 16610 bits>"]


def test_tensor_without_data_becomes_its_text():
    """A tensor on the meta device has a shape and no values."""
    assert "meta" in to_plain(torch.zeros(3, device="meta"))


@given(st.floats(allow_nan=False, width=32))
def test_float32_is_kept_exactly(value):
    """A number reads back as ``float(value)`` of what was given."""
    assert to_plain(np.float32(value)) == to_plain(torch.tensor(value)) == float(value)


@given(st.text(st.characters(), max_size=20))
def test_any_text_can_be_stored_as_utf8(text):
    """Python's texts may hold halves of characters, which no file can."""
    assert to_text(text).encode("utf-8", "strict").decode() == to_plain(text)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (Video(torch.zeros(1, 120, 3, 4, 4), 30), "video", "<video 120 frames>"),
        (Video(None, 30), "video", "<video>"),  # type: ignore[arg-type]
        (Image(np.zeros((84, 84, 3)), "HWC"), "image", "<image 84x84x3>"),
        (Image("file.png", "HWC"), "image", "<image>"),
        (Figure(None, close=True), "figure", "<figure>"),
        (HParam({"lr": 0.1}, {"loss": 0.0}), "hparam", "<hparam>"),
        (Media("video", "<video 3 frames>"), "video", "<video 3 frames>"),
        (np.zeros((84, 84), np.uint8), None, "<array 84x84 uint8>"),
        (np.array([1, 2, 3]), None, "[1 2 3]"),
        (np.array([]), None, "[]"),
        ([1, "a"], None, "[1, 'a']"),
        (Video.__new__(Video), "video", "<video>"),
        (Image.__new__(Image), "image", "<image>"),
    ],
)
def test_rich_value_has_a_short_word(value, kind, text):
    """A table and a CSV have one cell for a video."""
    assert (rich_kind(value), short_text(value)) == (kind, text)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.1 + 0.2, 5, "0.3"),
        (1234567.0, 5, "1.2346e+06"),
        (2048, 5, "2048"),
        (True, 5, "True"),
        (math.nan, 5, "nan"),
        (-math.inf, 5, "-inf"),
        (-(10**1000), 5, "-1" + "0" * 1000),
        (10**5000, 5, "<integer of 16610 bits>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_number_is_shown_for_people(value, digits, text):
    """Whole numbers stay whole; no number, however long, raises."""
    assert number_text(value, digits) == text


def test_integer_beyond_floats_becomes_infinity():
    """An output that holds floats shows the sign and the size, and does not raise."""
    assert (to_float(10**400), to_float(-(10**400)), to_float(2**53)) == (math.inf, -math.inf, 2.0**53)


def test_values_need_neither_torch_nor_sb3():
    """The process that delivers records to a tracker imports neither: it takes seconds."""
    code = (
        "import sys; from rl_logging.values import to_plain; import numpy as np;"
        "print(to_plain([np.float32(.5), object]), {'torch', 'stable_baselines3'} & set(sys.modules))"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout == "[0.5, \"<class 'object'>\"] set()\n"


def test_a_long_error_ends_with_what_it_began_with() -> None:
    """HTTP libraries wrap a refused connection into a screenful."""
    try:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as cause:
            raise RuntimeError("API request to http://me:pw@host:5000/api failed: " + "x" * 400) from cause
    except RuntimeError as error:
        told = describe(error)

    assert told.startswith("RuntimeError: API request to http://host:5000/api failed: xxx")
    assert told.endswith("… ConnectionRefusedError: Connection refused")
    assert len(told) < 250
