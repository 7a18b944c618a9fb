"""What a training run logs, for the benchmarks: PPO's keys and types, then keys of the user's."""

from typing import Any

import numpy as np

from rl_logging import Logger

# What PPO records, with the types that it records.
_PPO: dict[str, type] = {
    "rollout/ep_len_mean": float,
    "rollout/ep_rew_mean": float,
    "time/fps": int,
    "time/iterations": int,
    "time/time_elapsed": int,
    "time/total_timesteps": int,
    "train/approx_kl": np.float32,
    "train/clip_fraction": np.float64,
    "train/clip_range": float,
    "train/entropy_loss": float,
    "train/explained_variance": np.float32,
    "train/learning_rate": float,
    "train/loss": float,
    "train/n_updates": int,
    "train/policy_gradient_loss": np.float64,
    "train/value_loss": np.float64,
}


def values_for(count: int, dump: int) -> dict[str, Any]:
    """So many scalars, as PPO and its user record them."""
    kinds = {**_PPO, **{f"custom/metric_{i}": np.float32 for i in range(count)}}
    number = 0.1 + dump / 7
    return {key: kind(number * (i + 1)) for i, (key, kind) in enumerate(list(kinds.items())[:count])}


def log(logger: Logger, count: int, dumps: int) -> None:
    """Record so many scalars for each of so many dumps."""
    for dump in range(dumps):
        for key, value in values_for(count, dump).items():
            logger.record(key, value)
        logger.dump(dump)


def offline(mlflow_uri: str) -> dict[str, Any]:
    """Arguments that keep every tracker but MLflow on this machine, whatever accounts there are."""
    return {
        "mlflow": {"tracking_uri": mlflow_uri},
        "wandb": {"mode": "offline"},
        "clearml": {"offline": True},
        "swanlab": {"mode": "offline"},
    }
