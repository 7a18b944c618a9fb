"""MLflow's model registry: a version for each model that was delivered with a run."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rl_logging.formats.base import Sender, with_digest
from rl_logging.formats.mlflow_store import KEY_LENGTH, TAG_LENGTH
from rl_logging.rich import Media
from rl_logging.values import describe
from rl_logging.verdict import RETRY, of_status

_NO_REGISTRY = ("FEATURE_DISABLED", "NOT_IMPLEMENTED")
_TRIES = 5  # of a registry that fails where all else goes well


class Models:
    """The models of a run. A store without a registry holds their files alone."""

    def __init__(self, sender: Sender, client: Any, run_id: str) -> None:
        self._sender, self._client, self._run_id = sender, client, run_id
        self._failures = 0

    def register(self, name: str, media: Media, source: str) -> None:
        """Make a model's files a version of it, and give that its aliases; not twice.

        :param source: where the files are
        """
        model, version = _model_name(name), ""
        with self._unless_refused(name):
            version = self._version(model, media, source)
        for alias in _aliases(media) if version else []:
            with self._unless_refused(f"{name}@{alias}"):
                self._client.set_registered_model_alias(model, alias, version)

    def _version(self, model: str, media: Media, source: str) -> str:
        """The version that these files are: made now, unless they were delivered before."""
        for known in self._client.search_model_versions(f"run_id = '{self._run_id}'"):
            if (known.name, known.source) == (model, source):
                return str(known.version)
        self._make(model)
        about = {name: media.about[name] for name in ("size", "sha256", "metadata") if name in media.about}
        tags = {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}
        made = self._client.create_model_version(
            model,
            source,
            self._run_id,
            tags={name: text[:TAG_LENGTH] for name, text in tags.items()},
            await_creation_for=0,
        )
        return str(made.version)

    def _make(self, model: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @contextmanager
    def _unless_refused(self, what: str) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            if error.error_code not in _NO_REGISTRY and of_status(error.get_http_status_code()) == RETRY:
                self._failures += 1
                if self._failures < _TRIES:
                    raise
            told = f"{self._sender.name}: its files are there, but the model registry refuses {what!r}"
            self._sender.trouble.tell(f"registry {what}", f"{told}: {describe(error)}")


def _aliases(media: Media) -> list[str]:
    """The aliases to set; MLflow itself calls the newest version ``latest``."""
    return [alias for alias in media.about.get("aliases", ()) if alias.lower() != "latest"]


def _model_name(name: str) -> str:
    """An artifact's name as the registry takes it."""
    model = re.sub(r"[^\w.\- ]", "_", name)[:KEY_LENGTH].strip(" .") or "_"
    return model if model == name else with_digest(model, name)
