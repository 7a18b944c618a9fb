"""progress.csv: pandas reads it at every moment."""

import csv
import math
import os
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.logger import CSVOutputFormat as SB3CSVOutputFormat
from stable_baselines3.common.logger import FormatUnsupportedError, Video

from rl_logging import CSVOutputFormat
from rl_logging.record import Record, make_record

CHILD = """
import os, sys
from rl_logging import CSVOutputFormat
from rl_logging.record import make_record
output, step = CSVOutputFormat(sys.argv[1]), 0
while True:
    step += 1
    new = {f"late_{step // 5},\\n": step} if step < 100 else {}  # a column every five rows
    output.handle(make_record({"text": 'a "quoted"\\nline' * 200, "loss": step / 3, **new}, {}, step))
    os.write(1, b"%d\\n" % step)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "progress.csv"


def _texts(path):
    """All cells as pandas reads them, as text."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def test_file_holds_step_and_time_first(path):
    """The exact bytes, so that other programs can rely on them."""
    output = CSVOutputFormat(path)
    output.handle(Record(10, 1.5, {"loss": np.float64(0.1), "on": True}))
    output.handle(Record(20, 2.5, {"loss": math.nan, 'say "hi", all': 'a "b"\nc'}))
    output.handle(Record(30, 3.5, {"loss": -math.inf, "n": 2**70, "none": None}))
    output.close()

    assert path.read_bytes() == (
        b'step,time,loss,on,"say ""hi"", all",n,none\n'
        b"10,1.5,0.1,True,,,\n"
        b'20,2.5,nan,,"a ""b""\nc",,\n'
        b"30,3.5,-inf,,,1180591620717411303424,\n"
    )


def test_pandas_reads_it_before_the_first_dump(path):
    """A plot that refreshes itself starts before the training has anything to show."""
    CSVOutputFormat(path).close()

    assert list(pd.read_csv(path).columns) == ["step", "time"]


KEYS = st.text(max_size=6) | st.sampled_from(
    ["a,b", 'q"', '"', "n\nl", "r\r", "\r\n", "\0", "step", "é漢", " x "]
)
VALUES = (
    st.text(max_size=8)
    | st.floats()
    | st.integers()
    | st.booleans()
    | st.sampled_from(["\r", '"', "a,b", "\0"])
)


@given(st.lists(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), min_size=1, max_size=6))
def test_pandas_reads_it_after_every_write(tmp_path_factory, rows):
    """Whatever the keys and values are, and whenever a column appears."""
    path = tmp_path_factory.mktemp("csv") / "progress.csv"
    output = CSVOutputFormat(path)
    for number, row in enumerate(rows, start=1):
        record = make_record(row, {}, number)
        output.handle(record)

        table = _texts(path)

        assert list(table["step"]) == [str(step) for step in range(1, number + 1)]
        last = dict(zip(_header(path), table.iloc[-1], strict=True))
        assert {key: last[key] for key in map(output.rename, record.values)} == {
            output.rename(key): str(value).replace("\0", "\\x00") for key, value in record.values.items()
        }
    output.close()

    reopened = CSVOutputFormat(path)
    reopened.handle(record)
    reopened.close()

    assert len(_texts(path)) == len(rows) + 1
    assert len(_header(path)) == len(set(_header(path)))


def _header(path):
    """The columns' names by Python's reader; pandas calls an empty one ``Unnamed: 2``."""
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file))


def test_numbers_are_exact_in_pandas(path):
    """A float reads back as the float it was."""
    output = CSVOutputFormat(path)
    values = [0.1, 1 / 3, 1e-308, 5e-324, 1.7976931348623157e308, -0.0, math.inf, math.nan]
    for step, value in enumerate(values):
        output.handle(make_record({"x": value, "n": 2**63 - 1}, {}, step))
    output.close()

    table = pd.read_csv(path)

    assert repr(table["x"].tolist()) == repr(values)
    assert set(table["n"]) == {2**63 - 1}


def test_late_column_replaces_the_file_as_a_whole(path):
    """Who has the old file open reads it to its end; nobody sees half of the new one."""
    output = CSVOutputFormat(path)
    output.handle(make_record({"a": 1}, {}, 1))
    with path.open() as reader:
        before = path.stat().st_ino
        output.handle(make_record({"b": 2}, {}, 2))

        assert path.stat().st_ino != before
        assert reader.readline() == "step,time,a\n"
    assert os.listdir(path.parent) == ["progress.csv"]
    output.close()


def test_rewrite_that_was_killed_does_not_block_the_next(path):
    """In a container every process has the number 1, and what the last one left is still there."""
    output = CSVOutputFormat(path)
    output.handle(make_record({"a": 1}, {}, 1))
    for name in (f".progress.csv.{os.getpid()}", ".progress.csv.new"):
        path.with_name(name).write_text("half a fi")

    output.handle(make_record({"b": 2}, {}, 2))
    output.close()

    assert list(_texts(path)["b"]) == ["", "2"]


def test_reopening_appends(path):
    """SB3 erases the file of the first part when a training is resumed."""
    for step in (1, 2):
        output = CSVOutputFormat(path)
        output.handle(Record(step, 1.5, {"loss": step / 2, f"only_{step}": step}))
        output.close()

    assert path.read_text() == "step,time,loss,only_1,only_2\n1,1.5,0.5,1,\n2,1.5,1.0,,2\n"


