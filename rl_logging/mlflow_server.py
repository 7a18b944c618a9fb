"""An MLflow server of one's own, which can be killed and started again: for trying what happens then."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

_HOST = "127.0.0.1"
_START_S, _END_S, _POLL_S = 60.0, 30.0, 0.05


class MLflowServer:
    """An ``mlflow server`` on loopback, which answers once this is made.

    :param folder: where its store, its artifacts and its log are; what it holds outlives a kill
    :param port: its port for as long as this lives; a free one if not given
    :raises RuntimeError: it ended at once; the message has the end of its log
    :raises TimeoutError: it did not answer
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or _free_port()
        self.url = f"http://{_HOST}:{self.port}"
        self._folder = folder.absolute()
        self._log = self._folder / "mlflow_server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, again on the same port and store; return when it answers.

        :raises RuntimeError: it runs, or it ended at once
        """
        if self._process is not None:
            raise RuntimeError("the server runs already; kill or stop it first")
        settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment = {**os.environ, **settings}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, env=environment, start_new_session=True
            )
        try:
            _wait_until(self._answers, _START_S)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End all its processes at once, as a crash or a lost machine does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it end by itself; one that does not is killed."""
        try:
            self._end(signal.SIGTERM)
        except (subprocess.TimeoutExpired, TimeoutError):
            self._end(signal.SIGKILL)

    def answered(self, call: str) -> int:
        """How many requests it has answered, over all its starts, that hold this text."""
        return self._log.read_text().count(call)

    def __enter__(self) -> "MLflowServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
            *("--host", _HOST, "--port", str(self.port)),
            *("--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"),
            *("--artifacts-destination", f"{self._folder}/mlartifacts"),
        ]

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        # It leads a group of its own; the process that listens is a child of it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, how)
        self._process.wait(timeout=_END_S)
        _wait_until(lambda: not self._listens(), _END_S)
        self._process = None

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex((_HOST, self.port)) == 0

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the server ended: {self._log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    pause, deadline = threading.Event(), time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the MLflow server took more than {timeout_s:g} s")
        pause.wait(_POLL_S)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((_HOST, 0))
        return int(free.getsockname()[1])
