"""The Logger's own methods: one call, one record, nothing raised."""

import hashlib
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from awkward import Hostile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure as Drawing
from stable_baselines3 import PPO

from rl_logging import Histogram, Logger, Table, configure
from rl_logging.journal import read
from rl_logging.readers import read_records
from rl_logging.record import Record

PLANTED = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[Logger]:
    with configure(tmp_path / "run", []) as made:
        yield made


def records(logger: Logger, kind: str = "metrics") -> list[Record]:
    journal = Path(str(logger.dir)) / "journal.jsonl"
    return [record for record in read(journal) if record.kind == kind]


def last(logger: Logger, kind: str = "metrics") -> Record:
    return records(logger, kind)[-1]


# Values


def test_metrics_are_logged_at_once_and_beside_the_buffer(logger: Logger) -> None:
    """An evaluation between two dumps must not take the half-made row with it."""
    logger.record("train/loss", 0.5)
    logger.log_metrics({"reward": 1.0, "nested": {"a": 2, "b": {"c": 3}}, "empty": {}}, 7, prefix="eval")
    logger.dump(9)

    assert [(record.step, dict(record.values)) for record in records(logger)] == [
        (7, {"eval/reward": 1.0, "eval/nested/a": 2, "eval/nested/b/c": 3, "eval/empty": {}}),
        (9, {"train/loss": 0.5}),
    ]


def test_late_values_are_kept(logger: Logger) -> None:
    """W&B drops what comes for a step that is over; the journal does not."""
    for step in (5, 3, 5):
        logger.log_metrics({"a": step}, step)

    assert [(record.step, record.values["a"]) for record in records(logger)] == [(5, 5), (3, 3), (5, 5)]


def test_metrics_may_name_their_axis(logger: Logger) -> None:
    """GPU samples come at their own pace."""
    logger.log_metrics({"step": 40, "util": 0.5, "ray_step": 41}, 3, prefix="ray", step_metric="ray_step")

    record = last(logger)
    assert (record.axis, record.step) == ("ray_step", 41)
    assert dict(record.values) == {"ray/step": 40, "ray/util": 0.5, "ray_step": 41}


def test_a_mapping_that_holds_itself_ends(logger: Logger) -> None:
    """Configurations do, by accident."""
    metrics: dict[str, Any] = {"a": 1}
    metrics["self"] = metrics

    logger.log_metrics(metrics, 1)

    assert last(logger).values["a"] == 1


def test_each_kind_has_a_method(logger: Logger) -> None:
    """People look for ``log_`` and find all that there is."""
    table = Table(["a"])
    table.add(1)
    logger.log_text("t", "hello", 1)
    logger.log_image("i", np.zeros((4, 4), np.uint8), 2, dataformats="HW")
    logger.log_video("v", np.zeros((2, 3, 4, 4), np.uint8), 3, fps=5)
    logger.log_figure("f", Drawing(), 4)
    logger.log_histogram("h", torch.arange(5), 5)
    logger.log_histogram("h2", Histogram(counts=[1], edges=[0, 1]), 6)
    logger.log_table("p", pd.DataFrame({"a": [1]}), 7)
    logger.log_table("p2", table, 8)

    found = [(record.step, *record.values.items()) for record in records(logger)]
    kinds = [getattr(value, "kind", type(value).__name__) for _, (_, value) in found]
    assert kinds == ["str", "image", "video", "figure", "ndarray", "histogram", "table", "table"]
    assert [step for step, _ in found] == list(range(1, 9))


class Drawn(Drawing):
    """A figure that counts how often it is drawn."""

    times = 0

    def draw(self, renderer: Any) -> None:
        self.times += 1
        super().draw(renderer)


def test_a_figure_is_drawn_once_for_all_outputs(tmp_path: Path) -> None:
    """Drawing takes tens of milliseconds of training."""
    figure = Drawn()
    with configure(tmp_path, ["log", "csv", "json", "tensorboard", "mlflow"], delivery="inline") as logger:
        logger.log_figure("f", figure, 1)

    assert figure.times == 1


def test_without_a_step_it_is_the_last_one(logger: Logger) -> None:
    """An event belongs to where training is."""
    logger.record("a", 1)
    logger.dump(12)
    logger.log_text("note", "learning rate was halved")

    assert last(logger).step == 12


# About the run


