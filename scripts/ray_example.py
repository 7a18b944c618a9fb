"""Train a policy with Ray actors as rollout workers and one controller, all logged into one run.

Workers record inside their rollouts, by handles of the controller's logger. With --single the
same workers live in one process. --check does both, and compares the two runs' numbers, and
each output with its journal.
"""

import argparse
import contextlib
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rl_logging import Handle, Logger, configure
from rl_logging.readers import compare, journal_history, read_records

OUTPUTS = ["stdout", "log", "csv", "json", "tensorboard", "mlflow", "wandb", "clearml", "swanlab"]
OFFLINE: dict[str, dict[str, Any]] = {
    "wandb": {"mode": "offline"},
    "clearml": {"offline": True},
    "swanlab": {"mode": "offline"},
}
EPISODES = 4  # of a worker, in a rollout
LEARNING_RATE = 0.2
MEASURED = "time/"  # what differs from run to run


class Worker:
    """Plays episodes of CartPole with a linear policy, and records them.

    :param record: the logger's handle, or the logger itself where it is in this process
    """

    def __init__(self, seed: int, record: Handle | Logger) -> None:
        self.env = gymnasium.make("CartPole-v1")
        self.env.reset(seed=seed)
        self.random = np.random.default_rng(seed)
        self.record = record

    def rollout(self, weights: np.ndarray) -> np.ndarray:
        """The gradient of the policy (REINFORCE, Williams, 1992), from some episodes."""
        with self.record.timer("rollout"):
            episodes = [self._episode(weights) for _ in range(EPISODES)]
        returns = np.array([total for total, _ in episodes])
        advantages = (returns - returns.mean()) / (returns.std() + 1e-6)
        return np.asarray(
            sum(a * score for a, (_, score) in zip(advantages, episodes, strict=True)) / EPISODES
        )

    def _episode(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        observation, _ = self.env.reset()
        total, score, done = 0.0, np.zeros_like(weights), False
        while not done:
            probability = 1 / (1 + math.exp(-observation @ weights))
            action = int(self.random.random() < probability)
            score += (action - probability) * observation
            with self.record.timer("env"):
                observation, reward, ended, cut, _ = self.env.step(action)
            total, done = total + float(reward), ended or cut
        self.record.record_stats("rollout/return", total)
        self.record.record_sum("rollout/env_steps", total)
        self.record.record_rate("time/env_steps_per_s", total)
        return total, score


Rollouts = Callable[[np.ndarray], list[np.ndarray]]


@contextlib.contextmanager
def in_actors(workers: int, logger: Logger) -> Iterator[Rollouts]:
    """Workers that are Ray actors."""
    import ray

    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    class_ = ray.remote(num_cpus=1)(Worker)
    actors = [class_.remote(seed, logger.handle()) for seed in range(workers)]
    yield lambda weights: ray.get([actor.rollout.remote(weights) for actor in actors])
    ray.shutdown()


@contextlib.contextmanager
def in_process(workers: int, logger: Logger) -> Iterator[Rollouts]:
    """Workers that are objects of this process."""
    here = [Worker(seed, logger) for seed in range(workers)]
    yield lambda weights: [worker.rollout(weights) for worker in here]


def train(folder: Path, options: argparse.Namespace, outputs: list[str], single: bool) -> Logger:
    """Train, and log into a run folder."""
    arguments = {name: given for name, given in OFFLINE.items() if name in outputs}
    weights = np.zeros(4)
    with configure(folder, outputs, **arguments) as logger:
        logger.compare_ranks("time/rollout")
        with (in_process if single else in_actors)(options.workers, logger) as rollouts:
            for iteration in range(1, options.iterations + 1):
                gradient = np.mean(rollouts(weights), axis=0)
                weights = weights + LEARNING_RATE * gradient
                logger.record("train/gradient_norm", float(np.linalg.norm(gradient)))
                logger.dump(iteration)
        logger.flush(120.0)
    return logger


def differences(one: Path, other: Path) -> list[str]:
    """Where the numbers of two runs differ, apart from what was measured in time."""
    found = []
    histories = [journal_history(read_records(folder)) for folder in (one, other)]
    first, second = (
        {key: points for key, points in history.items() if not key.startswith(MEASURED)}
        for history in histories
    )
    for key in sorted(first.keys() | second.keys()):
        if not np.allclose(first.get(key, []), second.get(key, []), rtol=1e-12, atol=0.0):
            found.append(f"{key}: {first.get(key)} and {second.get(key)}")
    return found


def main() -> int:
    """Train as the options say; the exit status says whether all is equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="for the run; by default a new temporary one")
    parser.add_argument("--workers", type=int, default=4, help="by default %(default)s")
    parser.add_argument("--iterations", type=int, default=20, help="by default %(default)s")
    parser.add_argument("--outputs", default="all", help="names with commas between; by default all")
    parser.add_argument("--single", action="store_true", help="all workers in this process, without Ray")
    parser.add_argument("--check", action="store_true", help="train both ways, and compare")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rl_logging-ray-"))
    outputs = OUTPUTS if options.outputs == "all" else options.outputs.split(",")
    if not options.check:
        train(folder, options, outputs, options.single)
        return 0
    logger = train(folder / "ray", options, outputs, single=False)
    train(folder / "single", options, ["log"], single=True)
    records = read_records(folder / "ray")
    wrong = differences(folder / "ray", folder / "single")
    kept = [output for output in logger.output_formats if output.name != "stdout"]  # type: ignore[attr-defined]
    for output in kept:
        comparison = compare(output, records)  # type: ignore[arg-type]
        wrong += [f"{comparison.output}: {each}" for each in comparison.differences]
    print("\n".join(wrong) or f"Equal: both runs' numbers, and what {len(kept)} outputs hold. See {folder}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
