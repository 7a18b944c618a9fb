"""What holds for every output that has a name."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.logger import KVWriter, SeqWriter
from stable_baselines3.common.logger import Logger as SB3Logger

from rl_logging.formats import FORMATS, formats, load, make_output, make_sender
from rl_logging.formats.sb3 import OutputFormat
from rl_logging.logger import Logger
from rl_logging.readers import compare, read_records

EVERY_OUTPUT = pytest.mark.parametrize("name", sorted(FORMATS))
TRACKERS = sorted(name for name, entry in FORMATS.items() if entry.sender)


@pytest.fixture
def output(name: str, tmp_path: Path, console: object) -> Iterator[OutputFormat]:
    made = make_output(name, tmp_path / "run")
    yield made
    made.close()


@EVERY_OUTPUT
def test_is_a_writer_of_sb3(output: OutputFormat) -> None:
    """SB3's logger skips in silence whatever is not a true subclass of its writers."""
    assert isinstance(output, KVWriter)
    assert isinstance(output, SeqWriter)


@EVERY_OUTPUT
def test_numbers_come_back_from_sb3s_own_logger(output: OutputFormat) -> None:
    """Each output also works alone, in a logger that knows nothing of ours."""
    logger = SB3Logger(None, [output])
    for step, loss in ((1, 0.5), (2, np.float32(0.25)), (2, 3)):
        logger.record("train/loss", loss)
        logger.record("eval/hidden", 1, exclude=output.name)
        logger.info("a message")
        logger.dump(step)
    logger.close()

    history = output.history()

    kept = [(1, 0.5), (2, 0.25), (2, 3.0)]
    assert history == {"train/loss": kept[:2] if output.name == "swanlab" else kept}


@EVERY_OUTPUT
def test_holds_what_the_journal_says(output: OutputFormat, tmp_path: Path) -> None:
    """Awkward keys and numbers, a key that comes late, steps that repeat and go back."""
    logger = Logger(str(tmp_path / "run" / "by_logger"), [output])
    awkward = [
        "",
        "a//b",
        "/a",
        "a/",
        "a#b@c%",
        "µ∂/Ω",
        "_hidden",
        "metrics/a",
        "a",
        "x" * 300,
        "step",
        "time",
    ]
    numbers = [float("nan"), float("inf"), -float("inf"), 1e300, 2**53 + 1, 10**400, True, -0.0, 5e-324]
    for step in (10, 20, 15, 15, -1):
        for index, key in enumerate(awkward):
            logger.record(key, index + step / 7)
        for index, number in enumerate(numbers):
            logger.record(f"numbers/{index}", number)
        logger.record("a text", "with\nlines, <b>html</b> and \x1b[31mcolour")
        logger.record("an array", np.arange(12.0))
        logger.record("nothing", None)
        if step == 15:
            logger.record("late/key", step)
        logger.dump(step)
    logger.close()

    comparison = compare(output, read_records(tmp_path / "run" / "by_logger"))

    assert comparison.differences == ()
    assert comparison.points >= 3 * (len(awkward) + len(numbers) - 2)


@EVERY_OUTPUT
def test_a_second_close_is_quiet(output: OutputFormat) -> None:
    """`atexit` and a context manager may both close."""
    output.write({"a": 1.0}, {"a": ()}, 1)
    output.close()
    output.close()


@EVERY_OUTPUT
def test_has_the_name_that_exclude_uses(name: str, output: OutputFormat) -> None:
    """``exclude="mlflow"`` must find the output that was asked for as "mlflow"."""
    assert output.name == name


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_is_built_again_from_its_arguments(name: str, tmp_path: Path) -> None:
    """Another process delivers for an output; all that it gets are name and arguments."""
    first = make_output(name, tmp_path / "run", name="second")

    again = make_sender(name, first.arguments())

    assert again.arguments() == first.arguments()
    assert again.name == "second"
    assert isinstance(first, type(again))


@pytest.mark.parametrize("name", TRACKERS)
def test_building_a_tracker_opens_nothing(name: str, tmp_path: Path) -> None:
    """A login prompt or a dead server must not stop a program where it builds its logger."""
    make_output(name, tmp_path / "run").close()

    assert not (tmp_path / "run").exists()


@EVERY_OUTPUT
def test_every_registered_class_is_where_the_registry_says(name: str) -> None:
    """A typo in the registry would show only when a user asks for that output."""
    entry = formats()[name]

    assert issubclass(load(entry.output), OutputFormat)
    assert entry.sender is None or issubclass(load(entry.output), load(entry.sender))
