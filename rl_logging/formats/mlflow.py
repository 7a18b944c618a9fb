"""MLflow: one request a dump, to a server or to a local SQLite store."""

import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_logging.formats.base import History, Sender
from rl_logging.formats.mlflow_facts import Facts, count_all, counted
from rl_logging.formats.mlflow_files import Files, milliseconds, shown_figures
from rl_logging.formats.mlflow_store import batches, check_address, clean_key, connect, open_run, settings
from rl_logging.formats.tracker import Tracker, message_line
from rl_logging.record import METRICS, TEXT, Record
from rl_logging.values import to_float, without_users
from rl_logging.verdict import PARK, RETRY, SKIP, of_status

_METRICS = 1000  # a request: the REST API's limit
_MESSAGES = 100  # a file, at most
_LARGEST = sys.float_info.max  # what MLflow's stores make of an infinity
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


class MLflowSender(Tracker):
    """Write records to an MLflow run.

    What is no number is among the run's artifacts (see :mod:`rl_logging.formats.mlflow_files`),
    its parameters and tags, or the model registry. Of a histogram, the mean, the standard
    deviation and the ends are metrics.

    :param experiment_name: by default ``$MLFLOW_EXPERIMENT_NAME``, else ``rl_logging``
    :param run_name: by default MLflow makes one up
    :param tracking_uri: by default what ``mlflow.set_tracking_uri`` or
        ``$MLFLOW_TRACKING_URI`` says, else ``mlflow.db`` in ``folder``
    :param run_id: a run to continue
    :param tags: tags of a new run
    :param params_sep: what stands between the names of nested hyperparameters
    :param folder: where a local store is kept; by default the current folder
    :param name: what ``exclude`` calls this output
    :raises MissingBackendError: mlflow is not installed
    :raises ValueError: a tracking URI that MLflow refuses
    """

    name = "mlflow"
    package = "mlflow"
    batches = True

    def __init__(
        self,
        *,
        experiment_name: str | None = None,
        run_name: str | None = None,
        tracking_uri: str | None = None,
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        params_sep: str = "/",
        folder: str | Path | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(folder=folder, name=name)
        check_address(tracking_uri)
        self.experiment_name = experiment_name
        self.run_name = run_name
        self.tracking_uri = tracking_uri
        self.run_id = run_id
        self.tags = tags
        self.params_sep = params_sep
        self._client: Any = None
        self._mark = os.urandom(8).hex()
        self._facts: Facts | None = None
        self._messages: list[Record] = []

    @classmethod
    def in_folder(cls, folder: Path, /, **arguments: Any) -> Sender:
        # The store stands beside the runs, so that they can be compared; not so in a shared /tmp.
        beside = folder.absolute().parent
        store = folder if beside == Path(tempfile.gettempdir()) else beside
        return cls(**{"folder": store, "run_name": folder.absolute().name, **arguments})

    def active(self) -> Any:
        mlflow = sys.modules.get("mlflow")
        told = self.run_id or self.experiment_name or self.tracking_uri
        return None if mlflow is None or told else mlflow.active_run()

    def local_arguments(self) -> dict[str, Any]:
        return {"tracking_uri": self._local_store}

    def joined(self) -> dict[str, Any] | None:
        return {**self.resolved(), "run_id": self.active().info.run_id}

    def resolved(self) -> dict[str, Any]:
        told = None if self.address == self._local_store else self.address
        experiment = self.experiment_name or os.environ.get("MLFLOW_EXPERIMENT_NAME")
        return {**self.arguments(), "tracking_uri": told, "experiment_name": experiment}

    def open(self) -> Any:
        with settings():
            run_id = self.located.get("run_id") or self.run_id
            if run_id:
                if not self.leave_open:
                    self.client.update_run(run_id, status="RUNNING")
                return self.client.get_run(run_id)
            name = self.experiment_name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "rl_logging"
            # Without a location, MLflow puts a local store's artifacts into the current folder.
            location = f"file://{self.local_folder / 'mlartifacts'}" if self._is_local else None
            return open_run(self.client, name, location, self._mark, self.run_name, self.tags or {})

    @property
    def client(self) -> Any:
        """MLflow's client for the run's store."""
        if self._client is None:
            with settings():
                ours = self.owns_run or self.leave_open
                self._client = connect(self.address if ours else None)
        return self._client

    def handle(self, record: Record) -> None:
        self.handle_all([record.without(self.name)])

    def handle_all(self, records: Sequence[Record]) -> None:
        """Take several records in as few requests as MLflow's limits allow."""
        run_id = self.run.info.run_id  # opened before anything else of MLflow is imported
        from mlflow.entities import Metric

        metrics = [
            Metric(key, value, milliseconds(record), record.step)
            for record in records
            if record.kind == METRICS
            for key, value in self.taken(record).items()
        ]
        with settings():
            self._facts = self._facts or Facts(self, self.client, run_id, self.params_sep)
            for batch in batches(metrics, _METRICS):
                self.client.log_batch(run_id, metrics=batch)
            self._send_files(run_id, self._facts, records)
            for record in records:
                self._facts.log(record)
            self._facts.name_keys()
            self._send_messages(run_id, [record for record in records if record.kind == TEXT])

    def numbers(self, record: Record) -> dict[str, float]:
        shown = shown_figures(record).items()
        figures = {self.rename(key): self.held(figure, record.step) for key, figure in shown}
        return {**figures, **super().numbers(record)}

    def held(self, value: float, step: int) -> float:
        return min(max(to_float(value), -_LARGEST), _LARGEST)

    def clean(self, key: str) -> str:
        return clean_key(key)

    def finish(self, run: Any, status: str) -> None:
        with settings():
            self._send_messages(run.info.run_id, [])
            if self.owns_run:
                self.client.set_terminated(run.info.run_id, _STATUS[status])

    def verdict(self, error: Exception) -> str:
        from mlflow.exceptions import MlflowException

        if not isinstance(error, MlflowException):
            return super().verdict(error)
        judged = of_status(error.get_http_status_code())
        if judged != SKIP:
            return judged
        if self._is_local and error.error_code != "INVALID_PARAMETER_VALUE":
            return PARK  # the store's own trouble
        return self._verdict_of_refusal()

    def _verdict_of_refusal(self) -> str:
        """Whether a value is refused, or the run, which MLflow answers in the same way."""
        from mlflow.exceptions import MlflowException

        if not self.is_open:
            return PARK
        try:
            with settings():
                stage = self.client.get_run(self.run.info.run_id).info.lifecycle_stage
        except MlflowException:
            return RETRY  # nothing is answered: it is not the value
        return SKIP if stage == "active" else PARK

    def service(self) -> str:
        return "local" if self.address == self._local_store else without_users(self.address)

    def reference(self) -> dict[str, Any]:
        return {} if self._run is None else {"run_id": self._run.info.run_id}

    def url(self) -> str:
        if self._run is None or not self.address.startswith("http"):
            return without_users(self.address)
        info = self._run.info
        page = f"experiments/{info.experiment_id}/runs/{info.run_id}"
        # Without the word, MLflow 3 shows the page that it has for language models.
        return f"{without_users(self.address)}/#/{page}?workflowType=machine_learning"

    @property
    def address(self) -> str:
        """The tracking URI: what was given, what MLflow was told, or a local store."""
        mlflow = sys.modules.get("mlflow")
        told = mlflow.get_tracking_uri() if mlflow and mlflow.is_tracking_uri_set() else None
        return self.tracking_uri or told or os.environ.get("MLFLOW_TRACKING_URI") or self._local_store

    @property
    def _local_store(self) -> str:
        return f"sqlite:///{self.local_folder / 'mlflow.db'}"

    def destination(self) -> str:
        return f"local store {self.address}" if self._is_local else without_users(self.address)

    def viewer(self) -> str | None:
        return f"mlflow ui --backend-store-uri {self.address}" if self._is_local else None

    def read_back(self, reference: Mapping[str, Any]) -> History:
        client, run_id = self.client, reference["run_id"]
        keys = client.get_run(run_id).data.metrics
        return {key: [(m.step, m.value) for m in client.get_metric_history(run_id, key)] for key in keys}

    def contents(self) -> dict[str, int]:
        reference = self.reference() or self.located
        with settings():
            return count_all(self.client, reference["run_id"], self.tags or {}) if reference else {}

    def expected_contents(self, records: Iterable[Record]) -> dict[str, int]:
        return super().expected_contents(map(counted, records))

    @property
    def _is_local(self) -> bool:
        return self.address.startswith("sqlite:")

    def _send_files(self, run_id: str, facts: Facts, records: Sequence[Record]) -> None:
        with Files(self) as files:
            for record in records:
                files.put(record)
            files.send(self.client, run_id)
            facts.log_files(files)

    def _send_messages(self, run_id: str, records: Sequence[Record]) -> None:
        """Write messages as a file, since a file cannot be appended to; sent again, it replaces itself."""
        waiting = [*self._messages, *records]
        numbered = bool(waiting) and waiting[0].seq > 0  # by a journal, from which they come in batches
        if waiting and (numbered or not records or len(waiting) >= _MESSAGES):
            name = f"{waiting[0].seq:08}" if numbered else f"{waiting[0].time:.3f}"
            self.client.log_text(run_id, "\n".join(map(message_line, waiting)), f"messages/{name}.txt")
            waiting = []
        self._messages = waiting
