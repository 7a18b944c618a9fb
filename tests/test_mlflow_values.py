"""What MLflow has of a run besides numbers, read back from a local store and from a real server."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.logger import Figure, HParam, Image, Video

from rl_logging.artifacts import keep_artifact
from rl_logging.encoding import read_frames
from rl_logging.formats.mlflow import MLflowSender
from rl_logging.media import MediaWriter
from rl_logging.mlflow_server import MLflowServer
from rl_logging.record import (
    ARTIFACT,
    HYPERPARAMETERS,
    PROVENANCE,
    TAGS,
    Record,
    make_record,
)
from rl_logging.rich import Histogram, Media, Table

Opens = Callable[..., MLflowSender]
NESTED = {"lr": 0.1, "net": {"sizes": [64, 64], "act": None}, "clip": float("nan"), "seed": 2**70, "note": ""}


@pytest.fixture(scope="module")
def local_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store for all tests: MLflow takes seconds to make one."""
    return tmp_path_factory.mktemp("local_store")


@pytest.fixture
def senders() -> Iterator[list[MLflowSender]]:
    """What a test opens, closed at its end."""
    opened: list[MLflowSender] = []
    yield opened
    for sender in opened:
        sender.close()


@pytest.fixture(params=["sqlite", "server"])
def opens(request: pytest.FixtureRequest, senders: list[MLflowSender]) -> Opens:
    """Makes senders to a local store, and to a server."""
    if request.param == "server":
        place = {"tracking_uri": request.getfixturevalue("mlflow_server").url, "experiment_name": "values"}
    else:
        place = {"folder": request.getfixturevalue("local_store")}

    def make(**given: Any) -> MLflowSender:
        senders.append(MLflowSender(**place, **given))
        return senders[-1]

    return make


@pytest.fixture
def local(local_store: Path, senders: list[MLflowSender]) -> MLflowSender:
    """A sender to the local store."""
    senders.append(MLflowSender(folder=local_store))
    return senders[-1]


def metrics(folder: Path, values: dict[Any, Any], step: int = 7) -> Record:
    return make_record(values, {}, step, MediaWriter(folder).keep)


def about(kind: str, values: dict[str, Any], step: int = 7) -> Record:
    return Record(step, 1e9, values, kind=kind)


def model(folder: Path, step: int, aliases: list[str], content: bytes = b"weights") -> Record:
    path = folder / "policy.zip"
    path.write_bytes(content)
    kept = keep_artifact(folder, path, "policy of a run", "model", step, {"class": "PPO"}, aliases)
    return about(ARTIFACT, {"policy of a run": kept}, step)


def every_kind(folder: Path) -> list[Record]:
    """A record of each kind, and a value of each kind."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing((1, 1))
    drawing.subplots().plot([1, 2])
    values = {
        "loss": 0.5,
        "note": "a text",
        "eval/frame": Image(pixels(), "HWC"),
        "eval/curve": Figure(drawing, False),
        "eval/rollout": Video(clip(), 10),
        "train/actions": np.arange(101.0),
        "train/lengths": Histogram(counts=[3, 1], edges=[0, 10, 20]),
        "eval/results": Table(["episode", "return"], [(1, 2.5), (2, float("nan")), (3, "none")]),
        "hp": HParam({"from sb3": 1}, {"loss": 0}),
    }
    file = folder / "data.csv"
    file.write_text("a,b\n")
    data = keep_artifact(folder, file, "data", "dataset", 7, {"rows": 0}, [])
    return [
        metrics(folder, values),
        about(HYPERPARAMETERS, NESTED),
        about(TAGS, {"task": "CartPole", "empty": ""}),
        about(ARTIFACT, {"data": data}),
        model(folder, 7, ["best"]),
    ]


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


def clip() -> np.ndarray:
    """Twelve frames, each of one grey, growing lighter."""
    return np.repeat(np.arange(12, dtype=np.uint8) * 20, 3 * 32 * 32).reshape(1, 12, 3, 32, 32)


def run_id(sender: MLflowSender) -> str:
    return str(sender.run.info.run_id)


def data(sender: MLflowSender) -> Any:
    return sender.client.get_run(run_id(sender)).data


def artifacts(sender: MLflowSender, to: Path) -> dict[str, Path]:
    """The files among the run's artifacts, by their paths, with the time left out."""
    to.mkdir(exist_ok=True)
    folder = Path(sender.client.download_artifacts(run_id(sender), "", str(to)))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {re.sub(r"(?<=[_+])\d{12,}", "TIME", path.relative_to(folder).as_posix()): path for path in files}


