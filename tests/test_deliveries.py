"""What a logger knows of its deliveries, who is delivered to from when on, and what is kept secret."""

import logging
import tempfile
import time
from pathlib import Path

import orjson
import pytest
from runs import (
    ARRIVAL_S,
    DEAD_SERVER,
    couriers,
    dump,
    empty_store,
    in_mlflow,
    in_tensorboard,
    mlflow_run,
    points,
    wait_for_end_of_courier,
)
from waiting import wait_until

from rl_logging import Logger, MLflowOutputFormat, TensorBoardOutputFormat, configure
from rl_logging.formats.tensorboard import TensorBoardSender

SECRET = "s3cr3t-pw"


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


def _in(folder: Path) -> dict[str, list[tuple[int, float]]]:
    return TensorBoardSender(folder).read_back({})


@pytest.mark.parametrize("delivery", ["auto", "thread"])
def test_health_of_a_dead_server_and_of_one_that_lives(
    run: Path, dead: dict[str, str], delivery: str
) -> None:
    """Curves that are missing on a page must not be the first sign that a server is down."""
    logger = configure(run, ["tensorboard", "mlflow"], mlflow=dead, delivery=delivery, linger_s=1)
    began = time.time()
    dump(logger, *range(10))
    all_there = logger.flush(timeout_s=1)
    wait_until(lambda: logger.health()["mlflow"].retried >= 2, ARRIVAL_S)
    health, waited_s = logger.health(), time.time() - began
    logger.close(timeout_s=0)

    count = health["journal"].delivered
    assert not all_there
    assert list(health) == ["journal", "tensorboard", "mlflow"]
    assert health["tensorboard"] == (count, 0, 0, 0, "", 0.0)
    assert (health["mlflow"].delivered, health["mlflow"].waiting, health["mlflow"].refused) == (0, count, 0)
    assert "127.0.0.1" in health["mlflow"].last_error
    assert waited_s - 1 < health["mlflow"].oldest_waiting_s < waited_s + 1
    assert in_tensorboard(run) == points(*range(10))


@pytest.mark.parametrize("delivery", ["auto", "thread", "inline"])
def test_each_way_of_delivery_delivers_the_same(run: Path, delivery: str) -> None:
    """Where an output lives is a matter of costs, never of what arrives."""
    with configure(run, ["tensorboard", "mlflow"], delivery=delivery) as logger:
        dump(logger, 1, 2)
        delivered, urls, processes = logger.flush(ARRIVAL_S), logger.urls(), couriers(run)

    places = {"tensorboard": f"{run}/tb", "mlflow": f"sqlite:///{run.parent}/mlflow.db"}
    assert delivered
    assert urls == ({} if delivery == "inline" else places)
    assert len(processes) == (delivery == "auto")
    assert in_tensorboard(run) == in_mlflow(run) == points(1, 2)
    assert mlflow_run(run).info.status == "FINISHED"


def test_a_way_that_there_is_not_is_refused(run: Path) -> None:
    """And the folder is free for who corrects it."""
    with pytest.raises(ValueError, match="delivery is 'auto', 'thread' or 'inline', not 'fork'"):
        configure(run, ["tensorboard"], delivery="fork")
    configure(run, []).close()


@pytest.mark.parametrize("delivery", ["auto", "thread"])
def test_outputs_may_come_and_go_at_any_time(run: Path, delivery: str) -> None:
    """SB3's list is a plain list; a removed output is finished with what it had until then."""
    late, whole, gone = (TensorBoardOutputFormat(run / name, name=name) for name in ("late", "whole", "gone"))
    with configure(run, ["tensorboard"], delivery=delivery) as logger:
        logger.output_formats.append(gone)
        dump(logger, 1, 2)
        logger.output_formats.append(late)
        logger.output_formats.remove(gone)
        dump(logger, 3)
        logger.add_output(whole, from_start=True)
        dump(logger, 4)
        delivered = logger.flush(ARRIVAL_S)
        health = logger.health()
        cursor = run / "cursors" / "gone.json"
        wait_until(lambda: orjson.loads(cursor.read_bytes())["state"] == "finished", ARRIVAL_S)

    assert delivered
    assert in_tensorboard(run) == points(1, 2, 3, 4)
    assert _in(run / "late") == points(3, 4)
    assert _in(run / "whole") == points(1, 2, 3, 4)
    assert _in(run / "gone") == points(1, 2)
    assert {name: one.waiting for name, one in health.items()} == dict.fromkeys(health, 0)


