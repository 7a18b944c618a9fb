"""Reaching an MLflow store: its address, and limits on how long it is waited for."""

import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rl_logging.formats.bounds import environment, is_home

KEY_LENGTH = 250 - len("-12345678")  # MLflow's limit, less what a changed key gets
TAG_LENGTH = 5000  # characters: the REST API's limit
_MARK = "mlflow.rl_logging.opened"  # hidden on MLflow's page; finds a run whose maker got no answer
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # it would do twice what takes effect without an answer
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def settings() -> AbstractContextManager[None]:
    """MLflow's variables; without a limit one call to a mute server takes twenty minutes."""
    return environment(**_ENVIRONMENT, MLFLOW_HTTP_REQUEST_TIMEOUT="30" if is_home() else "5")


def connect(address: str | None) -> Any:
    """MLflow's client for a store; None is the one that MLflow itself was told of."""
    from mlflow import MlflowClient

    if address is not None:
        make_store(address)
    return MlflowClient(tracking_uri=address)


def open_run(
    client: Any, experiment: str, location: str | None, mark: str, name: str | None, tags: Mapping[str, str]
) -> Any:
    """Open a run, or find the one that was opened with the same mark: the answer may have been lost.

    :param location: where the artifacts of a new experiment go
    """
    found = client.get_experiment_by_name(experiment)
    identity = client.create_experiment(experiment, location) if found is None else found.experiment_id
    runs = client.search_runs([str(identity)], f"tags.`{_MARK}` = '{mark}'", max_results=1)
    return runs[0] if runs else client.create_run(str(identity), run_name=name, tags={**tags, _MARK: mark})


def make_store(address: str) -> None:
    """Make a local store that is not there yet: whole, or not at all.

    MLflow takes seconds to make one, and never opens one whose maker was killed meanwhile, or
    that two processes made at once: "table … already exists".
    """
    path = Path(address.removeprefix("sqlite:///").partition("?")[0])
    if not address.startswith("sqlite:///") or path.exists() or not path.parent.is_dir():
        return
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as folder:
        draft = Path(folder, "mlflow.db")
        MlflowClient(tracking_uri=f"sqlite:///{draft}").search_experiments(max_results=1)
        try:
            os.link(draft, path)
        except OSError:  # somebody else was faster, or this file system has no links
            if not path.exists():
                draft.rename(path)


def check_address(uri: str | None) -> None:
    """Raise for a folder, which MLflow 3 refuses as a store, unless it was told not to."""
    if uri is None or os.environ.get("MLFLOW_ALLOW_FILE_STORE") == "true":
        return
    if uri.startswith("file:") or ("://" not in uri and uri != "databricks"):
        allowed = "http://host:port, or sqlite:////folder/mlflow.db for a local file"
        raise ValueError(f"tracking_uri {uri!r} is a folder, which MLflow refuses; give {allowed}")


def clean_key(key: str) -> str:
    """A key with what MLflow refuses replaced."""
    parts = re.sub(r"[^/\w.\- :]|(?:^|(?<=/))\.\.(?=[^/])", "_", key).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))[:KEY_LENGTH] or "_"


def batches(entries: list[Any], size: int) -> list[list[Any]]:
    return [entries[start : start + size] for start in range(0, len(entries), size)]
