"""SB3's algorithms, trained with our logger and every output."""

from pathlib import Path

import pytest
import sb3_contrib
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from rl_logging import configure
from rl_logging.formats.base import Sender
from rl_logging.readers import compare, read_records

SHORT = {
    "A2C": {},
    "PPO": {"n_steps": 128, "n_epochs": 1},
    "DQN": {"learning_starts": 50},
    "SAC": {"learning_starts": 50},
    "TD3": {"learning_starts": 50},
    "TRPO": {"n_steps": 128},
}
torch.set_num_threads(1)  # networks this small are slower on several
OUTPUTS = ["log", "csv", "json", "tensorboard", "mlflow", "wandb", "clearml", "swanlab"]


@pytest.mark.parametrize("name", SHORT)
def test_every_output_holds_the_training(name: str, tmp_path: Path) -> None:
    """Numbers are of many types here, and evaluation dumps at the algorithm's own steps."""
    algorithm = getattr(stable_baselines3, name, None) or getattr(sb3_contrib, name)
    environment = "Pendulum-v1" if name in ("SAC", "TD3") else "CartPole-v1"
    model = algorithm("MlpPolicy", environment, device="cpu", **SHORT[name])
    evaluation = EvalCallback(make_vec_env(environment), eval_freq=128, n_eval_episodes=1, verbose=0)

    with configure(tmp_path / name, OUTPUTS) as logger:
        model.set_logger(logger)
        model.learn(256, callback=evaluation, log_interval=1)
    records = read_records(tmp_path / name)
    outputs = [output for output in logger.output_formats if isinstance(output, Sender)]
    comparisons = [compare(output, records) for output in outputs]

    assert {comparison.output: comparison.differences for comparison in comparisons} == dict.fromkeys(
        OUTPUTS, ()
    )
    assert len(comparisons[0].history["eval/mean_reward"]) == 2
    assert all(comparison.last("rollout/ep_rew_mean") is not None for comparison in comparisons)


@pytest.mark.parametrize("start_method", ["fork", "forkserver", "spawn"])
def test_environments_in_processes_leave_the_logger_alone(start_method: str, tmp_path: Path) -> None:
    """A forked child has a copy of every open file, and of what is registered for its exit."""
    with configure(tmp_path, ["csv", "tensorboard"]) as logger:
        logger.record("before", 1)
        logger.dump(0)
        environment = make_vec_env(
            "CartPole-v1", n_envs=2, vec_env_cls=SubprocVecEnv, vec_env_kwargs={"start_method": start_method}
        )
        model = stable_baselines3.A2C("MlpPolicy", environment, device="cpu")
        model.set_logger(logger)
        model.learn(100, log_interval=5)
        environment.close()
    records = read_records(tmp_path)
    outputs = [output for output in logger.output_formats if isinstance(output, Sender)]

    assert [compare(output, records).differences for output in outputs] == [(), ()]
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
