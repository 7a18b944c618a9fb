"""The journal as an output of SB3's own logger."""

from pathlib import Path

import pytest
from stable_baselines3.common.logger import Logger

from rl_logging import CSVOutputFormat, JournalOutputFormat
from rl_logging.formats import make_output
from rl_logging.journal import read


def test_sb3s_own_logger_delivers_by_courier(tmp_path: Path) -> None:
    """Who cannot change the logger's class still need not wait for a tracker."""
    tracker = make_output("tensorboard", tmp_path)
    logger = Logger(str(tmp_path), [JournalOutputFormat(tmp_path / "journal.jsonl", deliver_to=[tracker])])
    for step in range(20):
        logger.record("loss", step / 4)
        logger.dump(step)
    logger.close()

    assert tracker.history() == {"loss": [(step, step / 4) for step in range(20)]}


def test_a_second_session_continues_the_tracker_too(tmp_path: Path) -> None:
    """The journal is continued, and with it all that is delivered from it."""
    for session in range(2):
        tracker = make_output("tensorboard", tmp_path)
        journal = JournalOutputFormat(tmp_path / "journal.jsonl", deliver_to=[tracker])
        logger = Logger(str(tmp_path), [journal])
        logger.record("loss", session)
        logger.dump(session)
        logger.close()

    kinds = [record.kind for record in read(tmp_path / "journal.jsonl")]
    assert kinds == ["metrics", "lifecycle", "lifecycle", "metrics", "lifecycle"]
    assert journal.history() == tracker.history() == {"loss": [(0, 0.0), (1, 1.0)]}


def test_what_cannot_be_delivered_is_refused_at_once(tmp_path: Path) -> None:
    """A mistake is mended more easily than a day of training without its tracker."""
    with pytest.raises(ValueError, match="takes trackers"):
        JournalOutputFormat(tmp_path / "journal.jsonl", deliver_to=[CSVOutputFormat(tmp_path / "a.csv")])
    with pytest.raises(ValueError, match=r"journal\.jsonl"):
        JournalOutputFormat(tmp_path / "other.jsonl", deliver_to=["tensorboard"])
    with pytest.raises(ValueError, match="unknown output 'tensorbord'"):
        JournalOutputFormat(tmp_path / "journal.jsonl", deliver_to=["tensorbord"])
