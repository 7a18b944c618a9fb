"""Logger: SB3's behaviour, and every output on its own."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from awkward import HostileError
from stable_baselines3.common import logger as sb3

from rl_logging import Logger, MemoryOutputFormat, OutputFormat, configure
from rl_logging.journal import read

HOSTILE = "HostileError: <HostileError whose text failed: RuntimeError>"


class Recorder(sb3.KVWriter, sb3.SeqWriter):
    """An output as users write it for SB3's logger: it keeps what it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def write(self, key_values, key_excluded, step=0):
        self.calls.append(("write", dict(key_values), dict(key_excluded), step))

    def write_sequence(self, sequence):
        self.calls.append(("write_sequence", sequence))

    def close(self):
        self.calls.append(("close",))


class Broken(OutputFormat):
    """An output whose destination is always down."""

    name = "broken"

    def emit(self, record):
        raise ConnectionError("down")

    emit_text = emit

    def close(self):
        raise ConnectionError("still down")


class BrokenWriter(Recorder):
    """The same, written for SB3."""

    def write(self, *args, **kwargs):
        raise HostileError

    write_sequence = close = write


@pytest.fixture
def memory():
    return MemoryOutputFormat()


@pytest.fixture
def logger(tmp_path, memory):
    with Logger(str(tmp_path / "run"), [memory]) as logger:
        yield logger


def _values(memory):
    return [(record.step, record.values) for record in memory.records]


def test_dump_hands_over_what_was_recorded(logger, memory):
    """Of several values under one key the last, or their mean; then the buffers are empty."""
    for value in (1.0, 2.0, 6.0):
        logger.record("last", value)
        logger.record_mean("mean", value)
    logger.record_mean("mean", None)
    logger.dump(10)
    logger.record("other", "text")
    logger.dump(20)
    logger.dump(30)

    assert _values(memory) == [(10, {"last": 6.0, "mean": 3.0}), (20, {"other": "text"})]
    assert (dict(logger.name_to_value), dict(logger.name_to_count), dict(logger.name_to_excluded)) == (
        {},
        {},
        {},
    )


def test_record_is_in_the_journal_before_any_output_has_it(logger, tmp_path):
    """What an output shows can always be found again."""
    seen = []

    class Reader(OutputFormat):
        name = "reader"

        def emit(self, record):
            seen.append((record.seq, [old.seq for old in read(tmp_path / "run" / "journal.jsonl")]))

    logger.output_formats.append(Reader())
    for step in range(3):
        logger.record("a", step)
        logger.dump(step)

    assert seen == [(1, [1]), (2, [1, 2]), (3, [1, 2, 3])]


@pytest.mark.parametrize(
    "exclude", ["a", ("a",), ["a"], {"a"}, iter(["a"])], ids=lambda given: type(given).__name__
)
def test_each_output_is_excluded_on_its_own(exclude):
    """What SB3 takes as ``exclude``, and lists too."""
    outputs = [MemoryOutputFormat(name=name) for name in "ab"]
    with Logger(None, outputs) as logger:
        logger.record("x", 1, exclude=exclude)
        logger.record("y", 2)
        logger.dump(1)

    assert [_values(output) for output in outputs] == [[(1, {"y": 2})], [(1, {"x": 1, "y": 2})]]


def test_output_that_fails_does_not_stop_the_next(memory, caplog):
    """SB3 stops at the first error, and raises it into the training loop."""
    with Logger(None, [Broken(), BrokenWriter(), memory]) as logger:
        for step in (1, 2, 3):
            logger.record("a", step)
            logger.dump(step)
            logger.info("message")

    assert [record.step for record in memory.records] == [1, 1, 2, 2, 3, 3]
    assert [record.getMessage().splitlines()[0] for record in caplog.records] == [
        "broken: step 1 was not written: ConnectionError: down. Training goes on.",
        f"BrokenWriter.write failed at step 1: {HOSTILE}. Training goes on.",
        "broken: could not be closed: ConnectionError: still down",
        "broken: 6 records did not arrive; 6 of them are in no journal",
    ]


def test_users_writer_gets_what_sb3_gives_it():
    """Raw values, SB3's exclusions, the step; an empty dump too; messages as a list of texts."""
    theirs, ours = Recorder(), Recorder()
    for logger in (sb3.Logger(None, [theirs]), Logger(None, [ours])):
        logger.record("step", 1)
        logger.record(2, np.float32(0.5), exclude="csv")
        logger.record("t", [1, None], exclude=("log", "json"))
        logger.record_mean("m", 3)
        logger.dump(7)
        logger.dump(8)
        logger.info("a", 1, None)
        logger.debug("unseen")
        logger.close()

    assert ours.calls == theirs.calls
    assert [call[0] for call in ours.calls] == ["write", "write", "write_sequence", "close"]


def test_users_writers_get_copies_of_their_own():
    """SB3 gives all the same dict and clears it right after: who keeps it keeps nothing."""

    class Greedy(Recorder):
        def write(self, key_values, key_excluded, step=0):
            super().write(key_values, key_excluded, step)
            key_values.clear()
            key_excluded.clear()

    greedy, after = Greedy(), Recorder()
    with Logger(None, [greedy, after]) as logger:
        logger.record("a", 1, exclude="csv")
        logger.record("b", 2)
        logger.dump(5)

    assert after.calls == greedy.calls
    assert after.calls[0] == ("write", {"a": 1, "b": 2}, {"a": ("csv",), "b": ("",)}, 5)


def test_output_appended_later_gets_what_comes_then(logger):
    """``output_formats`` is SB3's plain list."""
    logger.record("a", 1)
    logger.dump(1)
    late, writer = MemoryOutputFormat(), Recorder()
    logger.output_formats += [late, writer]
    logger.record("a", 2)
    logger.dump(2)
    logger.output_formats.remove(late)
    logger.record("a", 3)
    logger.dump(3)

    assert _values(late) == [(2, {"a": 2})]
    assert [call[3] for call in writer.calls] == [2, 3]


