"""The journal keeps what ``append`` returned for, and continues after any end."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_logging.errors import JournalError
from rl_logging.journal import Journal, read
from rl_logging.line import encode
from rl_logging.record import Record

CHILD = """
import os, sys
from rl_logging.journal import Journal
from rl_logging.record import make_record
journal = Journal(sys.argv[1])
while True:
    step = journal.last_seq + 1
    journal.append(make_record({f"key_{n}": step + n / 7 for n in range(50)}, {}, step))
    os.write(1, b"%d\\n" % step)
"""


def _record(step: int) -> Record:
    return Record(step, 1.5, {"loss": step / 3})


@pytest.fixture
def path(tmp_path):
    """A journal of three records, at steps 10, 20 and 30."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for step in (10, 20, 30):
        journal.append(_record(step))
    journal.close()
    return path


def test_records_come_back_in_order_with_numbers(path):
    """Every output gets the same numbers in the same order."""
    assert list(read(path)) == [
        replace(_record(step), seq=seq) for seq, step in enumerate((10, 20, 30), start=1)
    ]


def test_append_returns_the_numbered_record(tmp_path):
    """A delivery needs the number to say how far it has got."""
    journal = Journal(tmp_path / "journal.jsonl")

    result = journal.append(_record(7))
    journal.close()

    assert result == Record(7, 1.5, {"loss": 7 / 3}, seq=1)


def test_journal_is_continued(path):
    """A run that is started again goes on counting."""
    journal = Journal(path)
    state = journal.last_seq, journal.last_step
    journal.append(_record(40))
    journal.close()

    assert state == (3, 30)
    assert [(record.seq, record.step) for record in read(path)] == [(1, 10), (2, 20), (3, 30), (4, 40)]


MOMENTS = st.tuples(st.integers(0, 2), st.integers(0, 4).map(lambda n: 1_700_000_000 + n / 1000))


@given(st.lists(MOMENTS, max_size=20), st.integers(0, 20))
def test_no_two_records_share_step_and_millisecond(tmp_path_factory, moments, reopened_after):
    """Some trackers could not tell a repeat from a record that is delivered twice; time never goes back."""
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    journal = Journal(path)
    for number, (step, time) in enumerate(moments):
        if number == reopened_after:
            journal.close()
            journal = Journal(path)
        journal.append(Record(step, time, {"a": 1}))
    journal.close()

    records = list(read(path))
    times = [record.time for record in records]
    assert [record.step for record in records] == [step for step, _ in moments]
    assert len({(record.step, record.time) for record in records}) == len(moments)
    assert times == sorted(times)
    assert all(time >= given_time for time, (_, given_time) in zip(times, moments, strict=True))


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_torn_tail_is_not_read_and_is_repaired(path, cut):
    """A kill leaves the start of a line; it is not there yet, and it never will be."""
    whole = path.read_bytes()
    path.write_bytes(whole + encode(_record(40))[:-cut])

    before = [record.step for record in read(path)]
    journal = Journal(path)
    journal.append(_record(50))
    journal.close()

    assert before == [10, 20, 30]
    assert [(record.seq, record.step) for record in read(path)] == [(1, 10), (2, 20), (3, 30), (4, 50)]


def test_damaged_line_is_reported_and_the_rest_is_read(path):
    """One bad sector must not cost the run."""
    path.write_bytes(path.read_bytes().replace(b'"step":20', b'"step":21'))
    damage = []

    steps = [record.step for record in read(path, lambda line, error: damage.append((line, str(error))))]

    assert steps == [10, 30]
    assert damage == [(2, "the checksum does not hold")]


def test_damage_that_nobody_asked_about_raises(path):
    """A reader that does not say what to do about damage must not lose a record in silence."""
    path.write_bytes(path.read_bytes().replace(b'"step":20', b'"step":21'))

    with pytest.raises(JournalError, match=r"journal\.jsonl, line 2: the checksum does not hold"):
        list(read(path))


def test_number_continues_after_a_damaged_last_line(path):
    """The damaged record had a number; none may stand twice."""
    path.write_bytes(path.read_bytes().replace(b'"step":30', b'"step":31'))
    journal = Journal(path)

    result = journal.append(_record(40))
    journal.close()

    assert result.seq > 2
    assert [record.seq for record in read(path, lambda line, error: None)] == [1, 2, result.seq]


def test_journal_longer_than_a_block_is_continued(tmp_path):
    """The last record is found from the file's end, also when it is longer than what is read at once."""
    path = tmp_path / "journal.jsonl"
    for size in (10, 70_000, 200_000, 10):
        journal = Journal(path)
        journal.append(Record(size, 0.0, {"text": "x" * size}))
        journal.close()

    assert [(record.seq, record.step) for record in read(path)] == [
        (1, 10),
        (2, 70_000),
        (3, 200_000),
        (4, 10),
    ]


def test_killed_process_loses_nothing_that_was_appended(tmp_path, killed_child):
    """What ``dump`` returned for survives SIGKILL."""
    path = tmp_path / "journal.jsonl"

    acknowledged = [int(line) for line in killed_child(CHILD, path)]
    steps = [record.step for record in read(path)]

    assert len(acknowledged) >= 200
    assert steps[: len(acknowledged)] == acknowledged
    assert steps == list(range(1, len(steps) + 1))


def test_killed_process_is_followed_by_another(tmp_path, killed_child):
    """A run that is killed again and again is one journal without a gap."""
    path = tmp_path / "journal.jsonl"

    for _ in range(3):
        killed_child(CHILD, path)

    seqs = [record.seq for record in read(path)]
    assert seqs == list(range(1, len(seqs) + 1))
