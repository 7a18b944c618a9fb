"""What MLflow knows of a run besides its values: parameters, tags, where it comes from."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rl_logging import hyperparams
from rl_logging.contents import HYPERPARAMETER, TAG
from rl_logging.formats.base import Sender, with_digest
from rl_logging.formats.mlflow_files import Files, count_files
from rl_logging.formats.mlflow_models import Models
from rl_logging.formats.mlflow_store import KEY_LENGTH, TAG_LENGTH, batches
from rl_logging.record import HYPERPARAMETERS, METRICS, PROVENANCE, TAGS, Record
from rl_logging.rich import Media
from rl_logging.values import Value, describe, to_text
from rl_logging.verdict import SKIP

_PARAMS, _PARAM_LENGTH = 100, 6000  # a request, characters
_TAGS, _TAG_NAME_LENGTH = 100, 250  # the same
_OURS = re.compile(r"mlflow\.|rl_logging\.|key of |changed ")  # how tags begin that nobody logged
_TABLES, _IMAGES = "mlflow.loggedArtifacts", "mlflow.loggedImages"  # by which MLflow's page finds them


class Facts:
    """Writes to one run what it has once, not at every step.

    :param sender: tells names, and counts what is refused
    :param params_sep: what stands between the names of nested hyperparameters
    """

    def __init__(self, sender: Sender, client: Any, run_id: str, params_sep: str) -> None:
        self._sender, self._client, self._run_id = sender, client, run_id
        self._params_sep = params_sep
        self._models = Models(sender, client, run_id)
        self._named: set[str] = set()  # the tags that say which keys were renamed

    def log(self, record: Record) -> None:
        """Write what a record has of it."""
        if record.kind == HYPERPARAMETERS:
            self._log_hyperparameters(record.values, record.step)
        elif record.kind == TAGS:
            self._log_tags(record)
        elif record.kind == PROVENANCE:
            self._log_provenance(record.values.get("provenance"))
        elif record.kind == METRICS:
            for value in record.values.values():
                if isinstance(value, Media) and value.kind == "hparam":
                    self._log_hyperparameters(value.about.get("hparams", {}), record.step)

    def log_files(self, files: Files) -> None:
        """Tell MLflow which of the files that were sent are tables, images and models."""
        tags = {_IMAGES: "True"} if files.has_images else {}
        if files.tables:
            known = self._client.get_run(self._run_id).data.tags.get(_TABLES, "[]")
            tags[_TABLES] = _with_tables(known, files.tables)
        self.set_tags(tags)
        for name, media, folder in files.models:
            self._models.register(name, media, f"runs:/{self._run_id}/{folder}")

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, each cut to what MLflow holds."""
        from mlflow.entities import RunTag

        entries = [RunTag(_tag_name(name), text[:TAG_LENGTH]) for name, text in tags.items()]
        for batch in batches(entries, _TAGS):
            self._client.log_batch(self._run_id, tags=batch)

    def name_keys(self) -> None:
        """Say as tags which keys had to be renamed."""
        renamed = {name: key for name, key in self._sender.renamed().items() if name not in self._named}
        self.set_tags({f"key of {name}": key for name, key in renamed.items()})
        self._named.update(renamed)

    # Hyperparameters

    def _log_hyperparameters(self, nested: Mapping[str, Value], step: int) -> None:
        """As parameters, which never change: a later value is a tag. The file has all as they are now."""
        from mlflow.entities import Param

        self._merge_file(nested)
        flat = hyperparams.flatten(nested, self._params_sep)
        params = {self._sender.rename(name): to_text(leaf)[:_PARAM_LENGTH] for name, leaf in flat.items()}
        found = self._client.get_run(self._run_id).data
        new = [Param(name, text) for name, text in params.items() if name not in found.params]
        for batch in batches(new, _PARAMS):
            self._log_params(batch, step)
        changed = {
            f"changed {name}": text
            for name, text in params.items()
            if found.params.get(name, text) != text or _tag_name(f"changed {name}") in found.tags
        }
        self.set_tags(changed)

    def _log_params(self, params: list[Any], step: int) -> None:
        """Log parameters; those that are refused are narrowed down to."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(self._run_id, params=params)
        except MlflowException as error:
            if self._sender.verdict(error) != SKIP:
                raise
            if len(params) == 1:
                reason = f"{hyperparams.FILE_NAME} among the artifacts has it: {describe(error)}"
                self._sender.refuse(params[0].key, step, reason)
                return
            middle = len(params) // 2
            for part in (params[:middle], params[middle:]):
                self._log_params(part, step)

    def _merge_file(self, nested: Mapping[str, Value]) -> None:
        with tempfile.TemporaryDirectory(prefix="rl_logging-") as folder:
            if any(file.path == hyperparams.FILE_NAME for file in self._client.list_artifacts(self._run_id)):
                self._client.download_artifacts(self._run_id, hyperparams.FILE_NAME, folder)
            try:
                path = hyperparams.save(Path(folder), nested)
            except ValueError:  # what is there is somebody else's
                Path(folder, hyperparams.FILE_NAME).unlink(missing_ok=True)
                path = hyperparams.save(Path(folder), nested)
            self._client.log_artifact(self._run_id, str(path))

    # Tags, and where the run comes from

    def _log_tags(self, record: Record) -> None:
        tags = {self._sender.rename(name): to_text(text) for name, text in record.values.items()}
        self.set_tags(tags)
        with Files(self._sender) as files:
            for name, text in tags.items():
                if len(text) > TAG_LENGTH:
                    files.put_tag(name, text)
            files.send(self._client, self._run_id)

    def _log_provenance(self, facts: Value) -> None:
        if not isinstance(facts, dict):
            return
        git = facts.get("git") or {}
        dirty = git.get("is_dirty")
        tags = {
            "mlflow.source.name": facts.get("script") or facts.get("command"),
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": git.get("commit"),
            "mlflow.source.git.branch": git.get("branch"),
            "mlflow.source.git.repoURL": git.get("remote"),
            "mlflow.source.git.dirty": None if dirty is None else str(dirty).lower(),
            "mlflow.user": facts.get("user"),
        }
        kept = self._client.get_run(self._run_id).data.tags if self._sender.joins() else {}
        self.set_tags({name: to_text(v) for name, v in tags.items() if v is not None and name not in kept})


def count_all(client: Any, run_id: str, given: Mapping[str, str]) -> dict[str, int]:
    """How much of each kind but numbers a run has.

    :param given: tags that it was opened with
    """
    data = client.get_run(run_id).data
    tags = sum(_is_logged(name) and name not in given for name in data.tags)
    counts = {**count_files(client, run_id), HYPERPARAMETER: len(data.params), TAG: tags}
    return {kind: number for kind, number in counts.items() if number}


def counted(record: Record) -> Record:
    """The record without the tags that stand for something else in MLflow, such as a run's name."""
    if record.kind != TAGS:
        return record
    return replace(record, values={name: text for name, text in record.values.items() if _is_logged(name)})


def _is_logged(tag: str) -> bool:
    """Whether a tag is none of those that MLflow, or this package, gives a run."""
    return _OURS.match(tag) is None


def _tag_name(name: str) -> str:
    """The name of a tag that begins with words of ours, within MLflow's limit."""
    return name if len(name) <= _TAG_NAME_LENGTH else with_digest(name[:KEY_LENGTH], name)


def _with_tables(known: str, tables: list[str]) -> str:
    """The tag that lists tables, with more of them; those that it has no room for are files only."""
    try:
        listed = json.loads(known)
    except ValueError:
        listed = []
    for path in tables:
        entry = {"path": path, "type": "table"}
        if entry not in listed and len(json.dumps([*listed, entry])) <= TAG_LENGTH:
            listed.append(entry)
    return json.dumps(listed)
