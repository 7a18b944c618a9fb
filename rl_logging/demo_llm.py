"""``rl-logging demo --llm``: a small recorded run of GRPO, through NeMo-RL's calls into every tracker.

The recording is made by ``scripts/record_grpo.py``, which says what stands in it.
"""

import importlib.resources
import json
import threading
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from rl_logging.compat.nemo_rl import Logger
from rl_logging.demo import run_folder
from rl_logging.demo_ray import started_ray
from rl_logging.demo_report import report
from rl_logging.formats import TRACKERS, check_installed, check_names
from rl_logging.formats.base import Sender
from rl_logging.llm_plots import reward_figure

_RECORDING = "grpo_run.jsonl"
_PACE_S = 0.25  # a step, so that there is something to be seen, and the GPUs are sampled in between
_SHOWN = 2  # samples at each validation
_PATIENCE_S = 120.0  # for what the trackers lack at the end
_CURVES = {
    "train/reward": "training (mean reward)",
    "validation/accuracy": "validation (accuracy)",
}


def plan(outputs: str, folder: str | None) -> tuple[tuple[str, ...], Path]:
    """Check the options of the command.

    :return: the trackers, and the run folder
    :raises ValueError: an option that is not allowed; the message says what is
    :raises MissingBackendError: a package is missing
    """
    names = TRACKERS if outputs == "all" else tuple(name.strip() for name in outputs.split(","))
    check_names(names)
    if others := [name for name in names if name not in TRACKERS]:
        raise ValueError(
            f"--outputs {others[0]!r} is no tracker of NeMo-RL's; allowed are {', '.join(TRACKERS)}"
        )
    check_installed("plot", "matplotlib")
    return tuple(names), run_folder(folder, "grpo")


def run(names: tuple[str, ...], folder: Path) -> int:
    """Replay the recording, read back, compare.

    :return: 0 if every tracker holds what the journal says it must, else 1
    """
    screen = Console(highlight=False)
    header, *steps = recording()
    screen.print(f"Replaying {len(steps)} recorded steps of GRPO through NeMo-RL's calls.")
    with started_ray(screen.print) as sources:
        with Logger(_config(names, folder, monitors_gpus=bool(sources))) as logger:
            logger.log_hyperparams(header["config"])
            for line in track(steps, "GRPO", console=screen, disable=not screen.is_terminal):
                _log(logger, line)
                threading.Event().wait(_PACE_S)
            if logger.gpu_monitor is not None:
                logger.gpu_monitor.stop()
            logger.core.flush(_PATIENCE_S)
        outputs = [output for output in logger.core.output_formats if isinstance(output, Sender)]
        return report(folder, outputs, screen, _CURVES, "GRPO on sums of two numbers", "reward, accuracy")


def recording() -> Iterator[dict[str, Any]]:
    """The recorded run: its header, then its steps."""
    file = importlib.resources.files("rl_logging") / "data" / _RECORDING
    yield from map(json.loads, file.read_text(encoding="utf-8").splitlines())


def _log(logger: Logger, line: Mapping[str, Any]) -> None:
    """Log a step as NeMo-RL's trainer of GRPO does."""
    step = line["step"]
    logger.log_metrics(line["metrics"], step, prefix="train")
    logger.log_metrics(line["timing"], step, prefix="timing/train")
    logger.log_histogram(line["rewards"], step, "train/rewards")
    logger.log_batched_dict_as_jsonl(line["batch"], f"rollouts/step_{step}.jsonl")
    validation = dict(line.get("validation") or {})
    if not validation:
        return
    samples = [validation.pop(name) for name in ("conversations", "rewards", "references")]
    logger.log_metrics(validation, step, prefix="validation")
    logger.log_samples(samples[0], samples[1], step, references=samples[2])
    logger.log_plot_token_mult_prob_error(line["logprobs"], step, "train/token_mult_prob_error_plot")
    if (figure := reward_figure(line["rewards"], step)) is not None:
        logger.log_plot(figure, step, "train/reward_distribution")
    workers = dict(line["workers"])
    interval_s = workers.pop("interval_s")
    for name, timelines in workers.items():
        logger.log_plot_per_worker_timeline_metrics(timelines, step, "generation", name, interval_s)


def _config(names: tuple[str, ...], folder: Path, monitors_gpus: bool) -> dict[str, Any]:
    """A configuration that keeps every tracker on this machine, also where there is an account."""
    sections: dict[str, dict[str, Any]] = {
        "mlflow": {
            "experiment_name": "grpo",
            "tracking_uri": f"sqlite:///{folder.absolute().parent}/mlflow.db",
        },
        "wandb": {"project": "grpo", "mode": "offline"},
        "clearml": {"project_name": "grpo", "offline": True},
        # SwanLab's own page shows runs of its local mode only, which needs its dashboard package.
        "swanlab": {"project": "grpo", "mode": "local" if find_spec("swanboard") else "offline"},
        "tensorboard": {},
    }
    return {
        "log_dir": str(folder),
        **{f"{name}_enabled": True for name in names},
        **{name: sections[name] for name in names},
        "monitor_gpus": monitors_gpus,
        "gpu_monitoring": {"collection_interval": 2, "flush_interval": 2},
        "num_val_samples_to_print": _SHOWN,
    }
