"""``rl-logging demo --chaos``: an MLflow server that dies half-way through training and comes back."""

import threading
from collections.abc import Callable
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback

from rl_logging.mlflow_server import MLflowServer

_DIES, _COMES_BACK = 1 / 2, 3 / 4  # of the training


class MLflowDies(BaseCallback):
    """Kills the server in the middle of training, and starts it again later, beside the training.

    :param server: the server
    :param timesteps: how long the training takes, in steps
    :param say: prints a line
    """

    def __init__(self, server: MLflowServer, timesteps: int, say: Callable[[str], None]) -> None:
        super().__init__()
        self._server = server
        self._timesteps = timesteps
        self._say = say
        self._is_dead = False
        self._start = threading.Thread(target=server.start, name="start the MLflow server")

    def _on_step(self) -> bool:
        done = self.num_timesteps / self._timesteps
        if not self._is_dead and done >= _DIES:
            self._is_dead = True
            self._server.kill()
            self._say(f"Step {self.num_timesteps:,}: the MLflow server was killed. Training goes on.")
        elif self._is_dead and done >= _COMES_BACK and self._start.ident is None:
            self._start.start()
            self._say(f"Step {self.num_timesteps:,}: the MLflow server is started again.")
        return True

    def _on_training_end(self) -> None:
        if self._start.ident is None:  # a training of few steps may skip both moments
            self._server.kill()
            self._start.start()
        self._start.join()


def start_server(folder: Path, say: Callable[[str], None]) -> MLflowServer:
    """Start a server whose store stands beside the run folder."""
    say("Starting an MLflow server.")
    server = MLflowServer(folder.absolute().parent)
    say(f"The MLflow server is at {server.url}.")
    return server
