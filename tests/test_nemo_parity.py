"""NeMo-RL's calls arrive in each tracker under the keys, values and steps of NeMo-RL's own loggers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from rl_logging.compat.nemo_rl import Logger
from rl_logging.formats.wandb_contents import config as wandb_config

TRACKERS = ("wandb", "swanlab", "tensorboard", "mlflow", "clearml")
NEMO = TRACKERS[:4]
NESTED = {"acc": 0.5, "by_task": {"math": 0.25, "code": {"py": 0.75}}}
# What is called, and what each tracker then has: keys with their points. ClearML, which NeMo-RL has not,
# names keys without a slash "metrics/…", and else has what SwanLab has.
CALLS: dict[str, tuple[list[dict[str, Any]], dict[str, dict[str, list[tuple[int, float]]]]]] = {
    "plain": (
        [{"metrics": {"loss": 0.125, "tokens": 7, "ok": True}, "step": 10}],
        {"all": {"loss": [(10, 0.125)], "tokens": [(10, 7.0)], "ok": [(10, 1.0)]}},
    ),
    "prefix": (
        [{"metrics": {"loss": 0.5, "lr/policy": 0.25}, "step": 1, "prefix": "train"}],
        {"all": {"train/loss": [(1, 0.5)], "train/lr/policy": [(1, 0.25)]}},
    ),
    "no prefix": (
        [{"metrics": {"bare": 0.5}, "step": 1, "prefix": None}],
        {"all": {"bare": [(1, 0.5)]}},
    ),
    "numpy and torch": (
        [
            {
                "metrics": {
                    "f32": np.float32(0.5),
                    "i64": np.int64(3),
                    "bool": np.bool_(True),
                    "zero_d": np.array(0.25),
                    "one": np.array([1.5]),
                    "tensor": torch.tensor(2.5, requires_grad=True),
                    "bf16": torch.tensor([3.5], dtype=torch.bfloat16),
                },
                "step": 4,
                "prefix": "x",
            }
        ],
        {
            "all": {
                "x/f32": [(4, 0.5)],
                "x/i64": [(4, 3.0)],
                "x/bool": [(4, 1.0)],
                "x/zero_d": [(4, 0.25)],
                "x/one": [(4, 1.5)],
                "x/tensor": [(4, 2.5)],
                "x/bf16": [(4, 3.5)],
            }
        },
    ),
    "nested": (
        [{"metrics": NESTED, "step": 3, "prefix": "val"}],
        {
            "all": {
                "val/acc": [(3, 0.5)],
                "val/by_task/math": [(3, 0.25)],
                "val/by_task/code/py": [(3, 0.75)],
            },
            "wandb": {
                "val/acc": [(3, 0.5)],
                "val/by_task.math": [(3, 0.25)],
                "val/by_task.code.py": [(3, 0.75)],
            },
        },
    ),
    "step metric that is the step": (
        [
            {
                "metrics": {"util": 0.5, "r/step": 8},
                "step": 8,
                "prefix": "ray",
                "step_metric": "r/step",
            }
        ],
        {
            "all": {"ray/util": [(8, 0.5)], "r/step": [(8, 8.0)]},
            "tensorboard": {"ray/util": [(8, 0.5)], "ray/r/step": [(8, 8.0)]},
            "mlflow": {"ray/util": [(8, 0.5)], "ray/r/step": [(8, 8.0)]},
        },
    ),
    "step metric that is not the step": (
        [{"metrics": {"power": 0.5, "clock": 30}, "step": 8, "prefix": "ray", "step_metric": "clock"}],
        {
            "all": {"ray/power": [(8, 0.5)], "clock": [(8, 30.0)]},
            "wandb": {"ray/power": [(30, 0.5)], "clock": [(30, 30.0)]},
            "tensorboard": {"ray/power": [(8, 0.5)], "ray/clock": [(8, 30.0)]},
            "mlflow": {"ray/power": [(8, 0.5)], "ray/clock": [(8, 30.0)]},
        },
    ),
    "step metric that is not there": (
        [{"metrics": {"lone": 0.5}, "step": 8, "step_metric": "clock"}],
        {"all": {"lone": [(8, 0.5)]}},
    ),
    "several calls at one step": (
        [
            {"metrics": {"first": 0.5}, "step": 2, "prefix": "train"},
            {"metrics": {"total": 9.0}, "step": 2, "prefix": "timing/train", "step_finished": True},
        ],
        {"all": {"train/first": [(2, 0.5)], "timing/train/total": [(2, 9.0)]}},
    ),
    "a step below the last": (
        [{"metrics": {"late": 0.5}, "step": 5}, {"metrics": {"late": 0.25}, "step": 4}],
        {"all": {"late": [(5, 0.5), (4, 0.25)]}},
    ),
    "names that meet": (
        [{"metrics": {"a/b": 1.0, "a": {"b": 2.0}}, "step": 1}],
        {"all": {"a/b": [(1, 1.0)], "a/b_": [(1, 2.0)]}, "wandb": {"a/b": [(1, 1.0)], "a.b_": [(1, 2.0)]}},
    ),
}


def logged(folder: Path, monkeypatch: pytest.MonkeyPatch, *trackers: str) -> Logger:
    """A logger with some trackers, whose local parts are in the folder."""
    monkeypatch.chdir(folder)
    switches = {f"{name}_enabled": True for name in trackers}
    return Logger({"log_dir": str(folder / "logs"), **switches, **{name: {} for name in trackers}})


def histories(logger: Logger) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """What each tracker has, by its own reader."""
    return {output.name: output.history() for output in logger.core.output_formats}


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, dict[str, list[tuple[int, float]]]]]:
    """What each tracker has when all calls are done, in one run."""
    with pytest.MonkeyPatch.context() as patch:
        with logged(tmp_path_factory.mktemp("parity"), patch, *NEMO) as logger:
            for calls, _ in CALLS.values():
                for call in calls:
                    logger.log_metrics(**call)
        yield histories(logger)


@pytest.mark.parametrize("tracker", NEMO)
@pytest.mark.parametrize("name", CALLS)
def test_keys_values_and_steps(
    name: str, tracker: str, found: dict[str, dict[str, list[tuple[int, float]]]]
) -> None:
    """Dashboards go on where they were."""
    expected = CALLS[name][1].get(tracker, CALLS[name][1]["all"])

    assert {key: found[tracker].get(key) for key in expected} == expected


def test_there_is_nothing_else(found: dict[str, dict[str, list[tuple[int, float]]]]) -> None:
    """No key of one tracker's way of naming is in another."""
    expected = {
        tracker: {key for _, by in CALLS.values() for key in by.get(tracker, by["all"])} for tracker in NEMO
    }

    assert {tracker: set(history) for tracker, history in found.items()} == expected


