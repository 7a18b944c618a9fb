"""SB3's callbacks of ours, in real trainings."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rl_logging import Logger, configure
from rl_logging.callbacks import CheckpointArtifactCallback, EvalVideoCallback, RunInfoCallback
from rl_logging.encoding import read_frames
from rl_logging.journal import read
from rl_logging.media_files import encoded
from rl_logging.record import Record

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "device": "cpu"}


def ppo(logger: Logger, env: Any = "CartPole-v1", **arguments: Any) -> PPO:
    model = PPO("MlpPolicy", env, **{**SMALL, **arguments})
    model.set_logger(logger)
    return model


def records(logger: Logger, kind: str) -> list[Record]:
    return [record for record in read(Path(str(logger.dir)) / "journal.jsonl") if record.kind == kind]


def hyperparameters(run: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((run / "hyperparams.yaml").read_text()))


def filmed(env: str = "CartPole-v1") -> Any:
    return make_vec_env(env, env_kwargs={"render_mode": "rgb_array"}, seed=0)


def test_a_model_s_hyperparameters_are_logged(tmp_path: Path) -> None:
    """Which learning rate was it? Nobody writes it down by hand."""
    with configure(tmp_path, []) as logger:
        model = ppo(
            logger, learning_rate=LinearSchedule(1e-3, 1e-4, 1.0), seed=5, policy_kwargs={"net_arch": [8]}
        )
        model.learn(32, callback=RunInfoCallback(more={"note": "try 2"}))

    found = hyperparameters(tmp_path)
    assert found["model"]["algorithm"] == "PPO"
    assert found["model"]["policy"] == "ActorCriticPolicy"
    assert found["model"]["learning_rate"] == pytest.approx({"start": 1e-3, "end": 1e-4})
    assert found["model"]["clip_range"] == pytest.approx({"start": 0.2, "end": 0.2})
    assert (found["model"]["n_steps"], found["model"]["seed"]) == (32, 5)
    assert found["model"]["policy_kwargs"] == {"net_arch": [8]}
    assert "Linear(in_features=4, out_features=8" in found["model"]["network"]
    assert found["model"]["parameters"] == sum(p.numel() for p in model.policy.parameters())
    assert found["env"]["id"] == "CartPole-v1"
    assert found["env"]["wrappers"][0] == "Monitor"
    assert found["env"]["vector_wrappers"] == ["DummyVecEnv"]
    assert found["user"] == {"note": "try 2"}


@pytest.mark.parametrize(
    ("algorithm", "env", "arguments"),
    [(DQN, "CartPole-v1", {"buffer_size": 100}), (SAC, "Pendulum-v1", {"buffer_size": 100})],
)
def test_other_algorithms_have_theirs(
    tmp_path: Path, algorithm: Any, env: str, arguments: dict[str, Any]
) -> None:
    """Each has arguments of its own, and objects that are none."""
    with configure(tmp_path, []) as logger:
        model = algorithm("MlpPolicy", env, device="cpu", **arguments)
        model.set_logger(logger)
        model.learn(10, callback=RunInfoCallback())

    found = hyperparameters(tmp_path)["model"]
    assert (found["algorithm"], found["buffer_size"], found["gamma"]) == (algorithm.__name__, 100, 0.99)
    assert not [name for name, value in found.items() if "object at 0x" in str(value)]


def test_learning_again_continues(tmp_path: Path) -> None:
    """``learn`` is called in turns; the second one adds what has changed."""
    with configure(tmp_path, []) as logger:
        model, callback = ppo(logger), RunInfoCallback()
        model.learn(32, callback=callback)
        model.gamma = 0.5
        model.learn(32, callback=callback, reset_num_timesteps=False)

    assert [record.step for record in records(logger, "hyperparameters")] == [0, 32]
    assert hyperparameters(tmp_path)["model"]["gamma"] == 0.5


def test_an_evaluation_is_filmed(tmp_path: Path) -> None:
    """A return of 200 says little about how it walks."""
    with configure(tmp_path, []) as logger:
        ppo(logger).learn(96, callback=EvalVideoCallback(filmed(), every_steps=40))

    shots = [record for record in records(logger, "metrics") if "eval/video" in record.values]
    assert [record.step for record in shots] == [40, 80]
    path = encoded(shots[0].values["eval/video"])
    assert path == tmp_path / "media/eval_video/step_40.mp4"
    frames, _ = read_frames(path)
    assert len(frames) == shots[0].values["eval/video_length"] == shots[0].values["eval/video_return"]
    assert frames.shape[1:] == (400, 600, 3)
    assert shots[0].values["eval/video"].about["fps"] == 50.0  # as the environment says


def test_a_training_that_begins_anew_is_filmed_again(tmp_path: Path) -> None:
    """A second ``learn`` counts its steps from 0."""
    callback = EvalVideoCallback(filmed(), every_steps=32)
    with configure(tmp_path, []) as logger:
        model = ppo(logger)
        model.learn(32, callback=callback)
        model.learn(32, callback=callback)

    shots = [record for record in records(logger, "metrics") if "eval/video" in record.values]
    assert [record.step for record in shots] == [32, 32]


def test_a_film_of_a_normalised_environment_shows_its_own_return(tmp_path: Path) -> None:
    """The policy has learnt on scaled observations, and people know the unscaled return."""
    with configure(tmp_path, []) as logger:
        env, seen = VecNormalize(make_vec_env("CartPole-v1")), VecNormalize(filmed(), training=False)
        ppo(logger, env).learn(64, callback=EvalVideoCallback(seen, every_steps=64, max_frames=500))

    (shot,) = (record for record in records(logger, "metrics") if "eval/video" in record.values)
    assert shot.values["eval/video_return"] == shot.values["eval/video_length"]
    assert np.array_equal(seen.obs_rms.mean, env.obs_rms.mean)  # type: ignore[union-attr]


def test_an_environment_of_gymnasium_is_filmed(tmp_path: Path) -> None:
    """Not everybody has made a vector of it."""
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    with configure(tmp_path, []) as logger:
        ppo(logger).learn(32, callback=EvalVideoCallback(env, every_steps=32, max_frames=3))

    assert len([record for record in records(logger, "metrics") if "eval/video" in record.values]) == 1


def test_a_long_episode_is_cut(tmp_path: Path) -> None:
    """A film of a million frames helps nobody."""
    with configure(tmp_path, []) as logger:
        ppo(logger).learn(32, callback=EvalVideoCallback(filmed(), every_steps=32, max_frames=3))

    (shot,) = (record for record in records(logger, "metrics") if "eval/video" in record.values)
    assert shot.values["eval/video"].text == "<video 3 frames>"


def test_what_cannot_be_filmed_is_said_at_once() -> None:
    """Not after the first hour."""
    with pytest.raises(ValueError, match="render_mode='rgb_array', not None"):
        EvalVideoCallback(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]), every_steps=10)


@pytest.mark.parametrize(
    "callback", [RunInfoCallback(), CheckpointArtifactCallback(1), EvalVideoCallback(filmed(), 1)]
)
def test_another_logger_is_said_at_once(callback: Any) -> None:
    """SB3's own has no place for what they log."""
    with pytest.raises(TypeError, match=f"{type(callback).__name__} needs rl_logging's logger"):
        PPO("MlpPolicy", "CartPole-v1", **SMALL).learn(32, callback=callback)


