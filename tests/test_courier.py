"""The courier: started once, in nobody's way, and gone when its work is done."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from runs import (
    ARRIVAL_S,
    DEAD_SERVER,
    couriers,
    dump,
    events,
    in_tensorboard,
    points,
    the_courier,
    wait_for_end_of_courier,
)
from waiting import wait_until

from rl_logging import configure
from rl_logging.formats.tensorboard import TensorBoardSender


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_it_is_one_process_apart_from_the_trainer(run: Path) -> None:
    """By exec, or it would hold the trainer's memory; in its own session, or Ctrl-C would end it."""
    with configure(run, ["tensorboard"], linger_s=33) as logger:
        dump(logger, 1)
        pid = the_courier(run)
        delivered = logger.flush()
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        session, niceness = os.getsid(pid), os.getpriority(os.PRIO_PROCESS, pid)
        logger.output_formats.append(TensorBoardSender(run / "other", name="other"))
        dump(logger, 2, 3)
        delivered &= logger.flush()
        after = couriers(run)

    assert delivered
    assert words[:4] == [sys.executable, "-m", "rl_logging.courier", str(run)]
    assert words[5:] == ["33", str(os.getpid()), ""]
    assert (parent, session) == (os.getpid(), pid)
    assert niceness == min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)
    assert after == [pid]
    assert in_tensorboard(run) == points(1, 2, 3)
    assert TensorBoardSender(run / "other").read_back({}) == points(2, 3)


def test_it_imports_neither_torch_nor_sb3(run: Path) -> None:
    """They are hundreds of megabytes, beside those of the trainer."""
    with configure(run, ["tensorboard"]) as logger:
        dump(logger, 1)
        logger.flush()
        maps = Path(f"/proc/{the_courier(run)}/maps").read_text()

    assert "/numpy/" in maps
    assert "/torch/" not in maps


def test_close_leaves_no_process_and_no_zombie(run: Path) -> None:
    """A sweep closes thousands of runs in one process."""
    logger = configure(run, ["tensorboard"])
    dump(logger, 1)
    pid = the_courier(run)
    logger.close()

    assert not Path(f"/proc/{pid}").exists()
    assert logger.health()["tensorboard"].waiting == 0


def test_a_run_without_trackers_has_no_courier(run: Path) -> None:
    """What costs something is there only where it is asked for."""
    with configure(run, ["csv"]) as logger:
        dump(logger, 1)

        assert couriers(run) == []


def test_a_killed_courier_is_started_again_and_nothing_is_lost(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The system kills what needs memory; each record arrives all the same, and once."""
    with configure(run, ["tensorboard"]) as logger:
        dump(logger, *range(20))
        logger.flush()
        first = the_courier(run)
        dump(logger, *range(20, 40))
        os.kill(first, signal.SIGKILL)
        dump(logger, *range(40, 60))
        delivered = logger.flush(ARRIVAL_S)
        second = the_courier(run)

    told = [record.getMessage() for record in caplog.records]
    assert delivered
    assert second != first
    assert told == [
        f"the courier ended with status -9 (see {run}/courier.log); "
        "it is started again in 1 s, and nothing is lost"
    ]
    assert in_tensorboard(run) == points(*range(60))
    assert couriers(run) == []


def test_a_courier_killed_while_the_run_is_closed_still_delivers_all(run: Path) -> None:
    """The last moments are those in which a machine is short of everything."""
    logger = configure(run, ["tensorboard"])
    dump(logger, 1)
    os.kill(the_courier(run), signal.SIGKILL)
    dump(logger, 2)
    logger.close(ARRIVAL_S)

    assert in_tensorboard(run) == points(1, 2)
    assert logger.health()["tensorboard"].waiting == 0


def test_two_runs_of_one_process_have_a_courier_each(tmp_path: Path) -> None:
    """One run's trouble is not the other's, nor are its numbers."""
    runs = tmp_path / "one", tmp_path / "two"
    loggers = [configure(run, ["tensorboard"]) for run in runs]
    for step, logger in enumerate(loggers):
        dump(logger, step, step + 10)
    pids = {the_courier(run) for run in runs}
    loggers[0].close()
    rest = [couriers(run) for run in runs]
    dump(loggers[1], 21)
    loggers[1].close()

    assert len(pids) == 2
    assert list(map(len, rest)) == [0, 1]
    assert [in_tensorboard(run) for run in runs] == [points(0, 10), points(1, 11, 21)]


@pytest.mark.parametrize("is_delivered", [True, False])
def test_a_notebooks_cell_that_runs_again_continues_the_run(
    run: Path, caplog: pytest.LogCaptureFixture, is_delivered: bool
) -> None:
    """Nobody closes a logger in a notebook; its courier gives way to the next, wherever it is."""
    first = configure(run, ["tensorboard"])
    dump(first, 1, 2)
    if is_delivered:
        first.flush()
    second = configure(run, ["tensorboard"])
    dump(first, 99)
    dump(second, 3, 4)
    delivered = second.flush(ARRIVAL_S)
    wait_until(lambda: len(couriers(run)) == 1, ARRIVAL_S)
    second.close()

    assert delivered
    assert second.resumed_from == 2
    assert "the logger does nothing any more: it is closed" in caplog.text
    assert in_tensorboard(run) == points(1, 2, 3, 4)
    assert events(run) == [("closed", "finished"), ("resumed", None), ("closed", "finished")]
    assert couriers(run) == []


def test_where_no_process_can_be_started_threads_deliver(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An embedded Python knows no interpreter, and a container may be full of processes."""
    monkeypatch.setattr(sys, "executable", str(run / "no_python"))
    with configure(run, ["tensorboard"]) as logger:
        dump(logger, 1, 2)
        delivered = logger.flush()
        processes = couriers(run)

    assert delivered
    assert processes == []
    assert caplog.text.count("no process can be started (FileNotFoundError") == 1
    assert in_tensorboard(run) == points(1, 2)


def test_it_ends_in_time_when_a_server_is_dead(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A job's processes must end with it, or the scheduler kills what else is on the node."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    logger = configure(run, ["mlflow"], mlflow={"tracking_uri": DEAD_SERVER}, linger_s=3)
    dump(logger, 1)
    pid = the_courier(run)
    begin = time.monotonic()
    logger.close(timeout_s=0.5)
    closed_s = time.monotonic() - begin
    wait_for_end_of_courier(run)
    gone_s = time.monotonic() - begin
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10)

    assert closed_s < 5
    assert 3 <= gone_s < 25
    assert f"the courier (process {pid}) goes on for 3 s; after that: rl-logging sync {run}" in caplog.text
    assert "not all could be delivered in 3 s; the journal has the rest" in caplog.text
    assert "Traceback" not in (run / "courier.log").read_text()