def test_every_kind_is_read_back(opens: Opens, tmp_path: Path) -> None:
    """The whole promise: what was logged is in the store, as it was."""
    sender, records = opens(), every_kind(tmp_path)
    sender.handle_all(records)

    found = artifacts(sender, tmp_path / "found")
    image = found["images/eval~frame+step+7+timestamp+TIME+image.png"]
    figure = found["images/eval~curve+step+7+timestamp+TIME+figure.png"]
    frames, fps = read_frames(found["videos/eval/rollout/step_7_TIME.mp4"])
    counted = json.loads(found["histograms/train/actions/step_7_TIME.json"].read_text())
    given = json.loads(found["histograms/train/lengths/step_7_TIME.json"].read_text())
    known = json.loads(found["models/policy_of_a_run/step_7.json"].read_text())

    assert np.array_equal(imageio.imread(image), pixels())
    assert imageio.imread(figure).shape == (100, 100, 4)
    assert fps == 10
    assert np.abs(frames.mean(axis=(1, 2, 3)) - np.arange(12) * 20).max() < 4
    assert (sum(counted["counts"]), len(counted["edges"]), counted["edges"][-1]) == (101, 31, 100.0)
    assert given == {"counts": [3.0, 1.0], "edges": [0.0, 10.0, 20.0], "stats": {}}
    assert found["text/note/step_7_TIME.txt"].read_text() == "a text"
    assert found["artifacts/data/step_7/data.csv"].read_text() == "a,b\n"
    assert found["models/policy_of_a_run/step_7/policy.zip"].read_bytes() == b"weights"
    assert (known["type"], known["size"], known["metadata"]) == ("model", 7, {"class": "PPO"})
    assert sender.history() == sender.expected(records)
    assert sender.history()["train/actions/mean"] == [(7, 50.0)]
    assert sender.contents() == sender.expected_contents(records)
    assert sender.contents() == {
        **{"image": 1, "figure": 1, "video": 1, "histogram": 2, "table": 1, "text": 1},
        **{"hyperparameter": 7, "tag": 2, "artifact": 1, "model": 1},
    }


def test_a_second_delivery_shows_nothing_twice(opens: Opens, tmp_path: Path) -> None:
    """After a crash all since the last acknowledgement is delivered again, by a new process."""
    records = [*every_kind(tmp_path), about(HYPERPARAMETERS, {"lr": 0.2})]
    first = opens()
    first.handle_all(records)
    once = artifacts(first, tmp_path / "once").keys(), data(first), first.history(), first.contents()

    second = opens(run_id=run_id(first))
    for record in records:
        second.handle(record)
    twice = artifacts(second, tmp_path / "twice").keys(), data(second), second.history(), second.contents()

    assert twice[0] == once[0]
    assert (twice[1].params, twice[1].tags) == (once[1].params, once[1].tags)
    assert twice[2:] == once[2:]
    assert len(second.client.search_model_versions(f"run_id = '{run_id(first)}'")) == 1


def test_the_registry_has_each_version_and_its_aliases(opens: Opens, tmp_path: Path) -> None:
    """Who deploys a policy asks for it by its name and alias."""
    sender = opens()
    sender.handle_all([model(tmp_path, 1, ["best", "latest"]), model(tmp_path, 2, ["best", "v1", "a b"])])

    best = sender.client.get_model_version_by_alias("policy of a run", "best")

    assert best.run_id == run_id(sender)
    assert best.source == f"runs:/{run_id(sender)}/models/policy_of_a_run/step_2"
    assert json.loads(best.tags["metadata"]) == {"class": "PPO"}
    assert len(sender.client.search_model_versions(f"run_id = '{run_id(sender)}'")) == 2


