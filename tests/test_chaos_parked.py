"""What only a person can mend parks an output: nothing is skipped, and all is delivered when it is mended."""

import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from chaos import PATIENCE_S, seed
from chaos_mlflow import PickyProxy, Watched
from runs import child, couriers, dump, empty_store, in_mlflow, points
from waiting import wait_until

from rl_logging import configure
from rl_logging.formats.wandb_log import WandBLog
from rl_logging.mlflow_server import MLflowServer

pytestmark = pytest.mark.timeout(600)  # on a machine that does much else
Change = Callable[[PickyProxy, Watched], None]


@pytest.fixture
def proxy(mlflow_server: MLflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[PickyProxy]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with PickyProxy(mlflow_server.port) as proxy:
        yield proxy


def _log_out(proxy: PickyProxy, run: Watched) -> None:
    proxy.mode = "status 401"


def _log_in(proxy: PickyProxy, run: Watched) -> None:
    proxy.mode = "pass"


def _refuse_all(proxy: PickyProxy, run: Watched) -> None:
    proxy.picked["/runs/log-batch"] = ["status 400"]


def _refuse_nothing(proxy: PickyProxy, run: Watched) -> None:
    proxy.picked.clear()


def _delete(proxy: PickyProxy, run: Watched) -> None:
    run.client.delete_run(run.cursor.run["run_id"])


def _restore(proxy: PickyProxy, run: Watched) -> None:
    run.client.restore_run(run.cursor.run["run_id"])


@pytest.mark.parametrize(
    ("break_it", "mend", "reason"),
    [
        (_log_out, _log_in, "401"),
        (_refuse_all, _refuse_nothing, "refused"),
        (_delete, _restore, "deleted"),
    ],
)
def test_parked_output_loses_nothing(
    break_it: Change, mend: Change, reason: str, tmp_path, proxy, mlflow_server
):
    """Found weeks later, it must still be possible to mend the cause and have all of the run."""
    chance = random.Random(seed())
    run = Watched(tmp_path / f"run{chance.getrandbits(64)}", proxy, mlflow_server)
    dump(run.logger, *range(100))
    assert run.logger.flush(PATIENCE_S)
    acknowledged = run.cursor.acknowledged

    break_it(proxy, run)
    dump(run.logger, *range(100, 200))
    wait_until(lambda: run.cursor.state == "parked", PATIENCE_S)
    dump(run.logger, *range(200, 300))
    health = run.logger.health()["mlflow"]

    assert reason in health.last_error
    assert (health.refused, health.waiting) == (0, 200)
    assert run.cursor.acknowledged == acknowledged

    mend(proxy, run)
    assert run.logger.flush(PATIENCE_S)
    assert run.arrived() == run.expected()
    assert run.logger.health()["mlflow"].last_error == ""
    run.logger.close(PATIENCE_S)


def test_sync_delivers_what_was_parked_until_the_courier_gave_up(tmp_path, proxy, mlflow_server):
    """The run is over before anybody looks; sync fails while the cause is there, and not after."""
    chance = random.Random(seed())
    run = Watched(tmp_path / f"run{chance.getrandbits(64)}", proxy, mlflow_server, linger_s=0.1)
    dump(run.logger, *range(100))
    assert run.logger.flush(PATIENCE_S)

    _log_out(proxy, run)
    dump(run.logger, *range(100, 200))
    wait_until(lambda: run.cursor.state == "parked", PATIENCE_S)
    run.logger.close(timeout_s=0)
    wait_until(lambda: not couriers(run.folder), PATIENCE_S)
    sync = [sys.executable, "-m", "rl_logging.cli", "sync", str(run.folder)]
    before = subprocess.run(sync, capture_output=True, text=True, timeout=PATIENCE_S)

    assert (before.returncode, "401" in before.stdout) == (1, True)

    _log_in(proxy, run)
    after = subprocess.run(sync, capture_output=True, text=True, timeout=PATIENCE_S)

    assert after.returncode == 0, after.stdout
    assert run.arrived() == run.expected()
    assert len(run.expected()) == 200
    assert [each.info.status for each in run.runs()] == ["FINISHED"]


def test_locked_local_store_is_waited_for(tmp_path):
    """A viewer or a backup may hold it for minutes."""
    empty_store(tmp_path)
    logger = configure(tmp_path / "run", ["mlflow"])
    dump(logger, *range(10))
    assert logger.flush(PATIENCE_S)

    other = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    dump(logger, *range(10, 20))
    wait_until(lambda: logger.health()["mlflow"].retried > 0, PATIENCE_S)  # MLflow waits 20 s itself

    assert "database is locked" in logger.health()["mlflow"].last_error
    assert logger.health()["mlflow"].waiting == 10

    other.execute("COMMIT")
    other.close()
    assert logger.flush(PATIENCE_S)
    logger.close(PATIENCE_S)
    assert in_mlflow(tmp_path / "run") == points(*range(20))


USERS_RUN = """
import sys
import wandb
from rl_logging import configure
from rl_logging.formats.wandb_log import WandBLog

folder, patience_s = sys.argv[1], float(sys.argv[2])
users = wandb.init(mode="offline", dir=folder, project="mine", settings=wandb.Settings(silent=True))
logger = configure(folder + "/run", ["wandb"])

def dump(first, last):
    for step in range(first, last):
        logger.record("a", step)
        logger.dump(step)

dump(0, 10)
print(logger.flush(patience_s), flush=True)
users.finish()
dump(10, 20)
print(logger.flush(5), logger.health()["wandb"].waiting, flush=True)
print(logger.health()["wandb"].last_error, flush=True)
logger.close(timeout_s=0)
"""


def test_users_run_that_the_user_finished_is_parked_and_synced_later(tmp_path):
    """Nobody but the user can open that run again: it stays as it is, and all goes into a run of our own."""
    with child(USERS_RUN, tmp_path, PATIENCE_S) as process:
        told, _ = process.communicate(timeout=PATIENCE_S)
    flushed, parked, why = told.splitlines()

    assert (flushed, parked) == ("True", "False 10")
    assert why

    sync = [sys.executable, "-m", "rl_logging.cli", "sync", str(tmp_path / "run")]
    sync += ["--to", "wandb", "--offline"]
    done = subprocess.run(sync, capture_output=True, text=True, timeout=PATIENCE_S)

    assert done.returncode == 0, done.stdout
    users, ours = (
        [
            row["a"]
            for log in folder.glob("wandb/offline-run-*/*.wandb")
            for _, row in WandBLog(log).rows()
            if "a" in row
        ]
        for folder in (tmp_path, tmp_path / "run")
    )
    assert (users, ours) == ([*range(10)], [*range(20)])
