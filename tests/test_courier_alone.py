"""The courier when its trainer, or the two of them, or what they stand on, is suddenly gone."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from runs import (
    ARRIVAL_S,
    DEAD_SERVER,
    child,
    couriers,
    dump,
    empty_store,
    events,
    in_mlflow,
    in_tensorboard,
    killed,
    mlflow_run,
    points,
    read_terminal,
    the_courier,
    wait_for_end_of_courier,
    wait_for_line,
)

from rl_logging import configure

TRAINER = """
import sys
from rl_logging import configure
logger = configure(sys.argv[1], sys.argv[2].split(","), linger_s=60)
for step in range(50):
    logger.record("a", step)
    logger.dump(step)
print("dumped", flush=True)
sys.stdin.read()
"""
SCRIPT = """
import sys
from rl_logging import configure
logger = configure(sys.argv[1], ["stdout", "csv", "tensorboard", "mlflow"])
for step in (1, 2):
    logger.record("a", step)
    logger.dump(step)
logger.close()
"""
FORKS = """
import multiprocessing, sys

logger = None

def work():
    if logger is not None:  # the child has its parent's memory
        for step in range(100, 110):
            logger.record("a", step)
            logger.dump(step)
        logger.close()

if __name__ == "__main__":
    from rl_logging import configure
    logger = configure(sys.argv[1], ["tensorboard"], linger_s=60)
    logger.record("a", 1)
    logger.dump(1)
    logger.flush()
    process = multiprocessing.get_context(sys.argv[2]).Process(target=work)
    process.start()
    process.join()
    logger.record("a", 2)
    logger.dump(2)
    logger.close()
    print(process.exitcode)
"""
FORK_THAT_STAYS = """
import os, signal, sys
from rl_logging import configure
logger = configure(sys.argv[1], ["tensorboard"], linger_s=60)
logger.record("a", 1)
logger.dump(1)
logger.flush()
fork = os.fork()
if fork == 0:
    signal.pause()
if sys.argv[2] == "close":
    logger.close()
print(fork, flush=True)
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    empty_store(tmp_path)
    return tmp_path / "run"


def test_a_killed_trainers_records_are_delivered_and_its_run_is_called_killed(run: Path) -> None:
    """Out of memory at the last step: the night's curves are complete, and their list says how it ended."""
    with child(TRAINER, run, "tensorboard,mlflow") as trainer:
        wait_for_line(trainer, "dumped")
        killed(trainer)
    wait_for_end_of_courier(run)

    assert in_tensorboard(run) == in_mlflow(run) == points(*range(50))
    assert mlflow_run(run).info.status == "KILLED"
    assert events(run) == []


def test_when_both_are_killed_sync_delivers_the_rest(run: Path) -> None:
    """A lost container takes both; its disk is what is left."""
    with child(TRAINER, run, "tensorboard,mlflow") as trainer:
        courier = the_courier(run)
        os.kill(courier, signal.SIGSTOP)
        wait_for_line(trainer, "dumped")
        os.kill(courier, signal.SIGKILL)
        killed(trainer)
    before = in_tensorboard(run)
    with child("import sys; from rl_logging.cli import main; sys.exit(main())", "sync", run) as sync:
        status = sync.wait(ARRIVAL_S)

    assert before == {}
    assert status == 0
    assert in_tensorboard(run) == in_mlflow(run) == points(*range(50))
    assert mlflow_run(run).info.status == "KILLED"