class Better(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment of one-step episodes, each better than the last: up to the fifth, then worse."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
        self._step = 0

    def step(self, action: Any) -> Any:
        observation, _, _, _, info = super().step(action)
        self._step += 1
        return observation, float(5 - abs(self._step - 5)), True, False, info


@pytest.mark.parametrize("outputs", [[], ["tensorboard"]], ids=["alone", "tracker"])
def test_the_best_checkpoints_are_kept(tmp_path: Path, outputs: list[str]) -> None:
    """A disk full of the first ones helps nobody, and the last one may be the worst."""
    with configure(tmp_path, outputs) as logger:
        model = ppo(logger, make_vec_env(Better), n_steps=8, batch_size=8, stats_window_size=1)
        model.learn(8, callback=CheckpointArtifactCallback(every_steps=1, keep_best=2))

    logged = [record.values["checkpoint"] for record in records(logger, "artifact")]
    kept = sorted(path.parent.name for path in tmp_path.glob("artifacts/checkpoint/*/checkpoint.zip"))
    assert [media.about["metadata"]["return"] for media in logged] == [None, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert [media.about["aliases"] for media in logged] == [["best"]] * 6
    assert kept == ["step_5", "step_6"]
    assert PPO.load(logged[-1].path).num_timesteps == 6


def test_checkpoints_follow_an_evaluation(tmp_path: Path) -> None:
    """The evaluation is a better judge than the training."""
    with configure(tmp_path, []) as logger:
        evaluation = EvalCallback(
            make_vec_env("CartPole-v1", seed=1),
            n_eval_episodes=1,
            eval_freq=32,
            verbose=0,
            callback_after_eval=CheckpointArtifactCallback(every_steps=1, keep_best=1),
        )
        ppo(logger).learn(64, callback=evaluation)

    means = [
        r.values["eval/mean_reward"] for r in records(logger, "metrics") if "eval/mean_reward" in r.values
    ]
    first = records(logger, "artifact")[0].values["checkpoint"].about["metadata"]
    assert (first["step"], first["return"]) == (32, means[0])


@pytest.mark.parametrize("arguments", [{"every_steps": 0}, {"every_steps": 1, "keep_best": 0}])
def test_numbers_below_one_are_refused(arguments: dict[str, int]) -> None:
    """They would keep nothing."""
    with pytest.raises(ValueError, match="at least 1"):
        CheckpointArtifactCallback(**arguments)