@dataclass
class Optimiser:
    lr: float = 1e-3
    api_key: str = PLANTED


def test_hyperparameters_are_in_the_journal_and_in_a_file(
    logger: Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever comes back to a run wants to know what it was, without any tracker."""
    logger.log_hyperparams({"optimiser": Optimiser(), "gamma": np.float32(0.5)})
    logger.log_hyperparams({"optimiser": {"lr": 2e-3}})

    kept = yaml.safe_load((Path(str(logger.dir)) / "hyperparams.yaml").read_text())
    assert kept == {"optimiser": {"lr": 2e-3, "api_key": "<hidden>"}, "gamma": 0.5}
    assert records(logger, "hyperparameters")[0].values["optimiser"]["lr"] == 1e-3
    assert PLANTED not in caplog.text
    assert "api_key" in caplog.text


def test_a_file_that_somebody_has_broken_loses_nothing(
    logger: Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """People edit it; what is in it must not be overwritten, nor stop training."""
    broken = Path(str(logger.dir)) / "hyperparams.yaml"
    broken.write_text("a: [")

    logger.log_hyperparams({"lr": 0.1})

    assert broken.read_text() == "a: ["
    assert "hyperparams.yaml is not written" in caplog.text
    assert dict(last(logger, "hyperparameters").values) == {"lr": 0.1}


def test_names_of_the_user_s_own_are_secrets_too(tmp_path: Path) -> None:
    """Every house has words that we do not know."""
    with configure(tmp_path, [], secret_names=["badge"]) as logger:
        logger.log_hyperparams({"badge": "four words"})
        logger.log_tags({"badge": "four words"})
        logger.record("badge", "four words")
        logger.dump(1)

    assert "four words" not in (tmp_path / "journal.jsonl").read_text()


def test_a_key_in_a_text_or_a_message_is_hidden(logger: Logger) -> None:
    """A model may say what it read in its prompt."""
    logger.record("sample", f"the key is {PLANTED}")
    logger.dump(1)
    logger.log_text("late", PLANTED)
    logger.info("using", PLANTED)
    logger.log_table("rows", {"a": [PLANTED]}, 1)

    for path in Path(str(logger.dir)).rglob("*"):
        assert path.is_dir() or PLANTED.encode() not in path.read_bytes()


def test_tags_are_texts_by_name(logger: Logger) -> None:
    """They are what runs are found by."""
    logger.log_tags({"team": "blue", "try": 3})

    assert dict(last(logger, "tags").values) == {"team": "blue", "try": "3"}


def test_an_artifact_is_copied_before_its_owner_goes_on(logger: Logger, tmp_path: Path) -> None:
    """A checkpoint's file is written again, or removed, a moment later."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"one")
    kept = logger.log_artifact(path, type="dataset", step=3, metadata={"rows": 2}, aliases=["best"])
    path.write_bytes(b"two")

    (media,) = last(logger, "artifact").values.values()
    assert kept == media.path == Path(str(logger.dir)) / "artifacts/model/step_3/model.bin"
    assert kept.read_bytes() == b"one"
    assert media.about == {
        "type": "dataset",
        "size": 3,
        "sha256": hashlib.sha256(b"one").hexdigest(),
        "metadata": {"rows": 2},
        "aliases": ["best"],
    }


def test_a_folder_is_an_artifact(logger: Logger, tmp_path: Path) -> None:
    """Datasets and sharded checkpoints are folders."""
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "a.txt").write_text("x" * 10)
    os.symlink("nowhere", tmp_path / "data" / "broken")

    kept = logger.log_artifact(tmp_path / "data", name="my data")

    assert kept is not None
    assert (kept / "deep" / "a.txt").read_text() == "x" * 10
    assert last(logger, "artifact").values["my data"].about["size"] == 10


def test_a_run_folder_can_keep_itself(logger: Logger) -> None:
    """Without its artifacts, or it would never end."""
    first = logger.log_artifact(str(logger.dir), name="all")
    second = logger.log_artifact(str(logger.dir), name="all")

    assert first is not None
    assert second is not None
    assert {path.name for path in second.iterdir()} >= {"journal.jsonl"}
    assert not (second / "artifacts").exists()


