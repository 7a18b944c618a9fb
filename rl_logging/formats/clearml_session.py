"""What ClearML finds on the disk and in the environment: sessions, credentials, other processes' tasks.

An offline session is a folder, and the archive of it that closing the task makes.
"""

import contextlib
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rl_logging.contents import FIGURE, HISTOGRAM, HYPERPARAMETER, IMAGE, KINDS, TABLE, TAG, TEXT, VIDEO
from rl_logging.formats.base import History
from rl_logging.formats.sessions import aside, set_aside, stands
from rl_logging.formats.tracker import FINISHED, KILLED

PARAMETERS, PROPERTIES = "General", "properties"  # ClearML's own names of sections
KIND = "kind"  # in an artifact's metadata: the kind of value that it is, or stands for

_METRICS, _LOG, _TASK = "metrics.jsonl", "log.jsonl", "task.json"
_SCALAR, _PLOT, _SAMPLE = "training_stats_scalar", "plot", "training_debug_image"
_MARKS = {_METRICS: b'"type": "', _LOG: b"[step "}  # one an event, one a line of ours
_TEXT_LINE = re.compile(r"\[step -?\d+\] (?!(debug|info|warn|error): )")  # and no message's
_DELIVERED = ("hyperparams", "configuration", "script")  # of a task, what records bring

_FRAMEWORKS = (
    *("catboost", "fastai", "gradio", "hydra", "joblib", "lightgbm", "matplotlib", "megengine"),
    *("pytorch", "scikit", "tensorboard", "tensorflow", "tfdefines", "xgboost"),
)
NOTHING_AUTOMATIC = {
    # A look at the repository and at all that is imported may take minutes, for which close() waits.
    "auto_connect_frameworks": {"detect_repository": False, **dict.fromkeys(_FRAMEWORKS, False)},
    "auto_connect_arg_parser": False,
    "auto_connect_streams": False,
    "auto_resource_monitoring": False,
    "reuse_last_task_id": False,
    "output_uri": False,
}
# One retry, because Task.init waits for 240; threads, because the reporting process that it
# forks makes close() take minutes.
_RETRIES = dict.fromkeys(("total", "connect", "read", "redirect", "status"), 1)
_OVERRIDES = {
    "sdk": {"development": {"report_use_subprocess": False, "store_uncommitted_code_diff": False}},
    "api": {"http": {"retries": {**_RETRIES, "backoff_factor": 1.0, "backoff_max": 5.0}}},
}
# With these, which a process above this one may have set, ClearML would join that one's task.
_PARENTS_TASK = ("CLEARML_PROC_MASTER_ID", "TRAINS_PROC_MASTER_ID")


