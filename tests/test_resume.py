"""A run that is started again goes on where it was, in its files and in its trackers."""

from pathlib import Path

import pytest
from runs import (
    ARRIVAL_S,
    child,
    dump,
    empty_store,
    events,
    in_mlflow,
    in_tensorboard,
    killed,
    lifecycle,
    mlflow_run,
    points,
    wait_for_end_of_courier,
    wait_for_line,
)

from rl_logging import Logger, TensorBoardOutputFormat, configure
from rl_logging.errors import RunInUseError
from rl_logging.journal import read

TRAINER = """
import sys
from rl_logging import configure
logger = configure(sys.argv[1], ["tensorboard", "mlflow"], linger_s=60)
for step in (1, 2, 3):
    logger.record("a", step)
    logger.dump(step)
print("dumped", flush=True)
sys.stdin.read()
"""
FILES = ["csv", "json", "log"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    empty_store(tmp_path)
    return tmp_path / "run"


def test_trackers_continue_their_own_runs(run: Path) -> None:
    """One training is one line in MLflow's list, however often it was started."""
    with configure(run, ["tensorboard", "mlflow"]) as logger:
        dump(logger, 1, 2)
    first = mlflow_run(run).info
    with configure(run, ["tensorboard", "mlflow"]) as logger:
        dump(logger, 3)
        logger.flush(ARRIVAL_S)
        during = mlflow_run(run).info.status
    with configure(run, ["tensorboard", "mlflow"]) as logger:
        dump(logger, 4)

    assert (first.status, during, mlflow_run(run).info.status) == ("FINISHED", "RUNNING", "FINISHED")
    assert mlflow_run(run).info.run_id == first.run_id
    assert in_tensorboard(run) == in_mlflow(run) == points(1, 2, 3, 4)
    assert len(list((run / "tb").glob("events.out.tfevents.*"))) == 3


def test_a_killed_run_continues_in_the_run_that_its_courier_ended(run: Path) -> None:
    """A job that was preempted is queued again; nobody wants its curves in two pieces."""
    with child(TRAINER, run) as trainer:
        wait_for_line(trainer, "dumped")
        killed(trainer)
    with configure(run, ["tensorboard", "mlflow"]) as logger:
        dump(logger, 4)
        delivered = logger.flush(ARRIVAL_S)

    wait_for_end_of_courier(run)
    assert delivered
    assert in_tensorboard(run) == in_mlflow(run) == points(1, 2, 3, 4)
    assert mlflow_run(run).info.status == "FINISHED"


def test_a_tracker_that_comes_with_the_resumed_run_begins_there(run: Path) -> None:
    """The others keep what they had; from the start is what ``sync`` and ``from_start`` are for."""
    with configure(run, ["tensorboard"]) as logger:
        dump(logger, 1, 2)
    with configure(run, ["tensorboard", "mlflow"]) as logger:
        dump(logger, 3)

    assert in_tensorboard(run) == points(1, 2, 3)
    assert in_mlflow(run) == points(3)


def test_the_journal_says_that_the_run_was_resumed(run: Path) -> None:
    """Who reads it must know from which step the numbers were made again."""
    with configure(run, ["csv"]) as logger:
        dump(logger, 1, 5)
    with configure(run, ["csv"]) as logger:
        resumed_from = logger.resumed_from
        dump(logger, 4)

    closed, resumed, _ = lifecycle(run)
    assert resumed_from == 5
    assert events(run) == [("closed", "finished"), ("resumed", None), ("closed", "finished")]
    assert (closed.step, resumed.step) == (5, 5)
    assert {"session", "pid"} <= resumed.values.keys()
    assert [record.step for record in read(run / "journal.jsonl") if record.kind == "metrics"] == [1, 5, 4]


def test_nothing_is_erased(run: Path) -> None:
    """SB3's own files begin anew, and the night before is gone."""
    before: dict[Path, bytes] = {}
    for step in (1, 2, 3):
        with configure(run, [*FILES, "tensorboard"]) as logger:
            dump(logger, step)
        after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        kept = [path for path in before if not path.match("cursors/*") and path.name != "journal.lock"]

        assert [path for path in kept if not after[path].startswith(before[path])] == []
        before = after

    assert {"progress.csv", "progress.json", "train.log", "journal.jsonl"} <= {path.name for path in before}


def test_a_user_is_told_that_a_run_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever meant to begin a new one has to see it in the first line."""
    with configure(run, ["stdout", "csv"]) as logger:
        dump(logger, 7)
    first = capsys.readouterr().out
    configure(run, ["stdout", "csv"]).close()

    assert "Resuming" not in first
    assert capsys.readouterr().out.splitlines()[0] == (
        f"Resuming the run in {run} after step 7. "
        "A new run needs another folder; resume='never' makes sure of it."
    )


@pytest.mark.parametrize("make", [configure, Logger])
def test_never_refuses_a_folder_that_has_a_run(run: Path, make: type[Logger]) -> None:
    """Two seeds in one folder are one useless curve."""
    make(str(run), [], resume="never").close()  # there is nothing in it yet
    with make(str(run), [], resume="never") as logger:
        dump(logger, 1)
    before = (run / "journal.jsonl").read_bytes()

    with pytest.raises(FileExistsError) as caught:
        make(str(run), [], resume="never")

    assert str(caught.value) == (
        f"{run} holds a run already; give another folder, or resume='auto' to continue"
    )
    assert (run / "journal.jsonl").read_bytes() == before


def test_never_leaves_a_run_of_this_process_alone(run: Path) -> None:
    """A refusal must not end what it protects."""
    with configure(run, ["csv"]) as logger:
        dump(logger, 1)
        with pytest.raises(FileExistsError):
            configure(run, ["csv"], resume="never")
        dump(logger, 2)

    assert [record.step for record in read(run / "journal.jsonl") if record.kind == "metrics"] == [1, 2]


@pytest.mark.parametrize("make", [configure, Logger])
def test_must_refuses_a_folder_that_has_none(run: Path, make: type[Logger]) -> None:
    """A job script that resumes must not begin at step 0 because of a typo, nor make the folder."""
    with pytest.raises(FileNotFoundError) as caught:
        make(str(run), [], resume="must")

    assert str(caught.value) == f"{run} holds no run that could be resumed: it has no journal.jsonl"
    assert not run.exists()


def test_must_continues_a_run(run: Path) -> None:
    """And "auto" does both."""
    for resume in ("auto", "must", "auto"):
        with configure(run, [], resume=resume) as logger:
            dump(logger, 1)

    assert [event for event, _ in events(run)] == ["closed", "resumed", "closed", "resumed", "closed"]


def test_a_choice_that_there_is_not_is_refused(run: Path) -> None:
    """Before anything is made."""
    with pytest.raises(ValueError, match="resume is 'auto', 'never' or 'must', not 'always'"):
        configure(run, [], resume="always")

    assert not run.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"fsync": "sometimes"},
        {"delivery": "fork"},
        {"resume": "always"},
        {"linger_s": "long"},
        {"linger_s": float("nan")},
        {"linger_s": -1},
        {"tensorboard": {"no_such": 1}},
    ],
)
def test_a_refused_logger_leaves_no_lock_and_no_process(run: Path, wrong: dict[str, object]) -> None:
    """The corrected call comes seconds later, in the same notebook, while the error is still on show."""
    error = None
    try:
        configure(run, ["tensorboard"], **wrong)  # type: ignore[arg-type]
    except (TypeError, ValueError) as caught:
        error = caught  # and with it the frames in which the logger was made

    with configure(run, ["tensorboard"], resume="never") as logger:
        dump(logger, 1)

    assert error is not None
    assert in_tensorboard(run) == points(1)


def test_a_run_that_another_process_writes_is_refused(run: Path) -> None:
    """And its writer is named; no output is touched."""
    with child(TRAINER, run) as trainer:
        wait_for_line(trainer, "dumped")
        with pytest.raises(RunInUseError, match=f"is written by process {trainer.pid} on "):
            configure(run, ["tensorboard", "mlflow"])
        with pytest.raises(RunInUseError):
            Logger(str(run), [TensorBoardOutputFormat(run / "tb")])
        trainer.communicate(timeout=ARRIVAL_S)

    assert in_tensorboard(run) == points(1, 2, 3)
    assert events(run) == [("closed", "finished")]
