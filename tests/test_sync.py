"""``rl-logging sync``: what trackers lack arrives, once, whatever became of the run."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import (
    ARRIVAL_S,
    DEAD_SERVER,
    child,
    dump,
    empty_store,
    in_mlflow,
    in_tensorboard,
    killed,
    mlflow_run,
    mlflow_runs,
    points,
    the_courier,
    wait_for_end_of_courier,
    wait_for_line,
)
from waiting import wait_until

from rl_logging import configure
from rl_logging.lock import FileLock

SYNC = "import sys; from rl_logging.cli import main; sys.exit(main())"
TRAINER = """
import itertools, sys
from rl_logging import configure
logger = configure(sys.argv[1], ["tensorboard"], linger_s=60)
step = 0
for steps in itertools.chain(["20"], sys.stdin):
    for _ in range(int(steps)):
        step += 1
        logger.record("a", step)
        logger.dump(step)
    print("dumped", flush=True)
logger.close()
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A place for a run, beside an MLflow store."""
    empty_store(tmp_path)
    return tmp_path / "run"


@pytest.fixture
def finished(run: Path) -> Path:
    """A run that was logged to TensorBoard, which has all of it."""
    with configure(run, ["tensorboard"]) as logger:
        dump(logger, 1, 2, 3)
    return run


@pytest.fixture
def trainer(run: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that has dumped steps 1 to 20 of a run, and dumps more for each number it is told."""
    with child(TRAINER, run) as process:
        wait_for_line(process, "dumped")
        yield process


def sync(run: Path, *options: str) -> tuple[int, list[str]]:
    """Run the command: its exit status, and the lines it printed."""
    command = [sys.executable, "-c", SYNC, "sync", str(run), *options]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=ARRIVAL_S, env={**os.environ, "COLUMNS": "200"}
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


def row(lines: list[str], name: str) -> list[str]:
    """An output's line in the table that is printed last, and what stands of it below."""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    found = next(found for found in reversed(cells) if found and found[0] == name)
    return found + [line.removeprefix(f"{name}: ") for line in lines[-5:] if line.startswith(f"{name}: ")]


