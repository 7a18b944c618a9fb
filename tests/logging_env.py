"""An environment that logs from inside its steps."""

from typing import Any

import gymnasium
import numpy as np

from rl_logging import Handle

Spaces = gymnasium.Env[np.ndarray, np.int64]


class LoggingEnv(Spaces):
    """Its energy goes up with its steps; each is recorded.

    :param handle: of the logger
    :param first: its energy at the start
    """

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, handle: Handle, first: int) -> None:
        self.handle = handle
        self.energy = first

    def reset(self, **_: Any) -> Any:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        with self.handle.timer("env"):
            self.energy += 1
        self.handle.record_mean("env/energy", self.energy)
        self.handle.record_stats("env/energies", self.energy)
        self.handle.record_rate("env/steps_per_s")
        self.handle.record("env/map", "desert", exclude="csv")
        return np.zeros(1, np.float32), 0.0, False, False, {}
