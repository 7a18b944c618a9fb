"""A disk that fills up, and a run folder that is removed, while a courier delivers."""

import contextlib
import logging
import shutil
import subprocess
import threading

import pytest
from chaos import PATIENCE_S
from runs import couriers, dump, in_tensorboard, points, the_courier
from waiting import wait_until

from rl_logging import configure
from rl_logging.journal import read

pytestmark = pytest.mark.timeout(600)  # on a machine that does much else


def test_full_disk_loses_what_did_not_fit_and_says_how_much(small_disk, caplog):
    """What fitted is in the event files, as if the disk had never been full; the rest is counted."""
    run = small_disk / "run"
    logger = configure(run, ["tensorboard"])
    dump(logger, *range(10))
    assert logger.flush(PATIENCE_S)

    ballast = _fill(small_disk)
    step = 10
    while not logger.health()["journal"].refused:  # more than it keeps in memory
        logger.record("a", step)
        logger.record("text", "x" * 1_000_000)
        logger.dump(step)
        step += 1
    dump(logger, *range(step, step + 10))
    step += 10
    ballast.unlink()
    _grow(small_disk, 64 << 20)
    dump(logger, *range(step, step + 10))

    assert logger.flush(PATIENCE_S)
    lost = logger.health()["journal"].refused
    assert logger.health()["journal"].waiting == 0
    logger.close(PATIENCE_S)
    kept = [each.step for each in read(run / "journal.jsonl") if each.kind == "metrics"]
    assert len(kept) + lost == step + 10
    assert in_tensorboard(run)["a"] == points(*kept)["a"]
    assert f"{lost} records are lost" in caplog.text


def test_full_disk_stops_no_delivery(small_disk, caplog):
    """The event file and the cursor have no room, either; the courier waits for it."""
    run = small_disk / "run"
    logger = configure(run, ["tensorboard"])
    dump(logger, *range(10))
    assert logger.flush(PATIENCE_S)

    ballast = _fill(small_disk)
    dump(logger, *range(10, 500))

    assert logger.health()["journal"].waiting > 0

    ballast.unlink()
    dump(logger, 500)
    assert logger.flush(PATIENCE_S)
    logger.close(PATIENCE_S)
    assert in_tensorboard(run) == points(*range(501))


def test_disk_that_is_full_from_the_start(small_disk):
    """The courier can write nothing at all, not even whose turn it is, until there is room."""
    run = small_disk / "run"
    run.mkdir()
    logger = configure(run, ["tensorboard"])
    ballast = _fill(small_disk)
    dump(logger, *range(100))
    the_courier(run)
    assert not logger.flush(timeout_s=3)

    ballast.unlink()
    dump(logger, 100)
    assert logger.flush(PATIENCE_S)
    logger.close(PATIENCE_S)
    assert in_tensorboard(run) == points(*range(101))


def test_removed_run_folder_stays_removed(tmp_path, caplog):
    """Somebody tidied up: training goes on, is told once, and leaves neither files nor processes."""
    run = tmp_path / "runs" / "run"
    before = set(threading.enumerate())
    logger = configure(run, ["tensorboard"])
    dump(logger, *range(10))
    assert logger.flush(PATIENCE_S)
    the_courier(run)

    shutil.rmtree(run)
    caplog.clear()
    dump(logger, *range(10, 1000))
    logger.flush(timeout_s=1)
    logger.close(timeout_s=1)

    wait_until(lambda: not couriers(run), PATIENCE_S)
    wait_until(lambda: set(threading.enumerate()) <= before, PATIENCE_S)
    assert not run.exists()
    told = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert sum("was not written" in each for each in told) == 1


def _fill(disk):
    """Take all the room that a file system has left, and return the file that has it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1))
    assert shutil.disk_usage(disk).free == 0
    return ballast


def _grow(disk, size):
    """Give a file system more room."""
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
