"""SB3 callbacks that log what a run has besides its numbers."""

import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.logger import Video
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, sync_envs_normalization

from rl_logging.logger import Logger

_NO_HYPERPARAMETERS = frozenset(
    {"env", "policy", "policy_class", "verbose", "tensorboard_log", "n_envs", "observation_space"}
    | {"action_space", "start_time", "num_timesteps", "ep_info_buffer", "ep_success_buffer"}
    | {"lr_schedule", "rollout_buffer", "replay_buffer", "q_net", "q_net_target", "exploration_rate"}
    | {"batch_norm_stats", "batch_norm_stats_target", "actor", "actor_target", "critic", "critic_target"}
    | {"actor_batch_norm_stats", "actor_batch_norm_stats_target", "critic_batch_norm_stats"}
    | {"critic_batch_norm_stats_target", "log_ent_coef", "ent_coef_tensor", "ent_coef_optimizer"}
)
_PATIENCE_S = 10.0  # at the end of training, for trackers to get what is about to be removed


class _LoggingCallback(BaseCallback):
    """A callback that needs our logger."""

    @property
    def ours(self) -> Logger:
        """The model's logger.

        :raises TypeError: it is none of ours
        """
        if not isinstance(self.logger, Logger):
            advice = "model.set_logger(rl_logging.configure(...)) before learn()"
            raise TypeError(f"{type(self).__name__} needs rl_logging's logger: {advice}")
        return self.logger

    def _on_step(self) -> bool:
        return True


class _EverySteps(_LoggingCallback):
    """One that acts every so many steps of training.

    :param every_steps: how many
    :raises ValueError: it is below 1
    """

    def __init__(self, every_steps: int) -> None:
        super().__init__()
        if every_steps < 1:
            raise ValueError(f"every_steps is at least 1, not {every_steps!r}")
        self._every_steps = every_steps
        self._last_at: int | None = None

    def _on_training_start(self) -> None:
        _ = self.ours  # else it would be missed in the middle of training
        now = self.num_timesteps
        self._last_at = now if self._last_at is None else min(self._last_at, now)  # steps may begin anew

    def _on_step(self) -> bool:
        if self._last_at is None or self.num_timesteps - self._last_at >= self._every_steps:
            self._last_at = self.num_timesteps
            self._act()
        return True

    def _act(self) -> None:
        raise NotImplementedError


class RunInfoCallback(_LoggingCallback):
    """Log the hyperparameters of the model that is trained, when training begins.

    The algorithm and its arguments, schedules by their values at the beginning and the end,
    the policy and its network, the environment's name, wrappers and spaces, and the seed.

    :param more: hyperparameters of your own to log beside them, under ``"user"``
    """

    def __init__(self, more: Any = None) -> None:
        super().__init__()
        self._more = more

    def _on_training_start(self) -> None:
        more = {} if self._more is None else {"user": self._more}
        self.ours.log_hyperparams(
            {"model": _model(self.model), "env": _environment(self.training_env), **more}
        )


class EvalVideoCallback(_EverySteps):
    """Film an evaluation episode every so many steps. It needs no screen.

    :param env: the environment to evaluate in, made with ``render_mode="rgb_array"``
    :param every_steps: how many steps of training lie between two videos
    :param key: the video's; its return is logged as ``<key>_return``, its length as ``<key>_length``
    :param max_frames: a longer episode is cut there
    :param fps: frames per second; by default what the environment says, else 30
    :param deterministic: whether the policy takes its likeliest actions
    :raises ValueError: the environment draws no pictures
    """

    def __init__(
        self,
        env: VecEnv | gymnasium.Env[Any, Any],
        every_steps: int,
        *,
        key: str = "eval/video",
        max_frames: int = 1000,
        fps: float | None = None,
        deterministic: bool = True,
    ) -> None:
        super().__init__(every_steps)
        if not isinstance(env, VecEnv):
            alone = env
            env = DummyVecEnv([lambda: alone])
        if env.render_mode != "rgb_array":
            raise ValueError(f"a filmed environment has render_mode='rgb_array', not {env.render_mode!r}")
        if max_frames < 1:
            raise ValueError(f"max_frames is at least 1, not {max_frames!r}")
        self._env, self._key = env, key
        self._max_frames, self._deterministic = max_frames, deterministic
        metadata = env.get_attr("metadata", 0)[0] or {}
        self._fps = fps or float(metadata.get("render_fps") or 30)

    def _act(self) -> None:
        if self.model.get_vec_normalize_env() is not None:
            sync_envs_normalization(self.training_env, self._env)
        observation: Any = self._env.reset()
        state = None
        starts, total = np.ones(self._env.num_envs, bool), 0.0
        frames = []
        while True:
            frames.append(np.asarray(self._env.render()))
            action, state = self.model.predict(
                observation,
                state=state,
                episode_start=starts,
                deterministic=self._deterministic,
            )
            observation, rewards, starts, infos = self._env.step(action)
            total += float(rewards[0])
            if starts[0] or len(frames) == self._max_frames:
                break
        told = infos[0].get("episode", {}).get("r", total)  # a Monitor's is the environment's own
        clip: Any = np.stack(frames).transpose(0, 3, 1, 2)[np.newaxis]  # an array will do, too
        values = {
            self._key: Video(clip, self._fps),
            f"{self._key}_return": float(told),
            f"{self._key}_length": len(frames),
        }
        self.ours.log_metrics(values, self.num_timesteps)


