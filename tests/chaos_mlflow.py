"""Runs that are logged to an MLflow server in trouble, and what the server itself has of them."""

from pathlib import Path
from typing import Any

from faulty_proxy import FaultyProxy

from rl_logging import Logger, configure
from rl_logging.cursor import Cursor, CursorFile
from rl_logging.formats.mlflow import MLflowSender
from rl_logging.journal import read
from rl_logging.mlflow_server import MLflowServer
from rl_logging.record import METRICS


class PickyProxy(FaultyProxy):
    """A proxy that treats requests for some paths in a way of their own.

    :param target_port: the server's port
    """

    def __init__(self, target_port: int) -> None:
        self.picked: dict[str, list[str]] = {}  # of the next requests, by the path's end; the last stays
        super().__init__(target_port)

    def took(self, method: str, path: str) -> Any:
        mode = super().took(method, path)
        for end, modes in self.picked.items():
            if path.partition("?")[0].endswith(end):
                return type(mode)(modes.pop(0) if len(modes) > 1 else modes[0])
        return mode


class Watched:
    """A run that is logged through the proxy, and its MLflow run as the server itself has it."""

    def __init__(
        self, folder: Path, proxy: FaultyProxy, server: MLflowServer, linger_s: float = 60.0
    ) -> None:
        self.folder = folder
        at_proxy = {"tracking_uri": proxy.url}
        self.logger: Logger = configure(folder, ["mlflow"], mlflow=at_proxy, linger_s=linger_s)
        self.client: Any = MLflowSender(tracking_uri=server.url).client

    @property
    def tries(self) -> int:
        """How often the delivery was tried again."""
        return self.logger.health()["mlflow"].retried

    @property
    def waiting(self) -> int:
        return self.logger.health()["mlflow"].waiting

    def expected(self) -> list[tuple[int, int, float]]:
        """Step, milliseconds and value of every dump in the journal."""
        records = [each for each in read(self.folder / "journal.jsonl") if each.kind == METRICS]
        return [(each.step, round(each.time * 1000), float(str(each.values["a"]))) for each in records]

    def arrived(self) -> list[tuple[int, int, float]]:
        """The same in MLflow; it has one run with this name, and it sorts by time."""
        (run,) = self.runs()
        history = self.client.get_metric_history(run.info.run_id, "a")
        return [(point.step, point.timestamp, point.value) for point in history]

    def runs(self) -> list[Any]:
        """The MLflow runs with the run folder's name; there should be one."""
        experiments = [each.experiment_id for each in self.client.search_experiments()]
        return list(self.client.search_runs(experiments, f"attributes.run_name = '{self.folder.name}'"))

    @property
    def cursor(self) -> Cursor:
        """What the courier has saved last."""
        return CursorFile(self.folder, "mlflow").load() or Cursor()