@pytest.mark.parametrize(
    ("model", "name", "load_by"),
    [
        (torch.nn.Linear(2, 1), "agent.pt", "torch.load, a state_dict"),
        ({"w": torch.ones(2)}, "agent.pt", "torch.load"),
        ({"type": "ppo"}, "agent.pkl", "pickle.load"),
    ],
    ids=["module", "tensors", "object"],
)
def test_any_agent_can_be_saved(logger: Logger, model: Any, name: str, load_by: str) -> None:
    """The metadata says how it is read back."""
    path = logger.save_agent(model, step=5)

    assert path == Path(str(logger.dir)) / "artifacts/agent/step_5" / name
    media = last(logger, "artifact").values["agent"]
    assert (media.about["type"], media.about["metadata"]["load_by"]) == ("agent", load_by)


def test_an_sb3_model_is_saved_by_its_own_method(logger: Logger) -> None:
    """So that ``PPO.load`` reads it."""
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8)

    agent = logger.save_agent(model)
    policy = logger.save_policy(model.policy, metadata={"env": "CartPole-v1"}, aliases=["best"])

    assert PPO.load(str(agent)).n_steps == 8
    assert type(model.policy).load(str(policy)).observation_space == model.observation_space
    media = last(logger, "artifact").values["policy"]
    assert (media.about["type"], media.about["aliases"]) == ("model", ["best"])
    assert media.about["metadata"]["env"] == "CartPole-v1"


def test_an_object_is_read_back_by_pickle(logger: Logger) -> None:
    """What the metadata says holds."""
    path = logger.save_agent({"type": "ppo", "notes": "demo"})

    assert path is not None
    assert pickle.loads(path.read_bytes()) == {"type": "ppo", "notes": "demo"}


def test_the_console_says_what_was_kept(tmp_path: Path) -> None:
    """Whoever looks at ``train.log`` finds what is not in it."""
    with configure(tmp_path, ["log"]) as logger:
        logger.log_hyperparams({"lr": 0.1, "net": {"width": 8}})
        logger.save_agent({"a": 1}, step=7)
        logger.save_agent({"a": 1}, "last", step=8)

    text = (tmp_path / "train.log").read_text()
    assert "INFO  hyperparameters (hyperparams.yaml): lr, net\n" in text
    assert "INFO  agent: artifacts/agent/step_7/agent.pkl\n" in text
    assert "INFO  last (agent): artifacts/last/step_8/last.pkl\n" in text


def test_what_produces_a_run_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two years later nobody knows which commit it was."""
    monkeypatch.delenv("RL_LOGGING_PROVENANCE")
    with configure(tmp_path / "on", []):
        pass
    with configure(tmp_path / "off", [], provenance=False):
        pass

    (record,) = (r for r in read(tmp_path / "on" / "journal.jsonl") if r.kind == "provenance")
    assert {"command", "python", "host", "packages"} <= record.values["provenance"].keys()
    assert "numpy==" in record.values["packages"].path.read_text()
    assert not (tmp_path / "off" / "provenance").exists()


def test_a_wrong_choice_of_provenance_is_refused(tmp_path: Path) -> None:
    """It may have been meant to keep the code."""
    with pytest.raises(ValueError, match="provenance is True, False or 'code', not 'all'"):
        configure(tmp_path, [], provenance="all")


def test_a_run_goes_on_from_the_training_step(tmp_path: Path) -> None:
    """Not from another axis, whose values are larger or smaller."""
    with configure(tmp_path, []) as logger:
        logger.define_metric("ray/*", "ray/step")
        logger.record("loss", 1.0)
        logger.record("ray/step", 9000)
        logger.dump(5)
    with configure(tmp_path, []) as logger:
        resumed_from = logger.resumed_from
        logger.log_metrics({"loss": 2.0}, 3)

    kept = [(r.axis, r.step) for r in read_records(tmp_path) if r.kind == "metrics"]
    assert (resumed_from, kept) == (5, [("ray/step", 9000), ("", 3)])


# Bad input


@pytest.mark.parametrize(
    "call",
    [
        lambda logger: logger.log_artifact("missing.bin"),
        lambda logger: logger.log_artifact(Hostile()),
        lambda logger: logger.log_metrics([1, 2], 3),
        lambda logger: logger.log_histogram("h", None, 1),
        lambda logger: logger.log_histogram("h", [1.0], 1, bins=-3),
        lambda logger: logger.log_table("t", 5, 1),
        lambda logger: logger.log_tags(["a"]),
        lambda logger: logger.save_agent(lambda: 1),
    ],
    ids=range(8),
)
def test_a_bad_call_is_told_and_stops_nothing(
    logger: Logger, call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It may stand in the last line of a week's training."""
    call(logger)
    logger.log_metrics({"a": 1}, 1)

    assert "is not logged" in caplog.text
    assert dict(last(logger).values) == {"a": 1}


