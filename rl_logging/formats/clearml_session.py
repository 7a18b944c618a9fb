"""What ClearML finds on the disk and in the environment: sessions, credentials, other processes' tasks.

An offline session is a folder, and the archive of it that closing the task makes.
"""

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rl_logging.formats.base import History
from rl_logging.formats.sessions import aside, set_aside, stands

_METRICS, _LOG, _TASK = "metrics.jsonl", "log.jsonl", "task.json"
_MARKS = {_METRICS: b'"type": "training_stats_scalar"', _LOG: b"[step "}  # one a number, one a line of ours

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

    def has(self, numbers: int, lines: int) -> bool:
        """Whether so many numbers and lines of text are written; only what is new is read."""
        for name, mark in _MARKS.items():
            with contextlib.suppress(FileNotFoundError), (self.folder / name).open("rb") as file:
                file.seek(self._positions[name])
                whole = file.read().rpartition(b"\n")[0]
                self._counts[name] += whole.count(mark)
                self._positions[name] += len(whole)
        return self._counts[_METRICS] >= numbers and self._counts[_LOG] >= lines

    def points(self) -> History:
        """The numbers, as far as their lines are whole."""
        points: History = {}
        for event in self._events():
            if event.get("type") == "training_stats_scalar":
                key = f"{event['metric']}/{event['variant']}"
                points.setdefault(key, []).append((event["iter"], event["value"]))
        return points

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
        about = next(filter(_is_task, (_text(place, _TASK) for place in places)), None)
        set_aside(name, self.folder)
        set_aside(name, self.archive)
        if about is not None:
            self.folder.mkdir(parents=True)
            (self.folder / _TASK).write_text(about, "utf-8")

    def _events(self) -> Iterator[dict[str, Any]]:
        for line in (_text(self.folder, _METRICS) or _text(self.archive, _METRICS)).splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # a torn last line
                yield from json.loads(line)


def is_offline() -> bool:
    """Whether the environment keeps ClearML offline; with no credentials it does."""
    told = os.environ.get("CLEARML_OFFLINE_MODE")
    return told not in ("0", "false", "False") if told else not _has_credentials()


@contextlib.contextmanager
def seed_kept(task: Any) -> Iterator[None]:
    """Keep ClearML's ``init`` from seeding the program's random numbers."""
    seed = task._random_seed
    task.set_random_seed(None)
    try:
        yield
    finally:
        task.set_random_seed(seed)


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


def _is_task(text: str) -> bool:
    try:
        return "id" in json.loads(text)
    except json.JSONDecodeError:
        return False