def test_a_second_output_of_a_name_is_told_and_stops_nothing(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Their cursors would be one file."""
    with configure(run, ["tensorboard"]) as logger:
        logger.output_formats.append(TensorBoardOutputFormat(run / "again"))
        dump(logger, 1)
        delivered = logger.flush()

    assert delivered
    assert "a second output is named 'tensorboard' and gets nothing; give it a name=" in caplog.text
    assert in_tensorboard(run) == points(1)


def test_without_a_folder_the_journal_is_in_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SB3's ``Logger(None, outputs)`` is how tests and examples write it; it is delivered all the same."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Logger(None, [TensorBoardOutputFormat(tmp_path / "tb")]) as logger:
        dump(logger, 1, 2)
    (folder,) = tmp_path.glob("rl_logging-*")

    assert _in(tmp_path / "tb") == points(1, 2)
    assert (folder / "journal.jsonl").is_file()
    assert f"is in {folder}" in caplog.text


def test_a_user_s_mlflow_run_is_written_and_left_open(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opened a run decides when it ends; the courier needs no more than its id."""
    import mlflow

    monkeypatch.chdir(run.parent)  # where MLflow's first experiment keeps its files
    mlflow.set_tracking_uri(f"sqlite:///{run.parent}/mlflow.db")
    try:
        with mlflow.start_run() as active:
            with configure(run, ["mlflow"]) as logger:
                dump(logger, 1, 2)
            status = mlflow_run(run).info.status
    finally:
        mlflow.set_tracking_uri(None)

    assert status == "RUNNING"
    assert mlflow_run(run).info.run_id == active.info.run_id
    assert in_mlflow(run) == points(1, 2)


@pytest.fixture
def run_with_secrets(run: Path, dead: dict[str, str], caplog: pytest.LogCaptureFixture) -> Path:
    """A run whose server's address and tags hold secrets; nothing of them was told while it was on."""
    caplog.set_level(logging.DEBUG)
    tags = {"api_key": SECRET, "auth-token": SECRET, "who": "me"}
    uri = dead["tracking_uri"].replace("//", f"//user:{SECRET}@")
    logger = configure(run, [MLflowOutputFormat(tracking_uri=uri, tags=tags)], linger_s=0.1)
    dump(logger, 1)
    wait_until(lambda: logger.health()["mlflow"].retried >= 1, ARRIVAL_S)
    told = str(logger.health()) + str(logger.urls())
    told += "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in couriers(run))
    logger.close(timeout_s=0)
    wait_for_end_of_courier(run)
    assert SECRET not in told + caplog.text
    return run


def test_secrets_are_not_kept(run_with_secrets: Path) -> None:
    """A run folder is sent to colleagues, and its log is what they read first."""
    files = {path.name: path.read_text() for path in run_with_secrets.rglob("*.*") if path.is_file()}
    (output,) = orjson.loads(files["outputs.json"])["outputs"]

    assert {"outputs.json", "mlflow.json", "courier.log"} <= files.keys()
    assert [name for name, text in files.items() if SECRET in text and name != "journal.jsonl"] == []
    assert output["arguments"]["tags"] == {"who": "me"}
    assert output["arguments"]["tracking_uri"] == DEAD_SERVER


def test_secrets_are_not_in_the_journal(run_with_secrets: Path) -> None:
    """It is the one file that everything else is made from."""
    assert SECRET not in (run_with_secrets / "journal.jsonl").read_text()
