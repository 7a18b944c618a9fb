"""The console and train.log: tables for people."""

import fcntl
import io
import os
import pty
import select
import struct
import sys
import termios
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.logger import FormatUnsupportedError, Video
from tqdm import tqdm

from rl_logging import FixedHumanOutputFormat, configure
from rl_logging.record import Record, key_name, make_record, message_record
from rl_logging.texttable import cells

NOON = 1_750_000_000.0


def table(values: dict, step: int = 2048, **arguments) -> list[str]:
    """The lines that a console which is no terminal gets for one dump."""
    stream = io.StringIO()
    record = make_record(values, {}, step)
    FixedHumanOutputFormat(stream, **arguments).handle(Record(step, NOON, record.values))
    return stream.getvalue().splitlines()


def clock(pattern: str) -> str:
    return time.strftime(pattern, time.localtime(NOON))


@pytest.fixture
def terminal():
    """A real terminal of 60 columns: its stream, and a function that gives what it shows, up to a text."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    with open(theirs, "w", encoding="utf-8") as stream:

        def shown(last: str) -> str:
            stream.flush()
            seen = b""
            while last.encode() not in seen:
                assert select.select([ours], [], [], 10)[0], f"the terminal showed no {last!r}: {seen!r}"
                seen += os.read(ours, 1 << 16)
            return seen.decode("utf-8").replace("\r\n", "\n")

        yield stream, shown
    os.close(ours)


def test_table_of_one_dump():
    """Sorted, grouped by tag, with step and time of day."""
    values = {"train/loss": np.float32(0.1), "rollout/ep_rew_mean": 22.125, "fps": 512, "train/done": True}

    lines = table(values)

    assert lines == [
        f"-- step 2048 ------------------ {clock('%H:%M:%S')} --",
        "| fps                      | 512          |",
        "| rollout/                 |              |",
        "|    ep_rew_mean           | 22.125       |",
        "| train/                   |              |",
        "|    done                  | True         |",
        "|    loss                  | 0.1          |",
        "-------------------------------------------",
    ]


def test_keys_that_would_be_cut_to_the_same_are_both_there():
    """SB3 raises ValueError for them, in the middle of a training."""
    values = {f"{'x' * 60}_{name}": name for name in "abc"}

    lines = table(values, max_length=10)

    assert [line.split("|")[1].strip() for line in lines[1:-1]] == ["xxxx...x_a", "xxxx...x_b", "xxxx...x_c"]


def test_file_keeps_keys_and_values_whole(tmp_path):
    """A log that is read after the run has no width to fit."""
    output = FixedHumanOutputFormat(tmp_path / "train.log")
    output.handle(Record(1, NOON, {"k" * 300: "v" * 300}))
    output.close()

    lines = (tmp_path / "train.log").read_text().splitlines()

    assert lines[1] == f"| {'k' * 300} | {'v' * 300} |"


def test_file_tells_date_and_level(tmp_path):
    """``train.log`` can be inspected alone."""
    output = FixedHumanOutputFormat(tmp_path / "train.log")
    output.handle(Record(5, NOON, {"message": "careful", "level": "warn"}, kind="text"))
    output.handle(Record(5, NOON, {"loss": 1 / 3}))
    output.close()

    date = clock("%Y-%m-%d %H:%M:%S")
    assert (tmp_path / "train.log").read_text().splitlines() == [
        f"{date} WARN  careful",
        f"-- step 5 ---------- {date} --",
        "| loss                     | 0.3333333    |",
        "-------------------------------------------",
    ]


def test_file_is_continued_after_a_torn_line(tmp_path):
    """What a killed process left must not hide the next table."""
    path = tmp_path / "train.log"
    path.write_text("earlier\n| torn")

    output = FixedHumanOutputFormat(path)
    output.handle(Record(5, NOON, {"loss": 0.5}))
    output.close()

    assert path.read_text().startswith("earlier\n-- step 5 --")
    assert FixedHumanOutputFormat(path).history() == {"loss": [(5, 0.5)]}


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.integers(), min_size=1, max_size=4))
def test_table_has_one_line_a_row_whatever_the_text(values):
    """A newline or an escape sequence in a value must not forge a row or move the cursor."""
    lines = table(values)
    tags = {key[: key.find("/")] for key in map(key_name, values) if 0 < key.find("/") < len(key) - 1}

    assert len(lines) == len(values) + len(tags) + 2
    assert not any("\x1b" in line or "\r" in line for line in lines)


def test_message_cannot_pass_for_a_table(tmp_path):
    """A program that reads train.log must not take what somebody wrote for what was measured."""
    output = FixedHumanOutputFormat(tmp_path / "train.log")
    output.handle(message_record("x\n-- step 9 ----- 12:00:00 --\n| loss | 1 |\n\x1b[2J", "info", step=1))
    output.close()

    assert output.history() == {}
    assert "\x1b" not in (tmp_path / "train.log").read_text()


def test_message_of_several_lines_stays_readable():
    """A traceback given to ``logger.error`` keeps its lines."""
    stream = io.StringIO()

    FixedHumanOutputFormat(stream).handle(message_record("first\n\tsecond", "error", step=1))

    assert stream.getvalue() == "first\n      second\n"


def test_table_fits_the_terminal(terminal):
    """A line that wraps tears the table; both ends of a key say what it is."""
    stream, shown = terminal
    values = {"a_very_long_tag_indeed/" + "and_a_long_key" * 4: 0.5, "漢字" * 30: "文" * 60, "fps": 1}

    FixedHumanOutputFormat(stream).handle(Record(7, NOON, values))

    lines = shown("-" * 60).splitlines()
    assert {cells(line) for line in lines} == {60}
    assert any("..." in line and line.split("|")[1].rstrip().endswith("long_key") for line in lines[1:-1])


def test_terminal_that_does_not_know_its_width(terminal):
    """Terminals made by programs, such as a CI's, often say that they have no columns at all."""
    stream, shown = terminal
    fcntl.ioctl(stream, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))

    FixedHumanOutputFormat(stream).handle(Record(7, NOON, {"a_key_of_thirty_characters_all": 0.5}))

    assert "| a_key_of_thirty_characters_all | 0.5" in shown("| 0.5")


