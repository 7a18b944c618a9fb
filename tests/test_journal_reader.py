"""Whoever follows a journal reads each record once, in order, and exactly as it was written."""

import contextlib
import itertools
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rl_logging.errors import JournalError
from rl_logging.journal import Journal
from rl_logging.journal_reader import Reader
from rl_logging.line import decode, encode
from rl_logging.record import Record, make_record

BLOCK = 1 << 18  # what is read at once


def _record(seq: int, size: int = 0) -> Record:
    return Record(seq, 1.5, {"loss": seq / 3, "text": "x" * size}, seq=seq)


def _lines(*sizes: int) -> list[bytes]:
    return [encode(_record(seq, size)) for seq, size in enumerate(sizes, start=1)]


def _all(reader: Reader) -> list[int]:
    """The numbers of the records that can be read now."""
    found = []
    while records := reader.read():
        found += [record.seq for record, _ in records]
    return found


@given(
    st.lists(st.integers(0, 300), max_size=12),
    st.lists(st.tuples(st.integers(0, 4000), st.booleans()), max_size=12),
)
def test_any_growth_gives_the_same_records(tmp_path_factory, sizes, pieces):
    """The writer's bytes arrive in pieces of any length; a reader is started again after any of them."""
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    lines = _lines(*sizes)
    text, found = b"".join(lines), []
    edges = sorted([(min(cut, len(text)), again) for cut, again in pieces] + [(len(text), True)])

    with path.open("ab", buffering=0) as file, contextlib.ExitStack() as readers:
        reader = readers.enter_context(contextlib.closing(Reader(path)))
        for end, is_read_anew in edges:
            file.write(text[file.tell() : end])
            found += reader.read()
            if is_read_anew:
                reader = readers.enter_context(contextlib.closing(Reader(path, reader.offset)))

    ends = itertools.accumulate(map(len, lines))
    assert found == [
        (_record(seq, size), end) for (seq, size), end in zip(enumerate(sizes, 1), ends, strict=True)
    ]


@given(st.lists(st.sampled_from([0, 100, BLOCK - 200, BLOCK, 2 * BLOCK, 5 * BLOCK]), min_size=1, max_size=6))
def test_lines_longer_than_what_is_read_at_once(tmp_path_factory, sizes):
    """A text or an array may be longer than a block, and the next line may begin anywhere in one."""
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    path.write_bytes(b"".join(_lines(*sizes)))
    reader = Reader(path)

    found = _all(reader)
    at_end = reader.offset == reader.size
    reader.close()

    assert found == list(range(1, len(sizes) + 1))
    assert at_end


def test_one_read_is_bounded(tmp_path):
    """Whoever delivers a journal of gigabytes must not need gigabytes for it."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(_lines(*[1000] * 2000)))
    reader = Reader(path)

    records = reader.read()
    reader.close()

    assert 100 < len(records) <= BLOCK // 1000


@pytest.mark.parametrize("size", [10, 2 * BLOCK])
def test_torn_tail_waits_for_its_rest(tmp_path, size):
    """A line without its newline is not there yet; the writer may be in the midst of it."""
    path = tmp_path / "journal.jsonl"
    first, second = _lines(0, size)
    path.write_bytes(first + second[:-1])
    reader = Reader(path)

    before = _all(reader)
    offset = reader.offset
    with path.open("ab") as file:
        file.write(b"\n")
    after = _all(reader)
    reader.close()

    assert (before, offset, after) == ([1], len(first), [2])


def test_torn_tail_that_is_repaired_is_never_read(tmp_path):
    """A writer that takes over cuts the rest of a line off; a reader that saw it must see the new one."""
    path = tmp_path / "journal.jsonl"
    first, second = _lines(0, 500)
    path.write_bytes(first + second[:-5])
    reader = Reader(path)

    before = _all(reader)
    journal = Journal(path)
    journal.append(Record(7, 2.0, {"a": 1}))
    journal.close()
    records = reader.read()
    reader.close()

    assert before == [1]
    assert [(record.step, record.seq) for record, _ in records] == [(7, 2)]


def test_damaged_line_is_reported_where_it_is_and_skipped(tmp_path):
    """One bad sector must not keep a tracker from all that comes after it."""
    path = tmp_path / "journal.jsonl"
    lines = _lines(10, 10, 10, 10)
    path.write_bytes(lines[0] + lines[1].replace(b"xxx", b"xyx") + b"no record\n" + lines[3])
    damage = []
    reader = Reader(path, on_damage=lambda offset, error: damage.append((offset, str(error))))

    found = _all(reader)
    reader.close()

    ends = len(lines[0]), len(lines[0] + lines[1])
    assert found == [1, 4]
    assert damage == [(end, "the checksum does not hold") for end in ends]


def test_damage_that_nobody_asked_about_raises(tmp_path):
    """A reader that does not say what to do about damage must not lose a record in silence."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(_lines(10)[0].replace(b"xxx", b"xyx"))
    reader = Reader(path)

    with pytest.raises(JournalError, match="the checksum does not hold"):
        reader.read()
    reader.close()


