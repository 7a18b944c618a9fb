"""What survives SIGKILL, of the trainer, of its courier, and of both, at any moment."""

import os
import random
import signal
import sys
from pathlib import Path

import pytest
from chaos import PATIENCE_S, DoomedRun, Score, seed
from runs import couriers, dump, empty_store, in_mlflow, mlflow_run, points, the_courier
from waiting import wait_until

from rl_logging import configure

pytestmark = pytest.mark.timeout(600)  # on a machine that does much else
RUNS, LIVES = 2, 26


def test_nothing_is_lost_by_fifty_kills(tmp_path):
    """What dump() returned for is in the journal and, after sync, in MLflow, once and whole.

    The runs' first lives also meet a store that is just being made, and share it.
    """
    chance = random.Random(seed())
    total = Score()
    for run in [DoomedRun(tmp_path / f"run{number}", chance) for number in range(RUNS)]:
        early = chance.randrange(1, LIVES)
        for lives in (early, LIVES - early):  # what was synced is trained on, and killed again
            for _ in range(lives):
                run.live_and_die()

            assert run.sync() == 0

        total += run.score()
        assert run.status() == "KILLED"
    sys.stdout.write(f"{total}\n")

    assert total.is_clean
    assert total.kills >= 50
    assert total.acknowledged > total.kills  # they died while they dumped


def test_courier_delivers_what_a_killed_trainer_left(tmp_path):
    """Nobody is there to call sync: the run is whole in MLflow all the same, and no process stays."""
    chance = random.Random(seed())
    empty_store(tmp_path)
    run = DoomedRun(tmp_path / "run", chance)

    for _ in range(5):
        run.live_and_die("trainer")
    wait_until(lambda: not couriers(run.folder), PATIENCE_S)

    score = run.score()
    assert score.is_clean, score
    assert score.delivered == score.journaled > 0
    assert run.status() == "KILLED"


def test_killed_courier_is_started_again_and_leaves_no_zombie(tmp_path):
    """The out-of-memory killer may choose it, and the run goes on for days."""
    chance = random.Random(seed())
    empty_store(tmp_path)
    logger = configure(tmp_path / "run", ["mlflow"], linger_s=0)

    last = 0
    for _ in range(2):
        courier = the_courier(tmp_path / "run")
        first, last = last, last + chance.randrange(1, 100)
        dump(logger, *range(first, last))
        os.kill(courier, signal.SIGKILL)
        wait_until(lambda pid=courier: not Path(f"/proc/{pid}").exists(), PATIENCE_S)

    assert logger.flush(PATIENCE_S)
    logger.close(PATIENCE_S)
    wait_until(lambda: not couriers(tmp_path / "run"), PATIENCE_S)
    assert in_mlflow(tmp_path / "run") == points(*range(last))
    assert mlflow_run(tmp_path / "run").info.status == "FINISHED"