def test_table_clears_the_progress_bar(terminal, monkeypatch):
    """SB3's progress bar and a table share one terminal; neither may stand in the other's line."""
    stream, shown = terminal
    monkeypatch.setattr(sys, "stdout", stream)
    output = FixedHumanOutputFormat(sys.stdout)
    output.name = "stdout"

    with tqdm(total=10, file=stream, mininterval=0, bar_format="{n} of {total}|") as bar:
        bar.update(3)
        shown("3 of 10|")
        output.handle(Record(7, NOON, {"loss": 0.5}))
        text = shown("3 of 10|")

    before, _, after = text.partition("-- step 7 ")
    assert before.strip("\r ") == ""
    assert after.rpartition("\n")[2].strip() == "3 of 10|"


def test_text_that_the_terminal_cannot_encode_is_written_out():
    """A terminal in the C locale knows ASCII; training goes on there too."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")

    FixedHumanOutputFormat(stream).handle(make_record({"é": "漢"}, {}, 1))

    assert b"| \\xe9 " in raw.getvalue()


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (Video(torch.zeros(1, 120, 3, 4, 4), 30), "<video 120 frames>"),
        (np.zeros((84, 84)), "<array 84x84 float64>"),
        (np.array([1, 2]), "[1 2]"),
        (None, "None"),
        ({"a": [1]}, "{'a': [1]}"),
        (float("nan"), "nan"),
        (10**5000, "<integer of 16610 bits>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_is_one_short_word(value, word):
    """A table has one cell for whatever was recorded."""
    assert table({"value": value})[1].split("|")[2].strip() == word


def test_refused_value_does_not_lose_the_row(tmp_path):
    """A video has no place in a table, but the scalars recorded with it do."""
    output = FixedHumanOutputFormat(tmp_path / "train.log")

    with pytest.raises(FormatUnsupportedError, match="log is not supported for the video"):
        output.write(
            {"loss": 0.5, "clip": Video(torch.zeros(1, 3, 3, 4, 4), 30)}, {"loss": (), "clip": ()}, 3
        )

    assert output.history() == {"loss": [(3, 0.5)]}


@pytest.mark.parametrize("wrong", [3, b"bytes", ["train.log"]])
def test_wrong_destination_is_named(wrong):
    """A wrong argument raises where it was given."""
    with pytest.raises(
        ValueError, match=f"expected a path or a text stream, got {wrong!r}".replace("[", r"\[")
    ):
        FixedHumanOutputFormat(wrong)


def test_closed_stream_of_the_user_stays_open():
    """We close what we opened, and only that."""
    stream = io.StringIO()

    FixedHumanOutputFormat(stream).close()

    assert not stream.closed


def test_a_daemon_without_a_console_goes_on(tmp_path, monkeypatch):
    """Python has no ``sys.stdout`` where it was started with none, as in a service."""
    monkeypatch.setattr(sys, "stdout", None)

    with configure(tmp_path, ["stdout", "csv"]) as logger:
        logger.info("hello")
        logger.record("loss", 0.5)
        logger.dump(1)

    assert logger.output_formats[1].history() == {"loss": [(1, 0.5)]}