def _tree(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def test_what_a_dead_server_did_not_get_is_delivered_when_it_lives(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is up again in the morning; one command, and the night is complete."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with configure(run, ["mlflow", "tensorboard"], linger_s=0) as logger:
        dump(logger, 1, 2, 3)
        logger.close(timeout_s=1)
    wait_for_end_of_courier(run)
    outputs = run / "outputs.json"
    store = f"sqlite:///{run.parent}/mlflow.db"
    outputs.write_text(outputs.read_text().replace(DEAD_SERVER, store))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    status, lines = sync(run)
    again, _ = sync(run)

    count = str(len((run / "journal.jsonl").read_bytes().splitlines()))
    assert (status, again) == (0, 0)
    assert row(lines, "mlflow") == ["mlflow", count, "0", "0", store]
    assert row(lines, "tensorboard") == ["tensorboard", count, "0", "0", str(run / "tb")]
    assert in_mlflow(run) == in_tensorboard(run) == points(1, 2, 3)
    assert mlflow_run(run).info.status == "FINISHED"


def test_a_server_that_stays_dead_is_given_up_with_its_error(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that syncs many runs must get an end and an exit status."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    logger = configure(run, ["mlflow", "tensorboard"], mlflow={"tracking_uri": DEAD_SERVER}, linger_s=0)
    dump(logger, 1, 2, 3)
    logger.close(timeout_s=1)
    wait_for_end_of_courier(run)
    status, lines = sync(run)

    count = str(len((run / "journal.jsonl").read_bytes().splitlines()))
    assert status == 1
    assert row(lines, "mlflow")[1:4] == ["0", "0", count]
    assert "127.0.0.1" in " ".join(lines)
    assert in_tensorboard(run) == points(1, 2, 3)


def test_a_tracker_that_was_not_there_gets_all(finished: Path) -> None:
    """Which tracker is wanted, one often knows only after the run; and after that it is the run's."""
    status, lines = sync(finished, "--to", "mlflow")
    with configure(finished, ["tensorboard", "mlflow"]) as logger:
        dump(logger, 4)

    assert status == 0
    assert [line for line in lines if "tensorboard" in line] == []
    assert in_mlflow(finished) == in_tensorboard(finished) == points(1, 2, 3, 4)
    assert len(mlflow_runs(finished)) == 1


def test_a_run_of_another_service_is_kept(run: Path) -> None:
    """Who delivered offline, and then tries the server again, must not have it all twice."""
    logger = configure(run, ["mlflow"], mlflow={"tracking_uri": DEAD_SERVER}, linger_s=0)
    dump(logger, 1, 2, 3)
    logger.close(timeout_s=0)
    wait_for_end_of_courier(run)

    statuses = [sync(run, *options)[0] for options in (["--offline"], [], ["--offline"])]
    looked, lines = sync(run, "--offline", "--dry-run")

    assert statuses == [0, 1, 0]
    assert (looked, row(lines, "mlflow")[2]) == (0, "0")
    assert len(mlflow_runs(run)) == 1
    assert in_mlflow(run) == points(1, 2, 3)


def test_dry_run_says_what_is_missing_and_changes_nothing(run: Path) -> None:
    """Who looks first does not want to have done it by looking."""
    logger = configure(run, ["mlflow"], mlflow={"tracking_uri": DEAD_SERVER}, linger_s=0)
    dump(logger, 1, 2, 3)
    logger.close(timeout_s=0)
    wait_for_end_of_courier(run)
    before = _tree(run.parent)
    status, lines = sync(run, "--dry-run")
    status_to, lines_to = sync(run, "--dry-run", "--to", "tensorboard")

    count = str(len((run / "journal.jsonl").read_bytes().splitlines()))
    assert (status, status_to) == (1, 1)
    assert row(lines, "mlflow")[:3] == ["mlflow", "0", count]
    assert row(lines_to, "tensorboard")[:3] == ["tensorboard", "0", count]
    assert _tree(run.parent) == before


def test_from_start_doubles_nothing(run: Path) -> None:
    """A store that lost its last hour gets all again, and what it still had stands there once."""
    with configure(run, ["tensorboard", "mlflow"]) as logger:
        dump(logger, 1, 1, 2, 3)
    status, lines = sync(run, "--from-start")

    assert status == 0
    assert row(lines, "mlflow")[2:4] == row(lines, "tensorboard")[2:4] == ["0", "0"]
    assert in_tensorboard(run) == in_mlflow(run) == points(1, 1, 2, 3)
    assert len(mlflow_runs(run)) == 1
    assert mlflow_run(run).info.status == "FINISHED"


def test_while_a_run_trains_its_courier_delivers_and_sync_looks_on(
    run: Path, trainer: "subprocess.Popen[str]"
) -> None:
    """It is safe to call at any time, and ends when what was there at its start has arrived."""
    status, lines = sync(run)
    the_courier(run)
    trainer.communicate("5\n", timeout=ARRIVAL_S)

    _, delivered, refused, missing, where = row(lines, "tensorboard")
    assert status == 0
    assert int(delivered) >= 20
    assert (refused, missing, where) == ("0", "0", str(run / "tb"))
    assert in_tensorboard(run) == points(*range(1, 26))


def test_no_wait_leaves_out_what_somebody_delivers_to_and_names_him(
    run: Path, trainer: "subprocess.Popen[str]"
) -> None:
    """A script has no time for an output whose courier waits for a server."""
    pid = the_courier(run)
    wait_until(FileLock(run / "cursors" / "tensorboard.lock").is_held, ARRIVAL_S)
    status, lines = sync(run, "--no-wait")

    assert status == 1
    assert f"is delivered to by process {pid} on " in " ".join(lines)


def test_follow_ends_with_the_run(run: Path, trainer: "subprocess.Popen[str]") -> None:
    """It is the way to watch what arrives; nobody wants to end it by hand."""
    with child(SYNC, "sync", run, "--follow") as follower:
        assert trainer.stdin is not None
        trainer.stdin.write("5\n")
        trainer.stdin.close()
        shown, _ = follower.communicate(timeout=ARRIVAL_S)
    trainer.wait(ARRIVAL_S)

    assert follower.returncode == 0
    assert row(shown.splitlines(), "tensorboard")[2:4] == ["0", "0"]
    assert in_tensorboard(run) == points(*range(1, 26))


@pytest.mark.parametrize("options", [[], ["--follow"]])
def test_it_takes_over_when_trainer_and_courier_are_killed(run: Path, options: list[str]) -> None:
    """Who looks on must not wait for the dead."""
    with child(TRAINER, run) as trainer:
        courier = the_courier(run)
        wait_until(FileLock(run / "cursors" / "tensorboard.lock").is_held, ARRIVAL_S)
        os.kill(courier, signal.SIGSTOP)
        wait_for_line(trainer, "dumped")
        with child(SYNC, "sync", run, *options) as syncing:
            wait_until((run / "courier.log").exists, ARRIVAL_S)
            os.kill(courier, signal.SIGKILL)
            killed(trainer)
            shown, _ = syncing.communicate(timeout=ARRIVAL_S)

    assert syncing.returncode == 0
    assert row(shown.splitlines(), "tensorboard")[2:4] == ["0", "0"]
    assert in_tensorboard(run) == points(*range(1, 21))
