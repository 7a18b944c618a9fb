"""MLflow, in a local store and on a real server."""

import time
from pathlib import Path

import pytest

from rl_logging import Logger, MLFlowOutputFormat, MLflowOutputFormat, configure
from rl_logging.formats import make_output
from rl_logging.formats.base import Sender
from rl_logging.mlflow_server import MLflowServer


def run_id(output: Sender) -> str:
    return str(output.run.info.run_id)  # type: ignore[attr-defined]


def test_a_dump_is_one_request(mlflow_server: MLflowServer, tmp_path: Path) -> None:
    """A call per key is what makes hand-written outputs cost a third of a second a dump."""
    before = mlflow_server.answered("runs/log-batch")
    output = MLflowOutputFormat(tracking_uri=mlflow_server.url, experiment_name="requests")
    with Logger(str(tmp_path), [output], delivery="inline") as logger:
        for step in range(3):
            for n in range(200):
                logger.record(f"key/{n}", n)
            logger.dump(step)

    assert mlflow_server.answered("runs/log-batch") == before + 3
    assert output.history()["key/7"] == [(0, 7.0), (1, 7.0), (2, 7.0)]


def test_has_the_spelling_that_some_labs_use() -> None:
    """A lab's page calls it so, and its users' imports must work."""
    assert MLFlowOutputFormat is MLflowOutputFormat


def test_a_run_has_its_name_tags_and_end(mlflow_server: MLflowServer) -> None:
    """What a person sees first in MLflow's list of runs."""
    output = MLflowOutputFormat(
        tracking_uri=mlflow_server.url, experiment_name="named", run_name="first", tags={"who": "me"}
    )
    output.write({"a": 1.0}, {"a": ()}, 1)
    identity = run_id(output)
    output.close()

    run = output.client.get_run(identity)

    assert (run.info.run_name, run.info.status, run.data.tags["who"]) == ("first", "FINISHED", "me")


def test_a_run_id_continues_that_run(mlflow_server: MLflowServer) -> None:
    """A resumed training goes on in the run that it began."""
    first = MLflowOutputFormat(tracking_uri=mlflow_server.url, experiment_name="continued")
    first.write({"a": 1.0}, {"a": ()}, 1)
    identity = run_id(first)
    first.close()

    second = MLflowOutputFormat(tracking_uri=mlflow_server.url, run_id=identity)
    second.write({"a": 2.0}, {"a": ()}, 2)
    second.close()

    assert second.history() == {"a": [(1, 1.0), (2, 2.0)]}


def test_the_active_run_is_used_and_left_open(tmp_path: Path) -> None:
    """Who opened a run decides when it ends."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'user.db'}")
    try:
        with mlflow.start_run() as run:
            output = make_output("mlflow", tmp_path / "run")
            place = output.where()
            output.write({"a": 1.0}, {"a": ()}, 1)
            output.close()
            status = mlflow.get_run(run.info.run_id).info.status

        metrics = mlflow.get_run(run.info.run_id).data.metrics
    finally:
        mlflow.set_tracking_uri(None)

    assert place == "the run that is open in this process"
    assert status == "RUNNING"
    assert metrics == {"a": 1.0}


def test_the_local_store_stands_beside_the_runs(tmp_path: Path) -> None:
    """Runs can be compared only where they share a store."""
    for name in ("one", "two"):
        with configure(tmp_path / "runs" / name, ["mlflow"]) as logger:
            logger.record("a", 1)
            logger.dump(1)

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("rl_logging")
    runs = client.search_runs([experiment.experiment_id])

    assert sorted(run.info.run_name for run in runs) == ["one", "two"]
    assert experiment.artifact_location == f"file://{tmp_path / 'runs' / 'mlartifacts'}"


def test_keys_that_mlflow_refuses_keep_their_originals(mlflow_server: MLflowServer) -> None:
    """A renamed key must be found under what its author called it."""
    output = MLflowOutputFormat(tracking_uri=mlflow_server.url, experiment_name="keys")
    output.write({"loss#1": 1.0, "loss%1": 2.0}, {"loss#1": (), "loss%1": ()}, 1)
    run = output.client.get_run(run_id(output))
    output.close()

    originals = {key.removeprefix("key of "): tag for key, tag in run.data.tags.items() if "key of" in key}

    assert sorted(originals.values()) == ["loss#1", "loss%1"]
    assert {originals[name]: value for name, value in run.data.metrics.items()} == {
        "loss#1": 1.0,
        "loss%1": 2.0,
    }


def test_texts_and_messages_are_sent_once(mlflow_server: MLflowServer) -> None:
    """One peer sends the whole text again at every line: its cost grows with the square."""
    output = MLflowOutputFormat(tracking_uri=mlflow_server.url, experiment_name="texts")
    with Logger(None, [output]) as logger:
        for step in (1, 2):
            logger.info("message", step)
            logger.record("sample", f"text {step}")
            logger.dump(step)
        logger.warn("the last")
    client, identity = output.client, output.located["run_id"]

    def read(folder: str) -> list[str]:
        files = sorted(client.list_artifacts(identity, folder), key=lambda file: file.path)
        return [Path(client.download_artifacts(identity, file.path)).read_text() for file in files]

    assert read("text/sample") == ["text 1", "text 2"]
    assert "\n".join(read("messages")).splitlines() == [
        "[step 0] info: message 1",
        "[step 1] info: message 2",
        "[step 2] warn: the last",
    ]


def test_a_long_key_of_wide_letters_names_a_folder(tmp_path: Path) -> None:
    """A file system counts bytes where MLflow counts letters."""
    output = MLflowOutputFormat(folder=tmp_path)
    key = "漢" * 240
    output.write({key: "some text", "loss": 1.0}, {key: (), "loss": ()}, 1)
    output.close()

    (text,) = tmp_path.glob("mlartifacts/*/artifacts/text/*/step_1_*.txt")
    assert text.read_text() == "some text"


def test_a_dead_server_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By MLflow's own settings, one call to a server that is down takes four minutes."""
    address = {"tracking_uri": "http://127.0.0.1:9"}
    with configure(tmp_path, ["csv", "mlflow"], delivery="inline", mlflow=address) as logger:
        begin = time.monotonic()
        for step in range(100):
            logger.record("a", step)
            logger.dump(step)
        took_s = time.monotonic() - begin

    assert took_s < 30
    assert len((tmp_path / "progress.csv").read_text().splitlines()) == 101
    assert "mlflow: step 0 was not written" in caplog.text
    assert "mlflow: 102 records did not arrive; the journal has them" in caplog.text