def test_messages_below_the_level_are_dropped(logger, memory):
    """As SB3's: by default from info upwards."""
    logger.debug("no")
    logger.info("a", 1, None, [2])
    logger.set_level(sb3.ERROR)
    logger.warn("no")
    logger.error("b")
    logger.set_level(sb3.DEBUG)
    logger.debug("c")
    logger.log("d", level=sb3.WARN)

    assert [(r.values["level"], r.values["message"]) for r in memory.records] == [
        ("info", "a 1 None [2]"),
        ("error", "b"),
        ("debug", "c"),
        ("warn", "d"),
    ]


def test_disabled_logger_does_nothing(logger, memory, tmp_path):
    """As SB3's: no output is called, and the values stay for when it is enabled again."""
    logger.set_level(sb3.DISABLED)
    logger.record("a", 1)
    logger.dump(1)
    logger.error("unseen")
    before = list(memory.records), list(read(tmp_path / "run" / "journal.jsonl"))
    logger.set_level(sb3.INFO)
    logger.dump(2)

    assert before == ([], [])
    assert _values(memory) == [(2, {"a": 1})]


def test_close_finishes_every_output_once():
    """A second close is quiet, and so is the one at the end of the program."""
    writer = Recorder()
    logger = Logger(None, [writer])

    logger.close()
    logger.close()

    assert writer.calls == [("close",)]


def test_error_in_the_block_closes_and_comes_through(memory):
    """The user's own error is not the logger's to hide."""
    writer = Recorder()

    with pytest.raises(KeyError, match="mine"), Logger(None, [writer]):
        raise KeyError("mine")

    assert writer.calls == [("close",)]


def test_step_continues_from_the_journal(tmp_path):
    """A message before the first dump of a resumed run belongs to where the run was."""
    for _ in range(2):
        with Logger(str(tmp_path), [memory := MemoryOutputFormat()]) as logger:
            logger.info("hello")
            logger.record("a", 1)
            logger.dump(500)

    assert [record.step for record in memory.records] == [500, 500]
    kinds = [record.kind for record in read(tmp_path / "journal.jsonl")]
    once = ["text", "metrics", "lifecycle"]
    assert kinds == [*once, "lifecycle", *once]


def test_threads_lose_nothing(logger, memory, tmp_path):
    """Callbacks and samplers log from threads of their own."""

    def work(name):
        for step in range(200):
            logger.record(f"{name}/x", step)
            logger.record_mean(f"{name}/y", step)
            logger.dump(step)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    records = list(read(tmp_path / "run" / "journal.jsonl"))
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    assert sorted(record.seq for record in memory.records) == [record.seq for record in records]
    points = sorted(
        (key, value) for record in records for key, value in record.values.items() if key.endswith("x")
    )
    assert points == sorted((f"{name}/x", step) for name in "abcd" for step in range(200))


FORKING = """
import os, sys
from rl_logging import configure
logger = configure(sys.argv[1], ["csv"])
logger.record("a", 1)
logger.dump(1)
if (child := os.fork()) == 0:
    for step in (2, 3):
        logger.record("a", step)
        logger.dump(step)
        logger.info("unseen")
    logger.close()
    os._exit(0)
os.waitpid(child, 0)
logger.record("a", 4)
logger.dump(4)
logger.close()
"""


def test_fork_does_not_write_to_its_parents_files(tmp_path):
    """Two processes that count on in one journal would give two records one number."""
    command = [sys.executable, "-c", FORKING, str(tmp_path)]

    result = subprocess.run(command, capture_output=True, text=True, check=True)

    records = [record for record in read(tmp_path / "journal.jsonl") if record.kind == "metrics"]
    assert [(record.seq, record.step) for record in records] == [(2, 1), (3, 4)]
    assert len((tmp_path / "progress.csv").read_text().splitlines()) == 3
    assert result.stderr == "the logger does nothing any more: this is a fork of the process that logs\n"


def test_after_close_nothing_is_written_and_it_is_said_once(tmp_path, caplog):
    """What stands in an output but not in the journal would be a riddle."""
    logger = configure(tmp_path, ["log", "csv", "json", "tensorboard"])
    logger.record("loss", 0.5)
    logger.dump(1)
    logger.close()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    for step in (2, 3):
        logger.record("late", step)
        logger.info("late")
        logger.dump(step)

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert [r.getMessage() for r in caplog.records] == ["the logger does nothing any more: it is closed"]


@pytest.mark.parametrize(
    ("exclude", "told"),
    [
        ("stout", ["exclude='stout' is no output; did you mean 'stdout'?"]),
        (("csv", "nothing alike"), ["exclude='nothing alike' is no output"]),
        ("tensorboard", []),
        ("mine", []),
        (None, []),
    ],
)
def test_a_misspelt_exclusion_is_said_once(exclude, told, caplog):
    """SB3's algorithms exclude outputs that are not there; a wrong name is another matter."""
    with Logger(None, [MemoryOutputFormat(name="mine")]) as logger:
        for step in range(3):
            logger.record("loss", step, exclude=exclude)
            logger.dump(step)

    assert [record.getMessage() for record in caplog.records] == told


def test_what_is_no_output_is_named(caplog):
    """SB3 skips it in silence, and a user waits for numbers that never come."""
    with Logger(None, [lambda record: None, memory := MemoryOutputFormat()]) as logger:
        logger.record("loss", 1)
        logger.dump(1)

    assert len(memory.records) == 1
    assert caplog.records[0].getMessage() == "a function in output_formats is no KVWriter: it gets nothing"
