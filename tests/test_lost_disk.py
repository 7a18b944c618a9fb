"""A disk that is full, or a folder that is gone, costs only what was on it."""

import contextlib
import io
import re
import shutil

import pandas as pd

from rl_logging import FixedHumanOutputFormat, Journal, Logger, MemoryOutputFormat, configure
from rl_logging.journal import read
from rl_logging.record import make_record


def _train(folder, ruin, mend=lambda: None):
    """Log three dumps, ruin the folder, log two more, mend it, and log one.

    :return: the steps that the outputs got which need no folder
    """
    console, memory = io.StringIO(), MemoryOutputFormat()
    outputs = ["log", "csv", "json", FixedHumanOutputFormat(console), memory]
    with configure(folder, outputs) as logger:
        for step in range(6):
            {3: ruin, 5: mend}.get(step, lambda: None)()
            logger.record("loss", step / 2)
            logger.record(f"late_{step}", "x" * 5000)  # more than the rest of a file's last block
            logger.info("step", step)
            logger.dump(step)
    assert console.getvalue().count("-- step ") == 6
    return [record.step for record in memory.records if record.kind == "metrics"]


def _told(caplog):
    """Which outputs said that something was not written."""
    messages = (record.getMessage() for record in caplog.records)
    return sorted(message.split(":")[0] for message in messages if "was not written" in message)


def test_removed_folder_costs_the_outputs_in_it_and_is_told_once(tmp_path, caplog):
    """Somebody tidies up the disk in the third day of a training."""
    folder = tmp_path / "run"

    steps = _train(folder, lambda: shutil.rmtree(folder))

    assert steps == [0, 1, 2, 3, 4, 5]
    assert _told(caplog) == ["csv", "journal", "json", "log"]


def test_full_disk_costs_what_was_dumped_while_it_was_full(small_disk, caplog):
    """It is told once; no file is damaged, and where there is room again they go on.

    The journal, the run's one truth, then gets what it could not hold before.
    """
    folder, other = small_disk / "run", small_disk / "other"

    def fill():
        with contextlib.suppress(OSError), other.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 512)

    steps = _train(folder, fill, other.unlink)

    kept = [0, 1, 2, 5]
    assert steps == [0, 1, 2, 3, 4, 5]
    assert _told(caplog) == ["csv", "journal", "json", "log"]
    assert [record.step for record in read(folder / "journal.jsonl") if record.kind == "metrics"] == steps
    assert pd.read_csv(folder / "progress.csv")["loss"].to_list() == [step / 2 for step in kept]
    assert pd.read_json(folder / "progress.json", lines=True)["step"].to_list() == kept
    assert re.findall("^-- step ([0-9]+)", (folder / "train.log").read_text(), re.MULTILINE) == list(
        map(str, kept)
    )
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_journal_keeps_the_newest_records_in_memory_up_to_a_bound(small_disk, caplog):
    """A week on a full disk must neither fill the memory nor go by in silence."""
    path = small_disk / "journal.jsonl"
    with contextlib.suppress(OSError):
        (small_disk / "other").write_bytes(b"x" * (1 << 20))
    journal = Journal(path)

    for step in range(40):
        journal.append(make_record({"text": "x" * (1 << 20)}, {}, step))

    assert isinstance(journal.error, OSError)
    assert (journal.waiting, journal.lost) == (15, 25)
    journal.close()
    with Logger(str(small_disk), []) as logger:
        logger.record("loss", 1)
        logger.dump()
    assert "journal: 1 records are lost: they could not be written" in caplog.text
