"""What ``rl-logging demo`` logs besides numbers."""

import logging
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from rl_logging.callbacks import EvalVideoCallback, RunInfoCallback
from rl_logging.logger import Logger
from rl_logging.rich import Table

_log = logging.getLogger("rl_logging")
_EPISODES, _STEPS = 5, 500
_SHOTS = 2  # videos, at most


def callbacks(environment: str, timesteps: int) -> list[BaseCallback]:
    """Callbacks that log hyperparameters and, where the environment can be drawn, videos."""
    found: list[BaseCallback] = [RunInfoCallback()]
    env = _drawn(environment)
    if env is not None:
        found.append(EvalVideoCallback(env, every_steps=max(timesteps // _SHOTS, 1), max_frames=200))
    return found


def log(model: BaseAlgorithm, logger: Logger, environment: str, seed: int) -> None:
    """Log what the trained agent does: actions, results, how it looks, and the agent itself."""
    env = _drawn(environment) or make_vec_env(environment, seed=seed)
    results, actions = Table(["episode", "return", "length"]), []
    for episode in range(_EPISODES):
        taken, total = _episode(model, env)
        actions += taken
        results.add(episode + 1, total, len(taken))
    step = model.num_timesteps
    logger.log_histogram("eval/actions", np.asarray(actions), step)
    logger.log_table("eval/results", results, step)
    logger.log_figure("eval/returns", _bars(results), step, close=True)
    if env.render_mode == "rgb_array":
        env.reset()
        logger.log_image("eval/start", env.render(), step)
    logger.log_text("eval/note", f"{_EPISODES} episodes of the trained agent in {environment}", step)
    logger.log_tags({"demo": environment})
    logger.save_policy(model.policy, metadata={"environment": environment}, aliases=["demo"])
    env.close()


def _episode(model: BaseAlgorithm, env: VecEnv) -> tuple[list[Any], float]:
    """The actions of one episode, and its return."""
    observation, actions, total = env.reset(), [], 0.0
    for _ in range(_STEPS):
        action, _ = model.predict(observation, deterministic=True)  # type: ignore[arg-type]
        observation, rewards, dones, _ = env.step(action)
        actions.append(action[0])
        total += float(rewards[0])
        if dones[0]:
            break
    return actions, total


def _bars(results: Table) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    axes.bar([row[0] for row in results.rows], [row[1] for row in results.rows])
    axes.set_xlabel("episode")
    axes.set_ylabel("return")
    return figure


def _drawn(environment: str) -> VecEnv | None:
    """The environment, one that can be drawn; None where it cannot be."""
    try:
        env = make_vec_env(environment, env_kwargs={"render_mode": "rgb_array"})
        env.reset()
        env.render()
        return env
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        _log.warning("%s cannot be drawn, so there is no video: %s", environment, error)
        return None