def test_a_store_without_a_registry_keeps_the_rest(
    local: MLflowSender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Many servers have none, or let nobody write to it."""
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "nowhere://registry")
    local.handle_all([model(tmp_path, 1, ["best"]), metrics(tmp_path, {"loss": 0.5})])

    assert "the model registry refuses 'policy of a run'" in caplog.text
    assert local.history() == {"loss": [(7, 0.5)]}
    assert local.contents() == {"model": 1}


def test_images_are_in_the_grid_of_mlflows_page(local: MLflowSender, tmp_path: Path) -> None:
    """Its files are those of MLflow's own ``log_image``, but for what differs at each call."""
    frame = np.zeros((512, 300, 3), np.uint8)
    local.handle(metrics(tmp_path, {"eval/a frame": Image(frame, "HWC")}))
    local.client.log_image(run_id(local), frame, key="eval/a frame", step=7)

    def shape(name: str) -> str:
        return re.sub(r"timestamp\+\d+\+(image|[0-9a-f-]{36})", "timestamp+TIME+ID", name)

    files = [Path(file.path).name for file in local.client.list_artifacts(run_id(local), "images")]

    assert len(files) == 4
    assert len(set(map(shape, files))) == 2
    assert data(local).tags["mlflow.loggedImages"] == "True"


def test_a_table_is_read_by_mlflow_itself(local: MLflowSender, tmp_path: Path) -> None:
    """Its page shows as tables what the tag names, and compares them between runs by their path."""
    import mlflow

    table = Table(["episode", "return"], [(1, float("inf"))])
    local.handle(metrics(tmp_path, {"eval/results": table}, 1))
    table.add(2, float("nan"))
    local.handle(metrics(tmp_path, {"eval/results": table}, 2))
    mlflow.set_tracking_uri(local.address)
    try:
        read = local.client.load_table(
            local.run.info.experiment_id, "tables/eval/results/latest.json", [run_id(local)]
        )
    finally:
        mlflow.set_tracking_uri(None)

    assert read["episode"].tolist() == [1, 2]
    assert [str(cell) for cell in read["return"]] == ["inf", "nan"]
    assert json.loads(data(local).tags["mlflow.loggedArtifacts"]) == [
        {"path": "tables/eval/results/latest.json", "type": "table"}
    ]
    assert local.contents() == {"table": 2}


def test_parameters_have_no_limit_that_loses_any(opens: Opens, tmp_path: Path) -> None:
    """MLflow takes 100 at once, 6,000 characters each, and no other value later."""
    sender = opens()
    many = {"layers": {f"layer {n}": {"width": n} for n in range(230)}, "note": "x" * 9000, "a#b": 1}
    sender.handle(about(HYPERPARAMETERS, many))
    sender.handle(about(HYPERPARAMETERS, {"layers": {"layer 7": {"width": -7}}, "new": True}))

    found, (cleaned,) = data(sender), (name for name in data(sender).params if name.startswith("a_b-"))
    whole = yaml.safe_load(artifacts(sender, tmp_path / "found")["hyperparams.yaml"].read_text())

    assert len(found.params) == 233
    assert found.params["layers/layer 229/width"] == "229"
    assert found.params["note"] == "x" * 6000
    assert (found.params["layers/layer 7/width"], found.tags["changed layers/layer 7/width"]) == ("7", "-7")
    assert (found.params["new"], found.params[cleaned]) == ("True", "1")
    assert found.tags[f"key of {cleaned}"] == "a#b"
    many["layers"]["layer 7"]["width"] = -7  # type: ignore[index]
    assert whole == {**many, "new": True}


def test_a_parameter_that_is_refused_leaves_the_others(
    local: MLflowSender, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A store may allow less than ours does; here MLflow is told to refuse what is long."""
    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", "false")
    monkeypatch.setattr("rl_logging.formats.mlflow_facts._PARAM_LENGTH", 10_000)
    local.handle(about(HYPERPARAMETERS, {"a": 1, "long": "x" * 7000, "z": 2}))

    assert data(local).params == {"a": "1", "z": "2"}
    assert local.refused == {"long": 1}
    assert "x" * 7000 in artifacts(local, tmp_path / "found")["hyperparams.yaml"].read_text()


def test_a_long_tag_is_whole_as_a_file(local: MLflowSender, tmp_path: Path) -> None:
    """MLflow cuts it; and a tag that stands for something else there does that."""
    local.handle(about(TAGS, {"story": "x" * 6000, "mlflow.note.content": "**shown**"}))

    assert data(local).tags["story"] == "x" * 5000
    assert data(local).tags["mlflow.note.content"] == "**shown**"
    assert artifacts(local, tmp_path / "found")["tags/story.txt"].read_text() == "x" * 6000
    assert local.contents() == local.expected_contents(
        [about(TAGS, {"story": "", "mlflow.note.content": ""})]
    )


def test_a_folder_with_any_names_arrives_whole(opens: Opens, tmp_path: Path) -> None:
    """A server cuts a name at a number sign: one file would replace the other."""
    names = [
        "a#1.txt",
        "a#2.txt",
        "100%41.txt",
        "what?.txt",
        "deep/er/ünï côdé.txt",
        "plain.txt",
        "b+c=d.txt",
    ]
    for number, name in enumerate(names):
        file = tmp_path / "folder" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(number))
    kept = keep_artifact(tmp_path, tmp_path / "folder", "data", "dataset", 7, {}, [])
    sender = opens()
    sender.handle(about(ARTIFACT, {"data": kept}))

    found = artifacts(sender, tmp_path / "found")
    files = {name: path.read_text() for name, path in found.items() if "/step_7/" in name}

    assert sorted(files.values()) == list("0123456")
    assert files["artifacts/data/step_7/folder/deep/er/ünï côdé.txt"] == "4"
    assert sender.contents() == {"artifact": 1}


def test_what_the_user_deleted_is_counted_and_said(
    local: MLflowSender, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk is tidied while a tracker is down; what came with the files must arrive still."""
    values = {
        "clip": Video(clip(), 10),
        "actions": np.arange(200_000.0),
        "t": Table(["a"], [(1,)]),
        "loss": 1.0,
    }
    records = [metrics(tmp_path, values), model(tmp_path, 7, ["best"])]
    shutil.rmtree(tmp_path / "media")
    shutil.rmtree(tmp_path / "artifacts")
    local.handle_all(records)

    found = artifacts(local, tmp_path / "found")

    assert found["videos/clip/step_7_TIME.txt"].read_text() == "<video 12 frames>: media/clip/step_7.mp4"
    assert found.keys() == {
        f"{kind}/step_7_TIME.txt" for kind in ("histograms/actions", "tables/t", "videos/clip")
    }
    assert local.history() == {"loss": [(7, 1.0)]}
    assert local.refused == {"policy of a run": 1}
    assert "'artifacts/policy_of_a_run/step_7/policy.zip' is not in the run folder any more" in caplog.text
    assert not local.client.search_model_versions(f"run_id = '{run_id(local)}'")


def test_a_damaged_value_leaves_what_stands_beside_it(local: MLflowSender, tmp_path: Path) -> None:
    """A journal is text that anybody can write, and a disk may write anything."""
    record = metrics(tmp_path, {"actions": np.arange(200_000.0), "shot": Image(pixels(), "HWC"), "loss": 1.0})
    (tmp_path / "media/actions/step_7.npy").write_bytes(b"no numbers")
    values = {**record.values, "out": Media("image", "<image>", "../../etc/passwd", {}, tmp_path)}
    values |= {"wide": metrics(tmp_path, {"wide": Image(np.zeros((2, 2, 2)), "HWC")}).values["wide"]}
    local.handle(Record(7, record.time, values))

    found = artifacts(local, tmp_path / "found")

    assert local.history() == {"loss": [(7, 1.0)]}
    assert local.refused == {"actions": 1}
    assert np.load(found["images/wide+step+7+timestamp+TIME+image.npy"]).shape == (2, 2, 2)
    assert found["images/out+step+7+timestamp+TIME+image.txt"].read_text() == "<image>: ../../etc/passwd"
    assert local.contents() == {"image": 3, "histogram": 1}


def test_mlflows_page_says_where_a_run_comes_from(opens: Opens, tmp_path: Path) -> None:
    """Source, commit and user are columns of its list of runs."""
    (tmp_path / "provenance").mkdir()
    (tmp_path / "provenance/uncommitted.diff").write_text("+ a line")
    git = {"commit": "c0ffee", "branch": "main", "remote": "https://host/repo", "is_dirty": True}
    facts = {"script": "/home/me/train.py", "user": "me", "python": "3.11", "git": git}
    diff = Media("artifact", "", "provenance/uncommitted.diff", {}, tmp_path)
    sender = opens()
    sender.handle(about(PROVENANCE, {"provenance": facts, "uncommitted": diff}))

    tags = {
        name: text for name, text in data(sender).tags.items() if re.match(r"mlflow\.(source|user)", name)
    }
    found = artifacts(sender, tmp_path / "found")

    assert tags == {
        "mlflow.source.name": "/home/me/train.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "c0ffee",
        "mlflow.source.git.branch": "main",
        "mlflow.source.git.repoURL": "https://host/repo",
        "mlflow.source.git.dirty": "true",
        "mlflow.user": "me",
    }
    assert found["provenance/uncommitted.diff"].read_text() == "+ a line"
    assert json.loads(found["provenance/provenance.json"].read_text()) == facts


def test_numbers_of_many_records_are_still_one_request(mlflow_server: MLflowServer, tmp_path: Path) -> None:
    """A run is caught up with in few requests, also where its records hold other things."""
    sender = MLflowSender(tracking_uri=mlflow_server.url, experiment_name="values")
    records = [
        metrics(tmp_path, {f"k{n}": n for n in range(9)} | {"actions": np.arange(9)}, s) for s in range(50)
    ]
    before = mlflow_server.answered("runs/log-batch")
    sender.handle_all(records)

    sender.close()

    assert mlflow_server.answered("runs/log-batch") == before + 1
    assert sender.history() == sender.expected(records)


names = st.text(max_size=40) | st.sampled_from(
    ["..", "/", "a/../b", "漢" * 240, "a#b", "%41", "a" * 400, "c:/d"]
)
leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20)
cells = leaves | st.just("x" * 7000)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names,
    leaves | st.lists(st.floats(), max_size=4).map(np.array),
    st.lists(st.tuples(cells), max_size=3),
    st.dictionaries(names, cells | st.dictionaries(names, cells, max_size=3), max_size=3),
)
def test_no_name_or_value_keeps_a_number_out(
    local_store: Path, tmp_path: Path, name: str, value: Any, rows: list[Any], params: dict[str, Any]
) -> None:
    """Whatever stands beside it, and whatever that is called."""
    sender = MLflowSender(folder=local_store)
    kept = keep_artifact(tmp_path, os.devnull, name[:60], "artifact", 7, {}, [name])
    records = [
        metrics(tmp_path, {name: value, f"{name}!": Table([name], rows), "the number": 0.5}),
        about(HYPERPARAMETERS, metrics(tmp_path, {"all": params}).values["all"]),
        about(TAGS, {str(key): str(item) for key, item in params.items()}),
        about(ARTIFACT, {name: kept}),
    ]
    sender.handle_all(records)
    sender.close()

    assert sender.history()["the number"] == [(7, 0.5)]
    assert sender.contents()["table"] == 1