class ClearMLSession:
    """What of a task is on the disk.

    :param folder: the session's folder; it may be missing, still be written, or be torn by a kill
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.archive = self.folder.with_name(f"{self.folder.name}.zip")
        self._counts = dict.fromkeys(_MARKS, 0)
        self._positions = dict.fromkeys(_MARKS, 0)

    def has(self, events: int, lines: int) -> bool:
        """Whether so many events and lines of text are written; only what is new is read.

        The file of an event is written before it.
        """
        for name, mark in _MARKS.items():
            with contextlib.suppress(FileNotFoundError), (self.folder / name).open("rb") as file:
                file.seek(self._positions[name])
                whole = file.read().rpartition(b"\n")[0]
                self._counts[name] += whole.count(mark)
                self._positions[name] += len(whole)
        return self._counts[_METRICS] >= events and self._counts[_LOG] >= lines

    def points(self) -> History:
        """The numbers, as far as their lines are whole."""
        points: History = {}
        for event in self._events(_METRICS):
            if event.get("type") == _SCALAR:
                key = f"{event['metric']}/{event['variant']}"
                points.setdefault(key, []).append((event["iter"], event["value"]))
        return points

    def contents(self) -> dict[str, int]:
        """How much of each kind but numbers is in it; what has lost its file is not."""
        files, task = self._files(), _loaded(_text(self.folder, _TASK) or _text(self.archive, _TASK))
        found = Counter(_shown(event, files) for event in self._events(_METRICS))
        for artifact in task.get("execution", {}).get("artifacts") or ():
            if artifact["uri"].partition(f"/{self.folder.name}/")[2] in files:
                found[dict(artifact.get("display_data") or ()).get(KIND, "")] += 1
        lines = "\n".join(event["msg"] for event in self._events(_LOG)).split("\n")
        sections = task.get("hyperparams", {})
        found[TEXT] += sum(map(bool, map(_TEXT_LINE.match, lines)))
        found[HYPERPARAMETER] += len(sections.get(PARAMETERS, ()))
        found[TAG] += len(sections.get(PROPERTIES, ()))
        return {kind: found[kind] for kind in KINDS if found[kind]}

    @property
    def stands(self) -> bool:
        """Whether it is on the disk, or was when it began to be replaced."""
        return stands(self.folder) or stands(self.archive)

    @property
    def can_be_continued(self) -> bool:
        """Whether ClearML would go on with its task."""
        return (self.folder / _TASK).exists()

    def replace(self, name: str) -> None:
        """Begin it again: what is there is set aside, but for what the task is called."""
        places = (self.folder, self.archive, aside(self.folder), aside(self.archive))
        tasks = [task for place in places if "id" in (task := _loaded(_text(place, _TASK)))]
        set_aside(name, self.folder)
        set_aside(name, self.archive)
        if tasks:
            about = {key: value for key, value in tasks[0].items() if key not in _DELIVERED}
            about["execution"] = {**about.get("execution", {}), "artifacts": []}
            self.folder.mkdir(parents=True)
            (self.folder / _TASK).write_text(json.dumps(about), "utf-8")

    def _events(self, name: str) -> Iterator[dict[str, Any]]:
        for line in (_text(self.folder, name) or _text(self.archive, name)).splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # a torn last line
                yield from json.loads(line)

    def _files(self) -> set[str]:
        """The names of the files in it."""
        if self.folder.is_dir():
            return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*")}
        try:
            with zipfile.ZipFile(self.archive) as archive:
                return set(archive.namelist())
        except (FileNotFoundError, zipfile.BadZipFile):
            return set()


def is_offline() -> bool:
    """Whether the environment keeps ClearML offline; with no credentials it does."""
    told = os.environ.get("CLEARML_OFFLINE_MODE")
    return told not in ("0", "false", "False") if told else not _has_credentials()


@contextlib.contextmanager
def task_class(is_offline: bool) -> Iterator[Any]:
    """ClearML's ``Task``, made to start no process, to wait for no server for long, and to seed nothing."""
    from clearml import Task
    from clearml.config import config_obj
    from clearml.utilities.check_updates import CheckPackageUpdates

    config_obj.set_overrides(_OVERRIDES)
    CheckPackageUpdates._package_version_checked = True  # else a thread asks its server
    if is_offline:
        Task.set_offline(offline_mode=True)
    seed = Task._random_seed
    Task.set_random_seed(None)
    try:
        yield Task
    finally:
        Task.set_random_seed(seed)


def mark_ended(task: Any, status: str) -> None:
    """Say how a run ended, on the server."""
    if status == KILLED:
        task.stopped(force=True, status_reason="training was killed")
    elif status != FINISHED:
        task.mark_failed(force=True, status_reason="training failed")


def forget_parents_task() -> None:
    """Leave the task of a process above this one to that process."""
    for mark in _PARENTS_TASK:
        if not os.environ.get(mark, "").startswith(f"{os.getpid()}:"):
            os.environ.pop(mark, None)


def _has_credentials() -> bool:
    """Whether ClearML would find credentials, as it looks for them."""
    if os.environ.get("CLEARML_API_ACCESS_KEY"):
        return True
    return Path(os.environ.get("CLEARML_CONFIG_FILE", "~/clearml.conf")).expanduser().is_file()


def _text(place: Path, name: str) -> str:
    """A file of a session's folder or archive; empty if it is not there."""
    try:
        if place.suffix != ".zip":
            return (place / name).read_text("utf-8")
        with zipfile.ZipFile(place) as archive:
            return archive.read(name).decode("utf-8")
    except (FileNotFoundError, KeyError, zipfile.BadZipFile):
        return ""


def _loaded(text: str) -> dict[str, Any]:
    """A task; empty where it is torn or was never written."""
    try:
        return dict(json.loads(text))
    except json.JSONDecodeError:
        return {}


def _shown(event: dict[str, Any], files: set[str]) -> str:
    """The kind of value that an event shows; empty for a number, and without its file."""
    if event["type"] == _SAMPLE and f"data/{event.get('key')}" in files:
        return VIDEO if event["key"].endswith(".mp4") else IMAGE
    if event["type"] != _PLOT:
        return ""
    plot = json.loads(event["plot_str"])
    if plot.get("layout", {}).get("images"):
        return FIGURE
    return TABLE if any(part.get("type") == "table" for part in plot.get("data", ())) else HISTOGRAM