def test_clearml_has_what_the_others_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NeMo-RL has no logger for it."""
    with logged(tmp_path, monkeypatch, "clearml") as logger:
        logger.log_metrics({"loss": 0.5, "by": {"task": 1}}, step=3, prefix="val")
        logger.log_metrics({"lone": 2}, step=4)

    assert histories(logger)["clearml"] == {
        "val/loss": [(3, 0.5)],
        "val/by/task": [(3, 1.0)],
        "metrics/lone": [(4, 2.0)],
    }


def test_lists_figures_texts_and_histograms_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NeMo-RL's own loggers refuse or lose them in most trackers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([1, 2])
    with logged(tmp_path, monkeypatch, *TRACKERS) as logger:
        logger.log_metrics({"lengths": [1, 2, 3, 4], "note": "four words"}, step=1, prefix="train")
        logger.log_histogram([0.0, 0.5, 1.0], 1, "rewards")
        logger.log_histogram([1.0, 1.0], 1, "equal")
        logger.log_plot(figure, 1, "train/plot")

    found = {output.name: output.contents() for output in logger.core.output_formats}
    assert found == {name: {"histogram": 3, "text": 1, "figure": 1} for name in TRACKERS}
    assert histories(logger)["mlflow"]["train/lengths/mean"] == [(1, 2.5)]


def test_hyperparameters_have_nemo_rls_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``params."policy.lr" < 0.1`` finds old and new runs in MLflow; W&B's are nested."""
    params = {"seed": 3, "policy": {"lr": 0.25, "optimizer": {"name": "adam"}}}
    with logged(tmp_path, monkeypatch, "mlflow", "wandb", "tensorboard") as logger:
        logger.log_hyperparams(params)

    outputs = {output.name: output for output in logger.core.output_formats}
    run = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(outputs["mlflow"].located["run_id"])
    assert run.data.params == {"seed": "3", "policy.lr": "0.25", "policy.optimizer.name": "adam"}
    config = wandb_config(outputs["wandb"].located)
    assert {name: config[name] for name in params} == params
    assert outputs["tensorboard"].contents() == {"hyperparameter": 3}