def _through(tmp_path: Path, value: object) -> object:
    """A value as it comes out of a journal."""
    path = tmp_path / "journal.jsonl"
    path.unlink(missing_ok=True)
    journal = Journal(path, "never")
    journal.append(make_record({"a": value}, {}, 1))
    journal.close()
    reader = Reader(path)
    ((record, _),) = reader.read()
    reader.close()
    return record.values["a"]


@given(
    st.one_of(
        st.floats(),
        st.integers(),
        st.booleans(),
        st.text(st.characters(exclude_categories=["Cs"])),
        st.floats(width=32).map(np.float32),
        st.integers(-(1 << 63), (1 << 63) - 1).map(np.int64),
        st.integers(0, (1 << 64) - 1).map(np.uint64),
    )
)
def test_plain_values_are_exact(tmp_path_factory, value):
    """NaN, infinities, integers of any length and float32 come back as what was given."""
    got = _through(tmp_path_factory.getbasetemp(), value)

    plain = value.item() if isinstance(value, np.generic) else value
    assert type(got) is type(plain)
    if isinstance(plain, float) and math.isnan(plain):
        assert math.isnan(got)  # whose sign means nothing
    else:
        assert got == plain
        assert not isinstance(plain, float) or math.copysign(1, got) == math.copysign(1, plain)


KINDS = st.one_of(arrays.boolean_dtypes(), arrays.integer_dtypes(), arrays.floating_dtypes(endianness=">"))
SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6)


@given(arrays.arrays(KINDS, SHAPES))
def test_arrays_are_exact(tmp_path_factory, array):
    """A tracker makes its histogram of the values themselves, whatever their type and layout."""
    for one in (array, array.T, array[::2]):
        if one.size != 1:  # which counts as a number
            got = _through(tmp_path_factory.getbasetemp(), one)

            assert isinstance(got, np.ndarray)
            assert (got.dtype, got.shape, got.tobytes()) == (one.dtype, one.shape, one.tobytes())


def test_an_array_too_long_for_a_line_leaves_a_word(tmp_path):
    """The journal is read by lines; what is larger than a MiB is not kept in one."""
    fits = np.arange((1 << 20) // 8, dtype=np.float64)

    kept = _through(tmp_path, fits)
    word = _through(tmp_path, np.append(fits, 1.0))

    assert isinstance(kept, np.ndarray)
    assert np.array_equal(kept, fits)
    assert "131073" in str(word)


@pytest.mark.parametrize("fsync", ["sometimes", "", 0, 0.0, -1, math.nan, math.inf, True, None, [5], "5"])
def test_a_policy_that_there_is_not_is_refused_and_locks_nothing(tmp_path, fsync):
    """A typo must not turn off what was asked for, and not lock the folder either."""
    with pytest.raises(ValueError, match="fsync is 'always', 'never', or a number of seconds above 0"):
        Journal(tmp_path / "journal.jsonl", fsync)

    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys, threading
from rl_logging.journal import Journal
from rl_logging.record import Record
fsync = sys.argv[2] if sys.argv[2].isalpha() else float(sys.argv[2])
journal = Journal(sys.argv[1], fsync)
for step in range(20):
    journal.append(Record(step, 0.0, {}))
journal.close()
"""


@pytest.mark.parametrize(("fsync", "least", "most"), [("always", 20, 21), ("never", 0, 0), ("600", 1, 2)])
def test_the_disk_is_waited_for_as_often_as_was_asked_for(tmp_path, fsync, least, most):
    """``"always"`` is what survives a lost machine; ``"never"`` costs nothing. The kernel is the witness."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    path, trace = tmp_path / "journal.jsonl", tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=fsync", "-o", trace]
    subprocess.run([*command, sys.executable, "-c", WRITER, path, fsync], check=True)

    assert least <= trace.read_text().count("fsync(") <= most
    assert [decode(line).step for line in path.read_bytes().splitlines()] == list(range(20))
