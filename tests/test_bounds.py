"""An SDK that is a guest in the process that trains takes nothing from it."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rl_logging import configure
from rl_logging.formats.bounds import quiet
from rl_logging.formats.tensorboard import TensorBoardSender


def test_what_training_prints_meanwhile_is_shown(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """ClearML takes seconds to open its run, and minutes where its server is away."""
    caplog.set_level("DEBUG", "rl_logging")
    inside, go_on = threading.Event(), threading.Event()

    def sdk() -> None:
        with quiet():
            sys.stdout.write("a banner")
            inside.set()
            go_on.wait(30)

    thread = threading.Thread(target=sdk)
    thread.start()
    inside.wait(30)
    sys.stdout.write("epoch 3\n")
    sys.stdout.write("epoch 4\n")
    is_terminal = sys.stdout.isatty()
    go_on.set()
    thread.join()

    assert capsys.readouterr().out == "epoch 3\nepoch 4\n"
    assert "a banner" in caplog.text
    assert not is_terminal


class Slow(TensorBoardSender):
    """An output whose run takes a while to open: until two have asked for it, or nobody else comes."""

    opened = 0

    def open(self) -> Any:
        self.opened += 1
        self.asked.wait(0.5)
        return super().open()


def test_two_threads_that_ask_for_a_run_open_one(tmp_path: Path) -> None:
    """The one that delivers, and the user's own."""
    output = Slow(tmp_path)
    output.asked = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        runs = list(threads.map(lambda _: output.run, range(2)))
    output.close()

    assert (output.opened, runs[0] is runs[1]) == (1, True)


def test_a_run_stays_where_it_is_when_the_program_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra, for one, changes the current folder."""
    monkeypatch.chdir(tmp_path)
    logger = configure("runs/here", ["csv", "json", "log", "tensorboard"])
    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    with logger:
        logger.log_hyperparams({"lr": 0.1})
        for step in range(3):
            logger.record(f"key_{step}", step)
            logger.dump(step)
        logger.log_text("note", "four words")
        logger.save_agent({"a": 1})
        logger.log_batch({"a": [1]}, "batch.jsonl")
        logger.log_samples(["four words"], [1.0], 3, show=False)

    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert {path.name for path in (tmp_path / "runs/here").iterdir()} >= {
        *("journal.jsonl", "hyperparams.yaml", "artifacts", "batch.jsonl", "samples", "tb"),
        *("progress.csv", "progress.json", "train.log"),
    }