@pytest.mark.parametrize(
    "torn", ["2,1.5", '2,1.5,"a', '2,1.5,"a\n', '2,1.5,"a\nb,c"', '2,1.5,"a""\n', '2,1.5,"']
)
def test_torn_row_is_repaired(path, torn):
    """A quote that a kill left open would swallow every row after it."""
    path.write_text('step,time,text\n1,1.5,"x\ny"\n' + torn)

    output = CSVOutputFormat(path)
    output.handle(Record(3, 2.5, {"text": "z"}))
    output.close()

    assert path.read_text() == 'step,time,text\n1,1.5,"x\ny"\n3,2.5,z\n'


def test_file_of_sb3_is_continued(path):
    """Changing one import in the middle of a project must not cost the first half's numbers."""
    theirs = SB3CSVOutputFormat(str(path))
    theirs.write({"loss": 0.5}, {"loss": None})
    theirs.write({'6" pipe': 1.5, "loss": 0.25, "text": 'say "hi"\nnow'}, {})
    theirs.close()
    before = _texts(path)

    output = CSVOutputFormat(path)
    output.handle(Record(7, 1.5, {"loss": 0.125, 'new"': 1}))
    output.close()

    table = _texts(path)
    assert table[list(before.columns)].iloc[:2].equals(before)
    assert list(table["loss"]) == ["0.5", "0.25", "0.125"]
    assert list(table["step"]) == ["", "", "7"]
    assert CSVOutputFormat(path).history() == {"loss": [(7, 0.125)], 'new"': [(7, 1.0)]}


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_file_of_a_spreadsheet_is_continued(path, start):
    """Excel ends lines by CR and LF, and starts the file with a mark."""
    path.write_bytes(start + b'step,time,"a,b"\r\n1,1.5,"x\r\ny"\r\n')

    output = CSVOutputFormat(path)
    output.handle(Record(2, 2.5, {"a,b": "z", "late": 3}))
    output.close()

    table = _texts(path)
    assert table.to_dict("list") == {
        "step": ["1", "2"],
        "time": ["1.5", "2.5"],
        "a,b": ["x\r\ny", "z"],
        "late": ["", "3"],
    }


@pytest.mark.parametrize("content", [b"torn", b'"open,b\n1,2\n', b"a,a\n1,2\n", b"\n1\n"], ids=list("abcd"))
def test_file_that_is_no_such_csv_is_left_alone(path, content):
    """Rather raise at once than cut off, or write askew, what somebody keeps there."""
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"progress\.csv cannot be continued"):
        CSVOutputFormat(path)

    assert path.read_bytes() == content


def test_killed_process_leaves_a_file_that_pandas_reads(path, killed_child):
    """Every row whose write had returned is there, wherever the kill fell."""
    acknowledged = killed_child(CHILD, path)

    table = _texts(path)
    assert len(acknowledged) >= 200
    assert list(table["step"])[: len(acknowledged)] == acknowledged
    assert {f"late_{n},\n" for n in range(20)} < set(table.columns)


def test_file_is_readable_while_another_process_writes(path, killed_child):
    """A notebook refreshes its plot whenever it likes."""
    stop = time.monotonic() + 1
    output = CSVOutputFormat(path)
    rows_seen = []

    def read_on():
        while time.monotonic() < stop:
            rows_seen.append(len(pd.read_csv(path)))

    reader = threading.Thread(target=read_on)
    reader.start()
    step = 0
    while reader.is_alive():
        step += 1
        output.handle(make_record({"loss": step / 3, f"late_{min(step // 20, 40)}": step}, {}, step))
    reader.join()
    output.close()

    assert rows_seen == sorted(rows_seen)
    assert 0 < rows_seen[-1] <= step


def test_refused_value_does_not_lose_the_row(path):
    """A video cannot go into this file, but the scalars recorded with it still do."""
    output = CSVOutputFormat(path)

    with pytest.raises(FormatUnsupportedError, match="csv is not supported for the video"):
        output.write(
            {"loss": 0.5, "clip": Video(torch.zeros(1, 3, 3, 4, 4), 30)}, {"loss": (), "clip": ()}, 3
        )
    output.close()

    assert _texts(path)[["step", "loss", "clip"]].values.tolist() == [["3", "0.5", "<video 3 frames>"]]


def test_big_cell_is_one_cell(path):
    """A text of a megabyte and ten thousand lines is slow for no reader."""
    text = 'a "quoted" line\n' * 10_000
    for step in (1, 2):
        output = CSVOutputFormat(path)
        output.handle(make_record({"text": text, f"late_{step}": step}, {}, step))
        output.close()

    assert list(_texts(path)["text"]) == [text, text]


def test_what_is_no_number_is_not_in_the_history(path):
    """Only numbers are compared with the journal."""
    output = CSVOutputFormat(path)
    output.handle(make_record({"note": "fine", "on": True, "x": math.inf, "array": np.zeros(3)}, {}, 4))
    output.close()

    assert output.history() == {"on": [(4, 1.0)], "x": [(4, math.inf)]}
