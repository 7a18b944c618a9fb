"""What a ClearML task keeps of a run as a whole: parameters, tags, artifacts, models, provenance.

All of it is on the disk, or on the server, when a function returns, and may be given again:
what has the same name is replaced.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rl_logging.contents import MODEL, kind_of_value
from rl_logging.formats.base import with_digest
from rl_logging.formats.clearml_session import KIND, PARAMETERS
from rl_logging.hyperparams import flatten
from rl_logging.rich import Media
from rl_logging.values import Value, to_plain

_VALUE_LENGTH = 10_000  # of a parameter; ClearML's server keeps a task in one document of 16 MiB
_TAG_LENGTH = 100
_DIFF_LENGTH = 500_000  # ClearML's own limit
_NAME_BYTES = 100  # of a name that becomes a folder's; ClearML joins two of them to a file's
_NAME = re.compile(r"\w([\w ./()\[\]:=@,+%-]*[\w.)\]%])?")


def folder_name(name: str) -> str:
    """A name that ClearML can make a folder of, and that no other name shares."""
    # A slash becomes ".slash.", other signs become less.
    length = len(re.sub(r"[^\w .-]", ".slash.", name).encode())
    if length <= _NAME_BYTES and _NAME.fullmatch(name):
        return name
    return with_digest(re.sub(r"[^\w.-]+", "_", name)[:20].strip("._"), name)


def upload(task: Any, key: str, content: Path | Value, facts: Mapping[str, Any]) -> None:
    """Add an artifact, in place of one with the same key.

    :param content: a file or folder, or a plain value, which becomes JSON
    :param facts: its metadata
    :raises RuntimeError: ClearML has not taken it
    :raises OSError: it cannot be copied
    """
    if isinstance(content, Path) and content.is_dir() and len(quote(content.name)) > _NAME_BYTES:
        content = (
            content.parent
        )  # which has a shorter name, and holds nothing else: ClearML's archive is named so
    try:
        taken = task.upload_artifact(key, content, metadata=dict(facts), wait_on_upload=True)
    except ValueError as error:  # no fault of the values: ClearML raises it where a server fails
        raise RuntimeError(f"ClearML has not taken the artifact {key!r}: {error}") from error
    if not taken:
        raise RuntimeError(f"ClearML has not taken the artifact {key!r}")


def add_parameters(task: Any, nested: Mapping[str, Value], section: str = PARAMETERS) -> None:
    """Add hyperparameters; where one is too long, the whole goes into an artifact, too."""
    nested = to_plain(dict(nested))  # without integers that Python refuses to print
    given = flatten(_with_texts(nested))
    shown = {name: _short(value) for name, value in given.items()}
    task.update_parameters({f"{section}/{name}": value for name, value in shown.items()})
    if any(value is not given[name] for name, value in shown.items()):
        digest = hashlib.sha256(json.dumps(nested).encode()).hexdigest()[:8]
        upload(task, f"hyperparameters/{digest}", nested, {KIND: "hyperparameters"})


def add_tags(task: Any, tags: Mapping[str, str]) -> None:
    """Add tags, as ``name: text``, and as the task's properties, whose texts may be long."""
    kept = [tag for tag in task.get_tags() or () if tag.partition(": ")[0] not in tags]
    new = [f"{name}: {text}"[:_TAG_LENGTH] for name, text in tags.items()]
    task.set_tags([*kept, *new])
    task.set_user_properties(*({"name": name or "_", "value": text} for name, text in tags.items()))


def add_artifacts(task: Any, artifacts: Mapping[str, Media], step: int) -> list[str]:
    """Add files and folders, each version under a name of its own: ``policy/step_2000``.

    :return: the names of those whose files are gone
    """
    paths = {name: existing(media) for name, media in artifacts.items()}
    for name, path in paths.items():
        if path is None:
            continue
        about, kind = artifacts[name].about, kind_of_value(artifacts[name])
        key, aliases = folder_name(f"{name}/{path.parent.name}"), list(about.get("aliases", ()))
        metadata = {f"metadata/{fact}": value for fact, value in flatten(about.get("metadata", {})).items()}
        facts = {KIND: kind, "name": name, "step": step, "aliases": ", ".join(aliases)}
        facts |= {fact: about[fact] for fact in ("type", "sha256") if fact in about}
        upload(task, key, path, facts | metadata)
        if kind == MODEL and not task.is_offline():  # offline, ClearML's registry raises
            _register(task, key, path, aliases, facts | metadata)
    return [name for name, path in paths.items() if path is None]


def add_provenance(task: Any, values: Mapping[str, Value], *, owns_task: bool) -> None:
    """Add what produced the run: the script section, a configuration object, and the files.

    :param owns_task: whether the script section is ours to write; ClearML itself fills a user's
    """
    about: dict[str, Any] = values.get("provenance", {})
    found = {name: existing(media) for name, media in values.items() if isinstance(media, Media)}
    paths = {name: path for name, path in found.items() if path is not None}
    text = json.dumps(about, indent=2, ensure_ascii=False)
    task.set_configuration_object("provenance", config_text=text, config_type="json")
    if owns_task:
        task._update_script(_script(about, paths))
    for name, path in paths.items():
        upload(task, folder_name(f"provenance/{name}"), path, {KIND: "provenance"})


def existing(media: Media) -> Path | None:
    """Where a file or folder is, if it is there."""
    try:
        path = media.path
    except ValueError:  # a place outside of the run folder, which somebody wrote into the journal
        return None
    return path if path is not None and path.exists() else None


def _with_texts(nested: Mapping[str, Value]) -> dict[str, Value]:
    """The lists as ClearML keeps them: each is one parameter, a text."""
    texts = {
        name: json.dumps(value, ensure_ascii=False)
        for name, value in nested.items()
        if isinstance(value, list)
    }
    dicts = {name: _with_texts(value) for name, value in nested.items() if isinstance(value, dict)}
    return {**nested, **texts, **dicts}


def _short(value: Value) -> Value:
    is_long = isinstance(value, str) and len(value) > _VALUE_LENGTH
    return f"{value[:_VALUE_LENGTH]}…" if is_long else value


def _script(about: Mapping[str, Any], paths: Mapping[str, Path]) -> dict[str, Any]:
    """ClearML's script section."""
    git, script = about.get("git", {}), Path(about.get("script", ""))
    inside = git and script.is_relative_to(git.get("root", "/"))
    diff, packages = (
        paths[name].read_text("utf-8", "replace") if name in paths else ""
        for name in ("uncommitted", "packages")
    )
    if len(diff) > _DIFF_LENGTH:
        diff = "# too long to be shown here; it is the artifact provenance/uncommitted\n"
    return {
        "repository": git.get("remote", ""),
        "branch": git.get("branch", ""),
        "version_num": git.get("commit", ""),
        "diff": diff,
        "working_dir": "." if inside else about.get("working_folder", "."),
        "entry_point": (script.relative_to(git.get("root", "/")) if inside else script).as_posix(),
        "binary": f"python{about.get('python', '').rpartition('.')[0]}",
        "requirements": {"pip": packages},
    }


def _register(task: Any, name: str, path: Path, aliases: list[str], facts: Mapping[str, Any]) -> None:
    """Put a model into ClearML's registry, unless it is there."""
    from clearml import OutputModel

    if any(model.name == name for model in task.models["output"]):
        return
    model = OutputModel(task=task, name=name, tags=aliases, comment=json.dumps(facts, ensure_ascii=False))
    place = task.get_logger().get_default_upload_destination()
    model.update_weights(
        str(path), upload_uri=place, iteration=facts["step"], auto_delete_file=False, async_enable=False
    )