HOSTILE = st.recursive(
    st.none() | st.text() | st.floats() | st.integers() | st.builds(Hostile) | st.just(np.zeros(3)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


@given(name=st.text() | st.integers() | st.none(), value=HOSTILE, step=HOSTILE)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_nothing_raises(logger: Logger, name: Any, value: Any, step: Any) -> None:
    """Whatever a run of its own makes of names, values and steps."""
    for method in (logger.log_text, logger.log_image, logger.log_video, logger.log_figure):
        method(name, value, step)
    logger.log_histogram(name, value, step)
    logger.log_table(name, value, step)
    logger.log_metrics({name: value}, step)
    logger.log_hyperparams({name: value})
    logger.log_tags({name: value})
    logger.save_agent(value, step=step)


def test_what_cannot_be_saved_leaves_nothing(logger: Logger) -> None:
    """An empty file would be taken for a policy."""
    assert logger.save_policy(lambda: 1, step=4) is None

    assert [
        path for path in Path(str(logger.dir)).rglob("*") if "policy" in path.name and path.is_file()
    ] == []


def test_the_message_names_the_caller_s_line(logger: Logger, caplog: pytest.LogCaptureFixture) -> None:
    """A run logs in many places."""
    logger.log_video("v", np.zeros((2, 3, 4, 4), np.uint8), 3, fps="fast")  # type: ignore[arg-type]

    assert "a video's fps is a number above 0, not 'fast' (test_direct.py:" in caplog.text
    assert last(logger).values["v"].text == "<video not kept>"


def test_health_and_close_say_what_was_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What went missing is not to be looked for."""
    with configure(tmp_path, ["tensorboard"]) as logger:
        logger.log_image("bad", np.zeros((3, 2, 2), np.uint8), 7)
        logger.flush(120)
        health = logger.health()["media"]

    assert (health.refused, "'bad' at step 7" in health.last_error) == (1, True)
    assert "media refused 1 values, the last 'bad' at step 7" in caplog.text


def test_after_close_nothing_is_written(tmp_path: Path) -> None:
    """An exit hook may still log."""
    logger = configure(tmp_path, [])
    logger.log_metrics({"a": 1}, 1)
    logger.close()
    logger.log_metrics({"a": 2}, 2)
    logger.log_tags({"a": "b"})

    assert [record.kind for record in read(tmp_path / "journal.jsonl")] == ["metrics", "lifecycle"]


def test_the_step_of_metrics_counts(tmp_path: Path) -> None:
    """Who never calls ``dump`` has a step too; a late value does not turn it back."""
    with configure(tmp_path, ["csv"]) as logger:
        logger.log_metrics({"x": 1}, step=100)
        logger.log_metrics({"late": 1}, step=50)
        logger.log_text("note", "four words")
    with configure(tmp_path, ["csv"]) as resumed:
        assert resumed.resumed_from == 100

    (note,) = [record for record in read(tmp_path / "journal.jsonl") if "note" in record.values]
    assert note.step == 100


def test_different_errors_under_one_name_are_each_said(
    logger: Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """The second mistake is another one than the first."""
    logger.log_samples(["a"], [1.0, 2.0], 1)
    logger.log_samples(["a"], ["text"], 1)
    logger.log_samples(["a"], [1.0, 2.0], 2)

    told = [message for message in caplog.messages if "log_samples" in message]
    assert len(told) == 2


def test_after_close_no_hyperparameters_are_written(tmp_path: Path) -> None:
    """Nothing is written then."""
    logger = configure(tmp_path / "run", [])
    logger.close()
    logger.log_hyperparams({"late": 1})

    assert not (tmp_path / "run" / "hyperparams.yaml").exists()


def test_a_logger_that_takes_over_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A cell that runs again means it; two loggers by mistake do not."""
    first = configure(tmp_path, [])
    with configure(tmp_path, []):
        first.log_metrics({"x": 1}, 1)

    assert f"another logger wrote {tmp_path} until now: it is closed" in caplog.text
