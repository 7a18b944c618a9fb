"""MLflow: one request a dump, to a server or to a local SQLite store."""

import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_logging.formats.base import History, Sender, with_digest
from rl_logging.formats.tracker import Tracker, environment, message_line
from rl_logging.record import Record
from rl_logging.values import to_float

_KEY_LENGTH = 250 - len("-12345678")  # MLflow's limit, less what a changed key gets
_METRICS, _TAGS, _TAG_LENGTH = 1000, 100, 5000  # a request, a request, characters: the REST API's limits
_PATH_BYTES = 200  # of a key that names a folder; file systems allow 255
_MESSAGES = 100  # a file, at most
_LARGEST = sys.float_info.max  # what MLflow's stores make of an infinity
# Without limits one call to a mute server takes twenty minutes.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


class MLflowSender(Tracker):
    """Write records to an MLflow run.

    Texts and messages are small files among the run's artifacts, each written once.

    :param experiment_name: by default ``$MLFLOW_EXPERIMENT_NAME``, else ``rl_logging``
    :param run_name: by default MLflow makes one up
    :param tracking_uri: by default what ``mlflow.set_tracking_uri`` or
        ``$MLFLOW_TRACKING_URI`` says, else ``mlflow.db`` in ``folder``
    :param run_id: a run to continue
    :param tags: tags of a new run
    :param folder: where a local store is kept; by default the current folder
    :param name: what ``exclude`` calls this output
    :raises MissingBackendError: mlflow is not installed
    :raises ValueError: a tracking URI that MLflow refuses
    """

    name = "mlflow"
    package = "mlflow"

    def __init__(
        self,
        *,
        experiment_name: str | None = None,
        run_name: str | None = None,
        tracking_uri: str | None = None,
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        folder: str | Path | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(folder=folder, name=name)
        _check_address(tracking_uri)
        self.experiment_name = experiment_name
        self.run_name = run_name
        self.tracking_uri = tracking_uri
        self.run_id = run_id
        self.tags = tags
        self._client: Any = None
        self._tagged: set[str] = set()
        self._messages: list[str] = []

    @classmethod
    def in_folder(cls, folder: Path, **arguments: Any) -> Sender:
        # The store stands beside the runs, so that they can be compared; not so in a shared /tmp.
        beside = folder.absolute().parent
        store = folder if beside == Path(tempfile.gettempdir()) else beside
        return cls(**{"folder": store, "run_name": folder.absolute().name, **arguments})

    def active(self) -> Any:
        mlflow = sys.modules.get("mlflow")
        told = self.run_id or self.experiment_name or self.tracking_uri
        return None if mlflow is None or told else mlflow.active_run()

    def open(self) -> Any:
        with environment(**_ENVIRONMENT):
            if self.run_id:
                self.client.update_run(self.run_id, status="RUNNING")
                return self.client.get_run(self.run_id)
            experiment_id = self._experiment_id()
            return self.client.create_run(experiment_id, run_name=self.run_name, tags=dict(self.tags or {}))

    @property
    def client(self) -> Any:
        """MLflow's client for the run's store."""
        if self._client is None:
            with environment(**_ENVIRONMENT):
                from mlflow import MlflowClient

                self._client = MlflowClient(tracking_uri=self.address if self.owns_run else None)
        return self._client

    def emit(self, record: Record) -> None:
        run_id = self.run.info.run_id  # opened before anything else of MLflow is imported
        from mlflow.entities import Metric, RunTag

        milliseconds = round(record.time * 1000)
        metrics = [Metric(key, value, milliseconds, record.step) for key, value in self.taken(record).items()]
        texts = self.texts(record)
        renamed = {name: key for name, key in self.renamed().items() if name not in self._tagged}
        tags = [RunTag(f"key of {name}"[:_KEY_LENGTH], key[:_TAG_LENGTH]) for name, key in renamed.items()]
        with environment(**_ENVIRONMENT):
            for batch in _batches(metrics, _METRICS):
                self.client.log_batch(run_id, metrics=batch)
            for batch in _batches(tags, _TAGS):
                self.client.log_batch(run_id, tags=batch)
            self._tagged.update(renamed)
            for key, text in texts.items():
                path = key if len(key.encode()) <= _PATH_BYTES else with_digest(key[: _PATH_BYTES // 4], key)
                self.client.log_text(run_id, text, f"text/{path}/step_{record.step}_{milliseconds}.txt")
            self._send_messages(run_id)

    def emit_text(self, record: Record) -> None:
        # A file cannot be appended to: each holds the messages since the last dump.
        self._messages.append(message_line(record))
        if len(self._messages) >= _MESSAGES:
            with environment(**_ENVIRONMENT):
                self._send_messages(self.run.info.run_id)

    def held(self, value: float, step: int) -> float:
        return min(max(to_float(value), -_LARGEST), _LARGEST)

    def clean(self, key: str) -> str:
        parts = re.sub(r"[^/\w.\- :]", "_", key).split("/")
        return "/".join(part for part in parts if part not in ("", ".", ".."))[:_KEY_LENGTH] or "_"

    def finish(self, run: Any) -> None:
        with environment(**_ENVIRONMENT):
            self._send_messages(run.info.run_id)
            if self.owns_run:
                self.client.set_terminated(run.info.run_id, "FINISHED")

    @property
    def address(self) -> str:
        """The tracking URI: what was given, what MLflow was told, or a local store."""
        mlflow = sys.modules.get("mlflow")
        told = mlflow.get_tracking_uri() if mlflow and mlflow.is_tracking_uri_set() else None
        local = f"sqlite:///{self.local_folder / 'mlflow.db'}"
        return self.tracking_uri or told or os.environ.get("MLFLOW_TRACKING_URI") or local

    def destination(self) -> str:
        return f"local store {self.address}" if self._is_local else self.address

    def viewer(self) -> str | None:
        return f"mlflow ui --backend-store-uri {self.address}" if self._is_local else None

    def read_back(self, run: Any) -> History:
        client, run_id = self.client, run.info.run_id
        keys = client.get_run(run_id).data.metrics
        return {key: [(m.step, m.value) for m in client.get_metric_history(run_id, key)] for key in keys}

    @property
    def _is_local(self) -> bool:
        return self.address.startswith("sqlite:")

    def _experiment_id(self) -> str:
        name = self.experiment_name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "rl_logging"
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        # Without a location, MLflow puts a local store's artifacts into the current folder.
        location = f"file://{self.local_folder / 'mlartifacts'}" if self._is_local else None
        return str(self.client.create_experiment(name, artifact_location=location))

    def _send_messages(self, run_id: str) -> None:
        if self._messages:
            text = "\n".join(self._messages)
            self.client.log_text(run_id, text, f"messages/{time.time():.3f}.txt")
            self._messages.clear()


def _check_address(uri: str | None) -> None:
    """Raise for a folder, which MLflow 3 refuses as a store, unless it was told not to."""
    if uri is None or os.environ.get("MLFLOW_ALLOW_FILE_STORE") == "true":
        return
    if uri.startswith("file:") or ("://" not in uri and uri != "databricks"):
        allowed = "http://host:port, or sqlite:////folder/mlflow.db for a local file"
        raise ValueError(f"tracking_uri {uri!r} is a folder, which MLflow refuses; give {allowed}")


def _batches(entries: list[Any], size: int) -> list[list[Any]]:
    return [entries[start : start + size] for start in range(0, len(entries), size)]
