"""What logging to all outputs costs PPO on CartPole: the wall time of ``learn`` alone.

Pairs of fresh processes, one with all outputs and one with none, in random order. The
MLflow server runs before the first and after the last; closing the logger is not timed.
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from bench_process import Process
from bench_report import progress, show
from bench_store import Store
from bench_values import offline
from stable_baselines3.common import logger as sb3

from rl_logging import Logger, configure

_OUTPUTS = ("stdout", "log", "csv", "json", "tensorboard", "mlflow", "wandb", "clearml", "swanlab")
_ALL, _NONE = "all outputs", "no outputs"
_PATIENCE_S = 3600.0
_CLOSE_S = 240.0


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Train in pairs, and show the ratio of the wall times."""
    pairs, steps = (1, 1) if options.quick else (options.pairs, options.steps)
    seconds: dict[str, list[float]] = {_ALL: [], _NONE: []}
    with Store(folder / "store", options.quick) as store:
        for pair in range(pairs):
            for side in random.sample(list(seconds), k=2):
                with Process(learn, folder / f"{side} {pair}", side == _ALL, steps, store.uri) as process:
                    seconds[side].append(process.receive(patience_s=_PATIENCE_S))
                progress(f"pair {pair + 1} of {pairs}, {side}: {seconds[side][-1]:.2f} s")
    ratios = [ours / none for ours, none in zip(seconds[_ALL], seconds[_NONE], strict=True)]
    row = [f"{steps:,}", *(f"{statistics.median(seconds[side]):.2f}" for side in seconds), *_mean(ratios)]
    show(
        ["steps", *(f"{side}, s" for side in seconds), "ratio", "95 % confidence interval"],
        [row],
        f"Pairs of fresh processes: {pairs}, in random order; one torch thread; {store.kind}. "
        "Seconds: medians of learn alone. Ratio: the pairs' geometric mean; t distribution of its logarithm.",
    )


def _mean(ratios: Sequence[float]) -> tuple[str, str]:
    """The geometric mean, and its confidence interval, for which it takes two."""
    from scipy.stats import t

    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return f"{math.exp(mean):.3f}", ""
    width = float(t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return f"{math.exp(mean):.3f}", f"{math.exp(mean - width):.3f} to {math.exp(mean + width):.3f}"


def learn(connection: Connection, folder: Path, with_outputs: bool, steps: int, mlflow_uri: str) -> None:
    """Train, and say how many seconds it took."""
    import torch
    from stable_baselines3 import PPO

    torch.set_num_threads(1)
    model = PPO("MlpPolicy", "CartPole-v1", seed=0, device="cpu")
    if with_outputs:
        logger: sb3.Logger = configure(folder / "run", _OUTPUTS, linger_s=1.0, **offline(mlflow_uri))
    else:
        logger = sb3.Logger(None, [])
    model.set_logger(logger)
    start = time.perf_counter()
    model.learn(steps)
    seconds = time.perf_counter() - start
    if isinstance(logger, Logger):  # its courier must not disturb the next process
        logger.close(timeout_s=_CLOSE_S)
    connection.send(seconds)
