"""``rl-logging sync`` at a terminal: its mistakes in one line, its bars, and Ctrl-C."""

import dataclasses
import fcntl
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from runs import ARRIVAL_S, DEAD_SERVER, child, dump, in_tensorboard, points, read_terminal
from waiting import wait_until

from rl_logging import cli, configure
from rl_logging.cursor import DELIVERING, CursorFile
from rl_logging.lock import FileLock

SYNC = "import sys; from rl_logging.cli import main; sys.exit(main())"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that was logged to a file only."""
    with configure(tmp_path / "run", ["csv"]) as logger:
        dump(logger, 1, 2, 3)
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["{run}/nowhere"], "is no run folder: it has no journal.jsonl"),
        (["{run}"], "this run was logged to no tracker; name one by --to: tensorboard, mlflow, "),
        (["{run}", "--to", "tensorbord"], "tensorbord"),
        (["{run}", "--to", "csv"], "--to 'csv' is no tracker; allowed are tensorboard, mlflow, "),
        (["{run}", "--to"], "--to"),
        ([], "RUN"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(run: Path, options: list[str], said: str) -> None:
    """A traceback tells a user nothing; an exit status tells a script enough."""
    arguments = [option.format(run=run) for option in options]
    done = subprocess.run(
        [sys.executable, "-c", SYNC, "sync", *arguments], capture_output=True, text=True, timeout=ARRIVAL_S
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_bars_and_table_are_all_that_a_terminal_shows(run: Path) -> None:
    """What SDKs print goes to the log; the last lines say what was delivered, and where it is."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    arguments = ("sync", run, "--to", "tensorboard")
    with child(SYNC, *arguments, stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        shown = read_terminal(master)
        status = process.wait(ARRIVAL_S)
    os.close(master)

    count = len((run / "journal.jsonl").read_bytes().splitlines())
    assert status == 0
    assert f"{count}/{count}" in shown
    assert "━" in shown
    assert str(run / "tb") in shown
    assert "Traceback" not in shown
    assert in_tensorboard(run) == points(1, 2, 3)


def test_ctrl_c_ends_it_with_the_table_and_status_130(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As any command of a shell; what is delivered by then stays delivered."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    arguments = ("sync", run, "--to", "tensorboard", "mlflow", "--follow")
    with child(SYNC, *arguments, start_new_session=True) as process:
        cursor = CursorFile(run, "mlflow")
        wait_until(lambda: (known := cursor.load()) is not None and known.retried > 0, ARRIVAL_S)
        wait_until(lambda: in_tensorboard(run) == points(1, 2, 3), ARRIVAL_S)
        process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=ARRIVAL_S)

    assert process.returncode == 130
    assert "Traceback" not in shown + (run / "courier.log").read_text()
    assert "tensorboard" in shown
    assert not FileLock(cursor.lock_path).is_held()


def test_dry_run_says_where_nobody_delivers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a kill, the last word of a cursor is that it delivers; the lock beside it knows better."""
    run = tmp_path / "run"
    with configure(run, ["tensorboard"]) as logger:
        dump(logger, 1, 2)
    file = CursorFile(run, "tensorboard")
    cursor = file.load()
    assert cursor is not None
    file.save(dataclasses.replace(cursor, state=DELIVERING, handed=1))

    def state() -> str:
        cli.main(["sync", str(run), "--dry-run"])
        (row,) = [line for line in capsys.readouterr().out.splitlines() if "tensorboard" in line]
        return row.split("│")[-2].strip()

    left = state()
    lock = FileLock(file.lock_path)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        taken = pool.apply(_acquire, (lock.path,))
        held = state()

    assert (left, taken, held) == ("nobody delivers", True, "delivering")


def _acquire(path: Path) -> bool:
    """Take a lock and keep it until this process ends."""
    _kept.append(FileLock(path))
    return _kept[0].acquire()


_kept: list[FileLock] = []