class CheckpointArtifactCallback(_EverySteps):
    """Keep the model every so many steps as an artifact, as long as it is one of the best.

    Judged by the mean return of the last episodes; as ``callback_after_eval`` of SB3's
    ``EvalCallback``, by its evaluation. A model that is no longer among the best is removed
    from the run folder once every tracker has it.

    :param every_steps: how many steps lie between two checkpoints; after an evaluation, 1 is each
    :param keep_best: how many to keep
    :param name: the artifact's name; its newest best version has the alias ``best``
    :raises ValueError: a number below 1
    """

    def __init__(self, every_steps: int, keep_best: int = 3, *, name: str = "checkpoint") -> None:
        super().__init__(every_steps)
        if keep_best < 1:
            raise ValueError(f"keep_best is at least 1, not {keep_best!r}")
        self._keep_best, self._name = keep_best, name
        self._kept: list[tuple[float, int, Path]] = []  # the best first
        self._dropped: list[Path] = []

    def _on_training_end(self) -> None:
        self._clean(_PATIENCE_S)

    def _value(self) -> float:
        """How good the model is now; below all others where nobody can say."""
        if isinstance(self.parent, EvalCallback):
            return self.parent.last_mean_reward
        returns = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        return float(np.mean(returns)) if returns else -np.inf

    def _act(self) -> None:
        value = self._value()
        if len(self._kept) == self._keep_best and value <= self._kept[-1][0]:
            return
        about = {"return": value if np.isfinite(value) else None, "step": self.num_timesteps}
        aliases = ["best"] if not self._kept or value > self._kept[0][0] else []
        path = self.ours.save_agent(
            self.model, self._name, step=self.num_timesteps, metadata=about, aliases=aliases
        )
        if path is not None:
            self._kept = sorted([*self._kept, (value, -self.num_timesteps, path)], reverse=True)
            self._dropped += [dropped for _, _, dropped in self._kept[self._keep_best :]]
            del self._kept[self._keep_best :]
        self._clean()

    def _clean(self, timeout_s: float = 0.0) -> None:
        if self._dropped and self.ours.flush(timeout_s):
            for path in self._dropped:
                shutil.rmtree(path.parent, ignore_errors=True)
            self._dropped.clear()


def _model(model: Any) -> dict[str, Any]:
    kept = {
        name: value
        for name, value in vars(model).items()
        if not name.startswith("_") and name not in _NO_HYPERPARAMETERS
    }
    schedules = {
        name: value for name, value in kept.items() if callable(value) and not isinstance(value, type)
    }
    kept.update({name: {"start": float(f(1.0)), "end": float(f(0.0))} for name, f in schedules.items()})
    return {"algorithm": type(model).__name__, "policy": type(model.policy).__name__, **kept} | {
        "network": str(model.policy),
        "parameters": sum(parameter.numel() for parameter in model.policy.parameters()),
    }


def _environment(env: VecEnv) -> dict[str, Any]:
    vectors = []
    inner: Any = env
    while isinstance(inner, VecEnvWrapper):
        vectors.append(type(inner).__name__)
        inner = inner.venv
    spec = env.get_attr("spec", 0)[0]
    return {
        "id": None if spec is None else spec.id,
        "count": env.num_envs,
        "wrappers": _wrappers(inner),
        "vector_wrappers": [*vectors, type(inner).__name__],
        "observation_space": str(env.observation_space),
        "action_space": str(env.action_space),
    }


def _wrappers(env: Any) -> list[str]:
    """The wrappers around one environment, the outermost first; unknown where it lives in another process."""
    names = []
    inner = env.envs[0] if hasattr(env, "envs") else None
    while inner is not None:
        names.append(type(inner).__name__)
        inner = getattr(inner, "env", None)
    return names