def _own_terminal() -> None:
    """In the child: what is its input becomes its controlling terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup lets what it starts ignore it
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_closed_terminal_ends_the_trainer_only(run: Path) -> None:
    """A lost connection to the machine hangs up on all that belongs to the terminal."""
    # One that reads could meet the end of its input before the signal.
    code = TRAINER.replace("sys.stdin.read()", "import signal; signal.pause()")
    master, slave = os.openpty()
    with child(code, run, "tensorboard", stdin=slave, preexec_fn=_own_terminal) as trainer:
        os.close(slave)
        wait_for_line(trainer, "dumped")
        os.close(master)
        status = trainer.wait(ARRIVAL_S)
        wait_for_end_of_courier(run)

    assert status == -signal.SIGHUP
    assert in_tensorboard(run) == points(*range(50))


def test_the_end_of_the_trainers_process_group_is_not_its_own(run: Path) -> None:
    """So do shells and job schedulers end what they started."""
    with child(TRAINER, run, "tensorboard", start_new_session=True) as trainer:
        wait_for_line(trainer, "dumped")
        os.killpg(trainer.pid, signal.SIGKILL)
        trainer.wait()
    wait_for_end_of_courier(run)

    assert in_tensorboard(run) == points(*range(50))


def test_it_gives_up_in_time_when_its_trainer_is_gone(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process stays for ever because of a server that never comes back."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
    with child(TRAINER.replace("=60", "=2"), run, "tensorboard,mlflow") as trainer:
        wait_for_line(trainer, "dumped")
        killed(trainer)
    wait_for_end_of_courier(run)

    assert in_tensorboard(run) == points(*range(50))
    assert "not all could be delivered in 2 s" in (run / "courier.log").read_text()


def test_a_removed_run_folder_stops_neither_trainer_nor_courier_from_ending(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody tidies up while a run is on; what is gone is said, and nothing hangs or comes back."""
    logger = configure(run, ["tensorboard"])
    dump(logger, 1, 2)
    logger.flush()
    shutil.rmtree(run)
    dump(logger, 3, 4)
    logger.close(timeout_s=2)
    wait_for_end_of_courier(run)

    assert "journal: step 3 was not written: FileNotFoundError" in caplog.text
    assert "records are lost" in caplog.text
    assert not (run / "journal.jsonl").exists()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_processes_of_the_trainer_neither_log_nor_hold_the_courier(
    run: Path, tmp_path: Path, method: str
) -> None:
    """Vectorised environments and data loaders start processes in each of these ways."""
    script = tmp_path / "train.py"
    script.write_text(FORKS)
    command = [sys.executable, script, run, method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ARRIVAL_S, check=True)

    is_inert = "the logger does nothing any more: this is a fork of the process that logs"
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr.splitlines() == ([is_inert] if method == "fork" else [])
    assert in_tensorboard(run) == points(1, 2)
    assert couriers(run) == []


@pytest.mark.parametrize("end", ["close", "exit", "kill"])
def test_a_fork_that_lives_longer_does_not_keep_the_courier(run: Path, end: str) -> None:
    """It holds the trainer's end of the pipe, and it may wait for ever."""
    with child(FORK_THAT_STAYS, run, end) as trainer:
        assert trainer.stdout is not None
        fork = int(trainer.stdout.readline())
        status = trainer.wait(ARRIVAL_S)
        try:
            wait_for_end_of_courier(run)
        finally:
            os.kill(fork, signal.SIGKILL)

    assert status == (-signal.SIGKILL if end == "kill" else 0)
    assert in_tensorboard(run) == points(1)
    assert events(run) == ([] if end == "kill" else [("closed", "finished")])


def test_nothing_but_our_own_lines_is_on_the_terminal(run: Path) -> None:
    """SDKs print banners, addresses and warnings; a terminal is the user's."""
    master, slave = os.openpty()
    with child(SCRIPT, run, stdin=slave, stdout=slave, stderr=slave) as script:
        os.close(slave)
        shown = read_terminal(master)
        status = script.wait(ARRIVAL_S)
    os.close(master)

    lines = shown.replace("\r\n", "\n").splitlines()
    assert status == 0
    assert lines[:3] == [
        f"Logging to {run}",
        f"tensorboard: event files in {run}/tb",
        f"mlflow: local store sqlite:///{run.parent}/mlflow.db",
    ]
    assert [line[:1] for line in lines[3:]] == ["-", "|", "-", "-", "|", "-"]
