"""MLflow as the benchmarks need it: a real server, one that is down, and one that never answers."""

import contextlib
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from bench_report import progress

from rl_logging.mlflow_server import MLflowServer

_HOST = "127.0.0.1"


class Store:
    """An MLflow store that answers.

    :param folder: where it is
    :param quick: whether a SQLite file will do, since a server takes ten seconds to start
    """

    def __init__(self, folder: Path, quick: bool) -> None:
        folder.mkdir(parents=True)
        if not quick:
            progress("starting an MLflow server")
        self._database = folder / "mlflow.db"
        self._server = None if quick else MLflowServer(folder)
        self.uri = self._server.url if self._server else f"sqlite:///{self._database}"
        self.kind = "an MLflow server on this machine" if self._server else "a local MLflow store"

    def answered(self) -> int:
        """How many batches were posted to the server."""
        return self._server.answered("runs/log-batch") if self._server else 0

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            self._server.stop()


def points_in(database: Path) -> int:
    """How many points an MLflow store has, counted in its own table."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute("select count(*) from metrics").fetchone()[0])


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port at which connections are refused, and that nobody else can take."""
    with socket.socket() as bound:
        bound.bind((_HOST, 0))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def mute_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server((_HOST, 0), backlog=64) as listening:
        yield listening.getsockname()[1]


def uri(port: int) -> str:
    """The address of a server at a port of this machine."""
    return f"http://{_HOST}:{port}"
