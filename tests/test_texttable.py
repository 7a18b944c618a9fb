"""Tables as plain text: laid out for a width, and read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_logging.texttable import Layout, cells, draw, group, keep_both_ends, keep_start, pad, read, visible

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
WIDE = st.text(st.sampled_from("a/é漢字🎉 ."))


@given(TEXTS)
def test_visible_text_holds_nothing_a_terminal_obeys(text):
    """A key from a data set must not move the cursor or change the window's title."""
    shown = visible(text)

    assert all(character.isprintable() or character.isspace() for character in shown)
    assert len(shown.splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("loss", "loss"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202eevil", "\\u202eevil"),
        ("\x9b", "\\x9b"),
        ("\u2028", "\\u2028"),
        ("épreuve 漢字", "épreuve 漢字"),
        ("no\xa0break", "no\xa0break"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    """What was there is seen, not obeyed."""
    assert visible(text) == shown


@given(WIDE, st.integers(1, 12))
def test_shortened_text_fits(text, width):
    """A Chinese character takes two columns of a terminal."""
    assert cells(keep_start(text, width)) <= width
    assert cells(keep_both_ends(text, width)) <= width


@given(WIDE, st.integers(0, 12))
def test_padded_text_fills_the_column(text, more):
    """The table's right edge is straight, whatever the script."""
    width = cells(text) + more

    assert cells(pad(text, width)) == width


@pytest.mark.parametrize(
    ("shorten", "text", "shown"),
    [
        (keep_start, "abcdefghij", "abcde..."),
        (keep_both_ends, "abcdefghij", "abc...ij"),
        (keep_both_ends, "abcdefgh", "abcdefgh"),
        (keep_start, "漢字漢字漢字", "漢字..."),
    ],
)
def test_shortened_text_says_that_it_is(shorten, text, shown):
    """Both ends of a key say what it is: the tag and the metric."""
    assert shorten(text, 8) == shown


def test_rows_are_sorted_and_grouped():
    """A key without a tag stands before any tag, never under another's."""
    entries = [
        ("b/y", "1"),
        ("z", "2"),
        ("b/x/deep", "3"),
        ("a/x", "4"),
        ("/odd", "5"),
        ("b/", "6"),
        ("", "7"),
    ]

    assert group(entries) == [
        ("", "7"),
        ("/odd", "5"),
        ("b/", "6"),
        ("z", "2"),
        ("a/", ""),
        ("   x", "4"),
        ("b/", ""),
        ("   x/deep", "3"),
        ("   y", "1"),
    ]


def test_table_looks_like_this():
    """The picture in the documentation."""
    rows = group([("rollout/ep_rew_mean", "22.1"), ("fps", "512")])

    table = draw(rows, Layout().widths(rows, None), "step 2048", "14:03:22")

    assert table.splitlines() == [
        "-- step 2048 ------------------ 14:03:22 --",
        "| fps                      | 512          |",
        "| rollout/                 |              |",
        "|    ep_rew_mean           | 22.1         |",
        "-------------------------------------------",
    ]


def test_widths_grow_and_do_not_shrink():
    """Tables below each other are read as one; their columns must not jump."""
    layout = Layout()
    widths = [layout.widths([("x" * key, "1" * value)], None) for key, value in [(1, 1), (30, 20), (1, 1)]]

    assert widths == [(24, 12), (30, 20), (30, 20)]


def test_one_long_key_does_not_widen_every_table():
    """It sticks out of its own row instead."""
    layout = Layout()

    assert layout.widths([("x" * 500, "1" * 500), ("y" * 30, "1")], None) == (30, 12)


@pytest.mark.parametrize("room", [20, 40, 80, 200])
def test_table_fits_the_terminal(room):
    """A line that wraps tears the whole table."""
    rows = [("x" * 100, "y" * 100), ("漢" * 50, "字" * 50), ("short", "1")]
    widths = Layout().widths(rows, room)

    shown = [(keep_both_ends(key, widths[0]), keep_start(value, widths[1])) for key, value in rows]
    lines = draw(shown, widths, "step 7", "12:00:00").splitlines()

    assert sum(widths) + 7 <= room
    assert {cells(line) for line in lines[1:]} == {sum(widths) + 7}


KEYS = st.text(st.sampled_from("abc/ |.é漢"), min_size=1, max_size=12).map(str.strip).filter(bool)


@given(st.dictionaries(KEYS, st.floats(allow_nan=False) | st.integers() | st.booleans()), st.integers())
def test_numbers_read_back(values, step):
    """``train.log`` can be inspected alone, also by a program."""
    rows = group((key, str(value)) for key, value in values.items())
    text = draw(rows, Layout().widths(rows, None), f"step {step}", "2026-01-01 12:00:00") if rows else ""

    assert read(f"a message\n{text}another\n| not | 1 |\n", values) == {
        key: [(step, float(value))] for key, value in values.items()
    }


def test_text_and_empty_values_are_not_read_as_numbers():
    """An empty text looks like the row of a tag, and must not hide the keys after it."""
    rows = group([("a/empty", ""), ("a/loss", "0.5"), ("a/note", "good"), ("empty", ""), ("reward", "1")])
    text = draw(rows, Layout().widths(rows, None), "step 3", "2026-01-01 12:00:00")

    assert read(text, []) == {"a/loss": [(3, 0.5)], "reward": [(3, 1.0)]}


@pytest.mark.parametrize("room", [40, 44, 60, 80])
def test_shortened_keys_read_back_as_what_they_were(room):
    """A console is compared with the journal also where it had to shorten."""
    keys = [
        "a_tag_that_is_much_too_long_for_this/and_a_key_that_is_no_shorter",
        "rollout/ep_rew_mean",
        "a...b/c",
    ]
    rows = group((key, str(number)) for number, key in enumerate(keys))
    widths = Layout().widths(rows, room)
    shown = [(keep_both_ends(key, widths[0]), value) for key, value in rows]

    points = read(draw(shown, widths, "step 7", "12:00:00"), keys)

    assert points == {key: [(7, float(number))] for number, key in enumerate(keys)}
