"""How a run ends: in time, with the right word for it, and by whatever ended the program."""

import signal
import subprocess
import sys
import threading
import time
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
    in_tensorboard,
    mlflow_run,
    points,
    wait_for_end_of_courier,
    wait_for_line,
)
from waiting import wait_until

from rl_logging import configure
from rl_logging.journal import read

START = """
import signal, sys, threading
from rl_logging import configure
def run(**arguments):
    logger = configure(sys.argv[1], ["tensorboard"], **arguments)
    for step in range(3):
        logger.record("a", step)
        logger.dump(step)
    return logger
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    empty_store(tmp_path)
    return tmp_path / "run"


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The arguments of an MLflow output whose server is not there; it is asked without patience."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return {"tracking_uri": DEAD_SERVER}


@pytest.mark.parametrize("delivery", ["auto", "thread"])
def test_the_limit_of_close_is_for_all_outputs_together(
    run: Path, dead: dict[str, str], delivery: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that is told to end has seconds, however many trackers are down."""
    from rl_logging import MLflowOutputFormat

    outputs = [MLflowOutputFormat(**dead, name=f"mlflow{n}") for n in range(3)]
    logger = configure(run, outputs, delivery=delivery, linger_s=1)
    dump(logger, 1, 2)
    begin = time.monotonic()
    logger.close(timeout_s=1.5)
    took_s = time.monotonic() - begin

    (told,) = [record.getMessage() for record in caplog.records if "lacks" in record.getMessage()]
    assert 1.5 <= took_s < 4
    assert [told.count(f"mlflow{n} lacks ") for n in range(3)] == [1, 1, 1]
    assert told.endswith(f": rl-logging sync {run}")


def test_a_second_close_is_quiet(run: Path, dead: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """A notebook's cell, a context and the program's end may all close it."""
    with configure(run, ["mlflow"], mlflow=dead, linger_s=1) as logger:
        dump(logger, 1)
        logger.close(timeout_s=0.2)
        told = len(caplog.records)
        begin = time.monotonic()
        logger.close()
    took_s = time.monotonic() - begin

    assert took_s < 1
    assert [r.getMessage() for r in caplog.records[told:] if "lacks" in r.getMessage()] == []
    assert events(run) == [("closed", "finished")]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("a bug"), "failed"),
        (KeyboardInterrupt(), "killed"),
        (SystemExit(0), "finished"),
        (SystemExit(1), "failed"),
        (None, "finished"),
    ],
)
def test_a_context_says_how_the_run_went(run: Path, error: BaseException | None, status: str) -> None:
    """A tracker's list of runs is searched for those that failed."""

    def train() -> None:
        with configure(run, ["mlflow"]) as logger:
            dump(logger, 1)
            if error is not None:
                raise error

    if error is None:
        train()
    else:
        with pytest.raises(type(error)):
            train()

    assert events(run) == [("closed", status)]
    assert mlflow_run(run).info.status == status.upper()


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("1 / 0", "failed"),
        ("raise KeyboardInterrupt", "killed"),
        ("sys.exit(0)", "finished"),
        ("", "finished"),
    ],
)
def test_a_script_that_closes_nothing_is_closed_at_its_end(run: Path, end: str, status: str) -> None:
    """An error that nobody caught is how most runs end."""
    done = subprocess.run(
        [sys.executable, "-c", f"{START}\nlogger = run()\n{end}", run],
        capture_output=True,
        text=True,
        timeout=ARRIVAL_S,
        check=False,
    )

    assert ("Traceback" in done.stderr) == (status != "finished")
    assert events(run) == [("closed", status)]
    assert in_tensorboard(run) == points(0, 1, 2)
    assert couriers(run) == []


SIGTERM = """
def before(number, frame):
    print("before", flush=True)
    sys.exit(7)
if sys.argv[2] == "chained":
    signal.signal(signal.SIGTERM, before)
if sys.argv[2] == "ignored":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
logger = run(handle_sigterm=sys.argv[2] != "off")
print("ready", flush=True)
for line in sys.stdin:
    break
print("over", flush=True)
"""


@pytest.mark.parametrize(
    ("case", "status", "said", "end"),
    [
        ("alone", -signal.SIGTERM, "", [("closed", "killed")]),
        ("chained", 7, "before\n", [("closed", "killed")]),
        ("off", -signal.SIGTERM, "", []),
    ],
)
def test_sigterm_closes_the_run_where_that_was_asked_for(
    run: Path, case: str, status: int, said: str, end: list[tuple[str, str]]
) -> None:
    """Schedulers send it before they kill; what was there before us still happens."""
    with child(START + SIGTERM, run, case) as trainer:
        wait_for_line(trainer, "ready")
        trainer.terminate()
        rest, _ = trainer.communicate(timeout=ARRIVAL_S)
    wait_for_end_of_courier(run)

    assert (trainer.returncode, rest) == (status, said)
    assert events(run) == end
    assert in_tensorboard(run) == points(0, 1, 2)


def test_sigterm_that_was_ignored_still_closes_the_run_and_ends_nothing(run: Path) -> None:
    """Who ignores it has a reason; the process goes on, with a run that is closed."""
    with child(START + SIGTERM, run, "ignored") as trainer:
        wait_for_line(trainer, "ready")
        trainer.terminate()
        wait_until(lambda: bool(events(run)), ARRIVAL_S)
        rest, _ = trainer.communicate("go on\n", timeout=ARRIVAL_S)

    assert (trainer.returncode, rest) == (0, "over\n")
    assert events(run) == [("closed", "killed")]


SIGTERM_IN_DUMP = """
import os
from stable_baselines3.common.logger import KVWriter
class Terminates(KVWriter):
    def write(self, values, excluded, step=0):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000): pass  # Python runs the handler here
        print("written", flush=True)
    def close(self):
        print("closed", flush=True)
logger = configure(sys.argv[1], [Terminates(), "csv"], handle_sigterm=True)
logger.record("a", 1)
logger.dump(1)
print("not reached", flush=True)
"""


def test_sigterm_during_a_dump_waits_for_it(run: Path) -> None:
    """Half a row in a file, or a record that one output has and the next has not, is no end."""
    with child(START + SIGTERM_IN_DUMP, run) as trainer:
        said, _ = trainer.communicate(timeout=ARRIVAL_S)

    assert (trainer.returncode, said) == (-signal.SIGTERM, "written\nclosed\n")
    assert (run / "progress.csv").read_text().splitlines()[-1].split(",").count("1") >= 1
    assert [record.kind for record in read(run / "journal.jsonl")][-2:] == ["metrics", "lifecycle"]


def test_sigterm_is_for_the_main_thread_and_leaves_nothing_behind(run: Path) -> None:
    """Python allows handlers nowhere else; a logger that was refused must not lock the folder."""
    caught: list[BaseException] = []

    def work() -> None:
        try:
            configure(run, [], handle_sigterm=True)
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    before = signal.getsignal(signal.SIGTERM)
    with configure(run, [], handle_sigterm=True):
        during = signal.getsignal(signal.SIGTERM)

    assert [str(error) for error in caught] == ["handle_sigterm is possible in the main thread only"]
    assert during is not before
    assert signal.getsignal(signal.SIGTERM) is before
