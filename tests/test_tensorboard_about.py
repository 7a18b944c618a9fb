"""What TensorBoard shows about a run: its hyperparameters, tags and files, and all of it once."""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from stable_baselines3.common.logger import HParam, Video
from tensorboard_folder import KINDS, about, deliver, events, metrics, text
from waiting import wait_until

from rl_logging.artifacts import keep_artifact
from rl_logging.contents import count
from rl_logging.formats.tensorboard import TensorBoardSender
from rl_logging.record import ARTIFACT, HYPERPARAMETERS, PROVENANCE, TAGS, Record
from rl_logging.rich import Media


@contextmanager
def server(folder: Path, *options: str) -> Iterator[Any]:
    """TensorBoard itself on a folder; gives a function that asks one of its pages."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--port", str(port), *options]

    def ask(page: str, **question: Any) -> Any:
        data = json.dumps(question).encode() if question else None
        address = f"http://127.0.0.1:{port}/data/{page}"
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def is_ready() -> bool:
        try:
            return bool(ask("runs"))
        except OSError:
            return False

    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(is_ready, 30)
            yield ask
        finally:
            process.kill()


def test_the_page_of_hyperparameters_shows_all_of_them(tmp_path: Path) -> None:
    """TensorBoard goes by the first that it reads; later ones must be there, and no run beside ours."""
    first = {"lr": 0.1, "net": {"arch": [64, 64], "bias": True}, "nan": float("nan"), "big": 2**70}
    later = {"lr": 0.2, "none": None, "text": "x" * 600}
    records = [about(HYPERPARAMETERS, first), metrics(tmp_path, {"loss": 0.5}), about(HYPERPARAMETERS, later)]
    deliver(tmp_path, *records)

    with server(tmp_path) as ask:
        question = {"allowedStatuses": ["STATUS_SUCCESS"], "colParams": [], "startIndex": 0, "sliceSize": 9}
        (shown,) = ask("plugin/hparams/session_groups", **question)["sessionGroups"]
        runs = ask("runs")

    assert runs == ["tb"]
    assert shown["hparams"] == {
        "lr": 0.2,
        "net/arch": "[64, 64]",
        "net/bias": True,
        "nan": "nan",
        "big": str(2**70),
        "none": "None",
        "text": "x" * 500 + " …",
    }
    assert [(value["name"]["tag"], value["value"]) for value in shown["metricValues"]] == [("loss", 0.5)]


def test_hyperparameters_are_there_whole_as_text(tmp_path: Path) -> None:
    """What the page cuts is not lost."""
    nested = {"note": "x" * 600, "net": {"arch": [64, 64]}, "unicode": "größe\n# no heading"}

    deliver(tmp_path, about(HYPERPARAMETERS, nested))

    assert yaml.safe_load(text(tmp_path, "hyperparameters")) == nested


def test_sb3s_hparam_is_what_sb3_writes(tmp_path: Path) -> None:
    """Its metrics name the columns of the page; their numbers are those of the run."""
    from tensorboard.plugins.hparams.metadata import parse_experiment_plugin_data as experiment_of
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data as values_of
    from torch.utils.tensorboard.summary import hparams

    given = {"lr": 0.1, "algo": "PPO", "n": 3}, {"rollout/ep_rew_mean": 0.0, "train/loss": 0.0}
    theirs = {value.tag: value.metadata for summary in hparams(*given) for value in summary.value}

    deliver(tmp_path, metrics(tmp_path, {"hparams": HParam(*given)}))
    ours = events(tmp_path).summary_metadata
    contents = [{tag: about.plugin_data.content for tag, about in each.items()} for each in (ours, theirs)]
    experiments = [experiment_of(each["_hparams_/experiment"]) for each in contents]
    values = [values_of(each["_hparams_/session_start_info"]) for each in contents]

    assert experiments[0].metric_infos == experiments[1].metric_infos
    assert {i.name: i.type for i in experiments[0].hparam_infos} == {
        i.name: i.type for i in experiments[1].hparam_infos
    }
    assert dict(values[0].hparams) == dict(values[1].hparams)


def test_hyperparameters_of_an_earlier_process_stay(tmp_path: Path) -> None:
    """A run that is resumed tells what is new; what was told before belongs to it still."""
    deliver(tmp_path, about(HYPERPARAMETERS, {"lr": 0.1, "seed": 1}))

    sender = deliver(tmp_path, about(HYPERPARAMETERS, {"lr": 0.2, "epochs": 3}))

    assert sender.contents() == {"hyperparameter": 3}


def test_a_torn_page_of_hyperparameters_is_written_anew(tmp_path: Path) -> None:
    """A machine that lost its power may leave half a file, which must not stop the delivery."""
    deliver(tmp_path, about(HYPERPARAMETERS, {"lr": 0.1}))
    (page,) = (tmp_path / "tb").glob("*.hyperparameters.*")
    page.write_bytes(page.read_bytes()[:-20])

    sender = deliver(tmp_path, about(HYPERPARAMETERS, {"seed": 1}))

    assert sender.contents() == {"hyperparameter": 1}


# What TensorBoard has no place for


def artifact(folder: Path, type_: str) -> Record:
    source = folder / "policy.zip"
    source.write_bytes(b"weights")
    kept = keep_artifact(folder, source, "policy", type_, 1, {"return": 21.5}, ["best"])
    return about(ARTIFACT, {"policy": kept})


def test_a_model_is_a_text_that_says_where_it_is(tmp_path: Path) -> None:
    """TensorBoard keeps no files, but whoever reads it learns which model belongs to the run."""
    deliver(tmp_path, artifact(tmp_path, "model"))

    assert yaml.safe_load(text(tmp_path, "artifacts/policy")) == {
        "name": "policy",
        "file": "artifacts/policy/step_1/policy.zip",
        "type": "model",
        "size": 7,
        "sha256": sha256(b"weights").hexdigest(),
        "metadata": {"return": 21.5},
        "aliases": ["best"],
    }


def test_an_artifact_that_was_deleted_is_counted(tmp_path: Path) -> None:
    """A text must not send anybody to a file that is gone."""
    record = artifact(tmp_path, "dataset")
    record.values["policy"].path.unlink()

    sender = deliver(tmp_path, record, metrics(tmp_path, {"a": 1}))

    assert (sender.refused, sender.contents()) == ({"policy": 1}, {})
    assert sender.history() == {"a": [(1, 1.0)]}


def test_tags_and_provenance_are_texts(tmp_path: Path) -> None:
    """They say what a run is, and which code made it."""
    git = {"commit": "abc", "is_dirty": True}
    diff = Media("artifact", "<diff>", "provenance/uncommitted.diff", {}, tmp_path)
    told = {"provenance": {"command": "train.py --lr 1", "git": git}, "uncommitted": diff}

    deliver(tmp_path, about(TAGS, {"team": "*blue*"}), about(PROVENANCE, told))

    assert text(tmp_path, "tags/team") == "    *blue*"
    assert yaml.safe_load(text(tmp_path, "provenance")) == {**told, "uncommitted": diff.file}


# All of it


def of_each_kind(folder: Path) -> list[Record]:
    frames = np.zeros((1, 2, 3, 8, 8), np.uint8)
    return [
        about(HYPERPARAMETERS, {"lr": 0.1, "net": {"size": 64}}),
        about(TAGS, {"team": "blue", "purpose": "test"}),
        metrics(folder, {**KINDS, "video": Video(frames, 10), "hparams": HParam({"x": 1}, {"number": 0.0})}),
        artifact(folder, "model"),
        artifact(folder, "dataset"),
        about(TAGS, {"team": "red"}),
        metrics(folder, KINDS, 2),
    ]


def test_counts_what_arrived(tmp_path: Path) -> None:
    """Whoever compares a tracker with the journal must be able to trust the figures."""
    records = of_each_kind(tmp_path)

    sender = deliver(tmp_path, *records)

    assert sender.contents() == sender.expected_contents(records)


@pytest.mark.parametrize("acknowledged", [0, 3, 5])
def test_what_is_delivered_again_is_shown_once(tmp_path: Path, acknowledged: int) -> None:
    """A process that is killed before it could say how far it came leaves what its follower writes again."""
    records = of_each_kind(tmp_path)
    killed = TensorBoardSender(tmp_path / "tb")
    reference = {}
    for number, record in enumerate(records):
        if number == acknowledged:
            killed.run  # noqa: B018
            reference = killed.reference()
        killed.handle(record)

    sender = TensorBoardSender(tmp_path / "tb")
    sender.resume(reference)
    for record in records[acknowledged:]:
        sender.handle(record)
    sender.close()
    killed.close()

    assert sender.contents() == count(records)
    assert sender.history() == sender.expected(records)


def test_all_again_from_the_start_is_shown_once(tmp_path: Path) -> None:
    """``rl-logging sync --from-start`` puts a folder right that somebody has damaged."""
    records = of_each_kind(tmp_path)
    first = deliver(tmp_path, *records)

    sender = TensorBoardSender(tmp_path / "tb")
    sender.resume(first.reference())
    sender.start_over()
    for record in records:
        sender.handle(record)
    sender.close()

    assert sender.contents() == count(records)
    assert sender.history() == sender.expected(records)
