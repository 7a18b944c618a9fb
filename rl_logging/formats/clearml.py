"""ClearML: one call a number, since it has no other; offline where there is no account."""

import contextlib
import json
import math
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rl_logging.formats.base import History, Sender, with_digest
from rl_logging.formats.tracker import Tracker, check_init, environment, message_line, quiet, unpatched
from rl_logging.record import Record
from rl_logging.values import to_float

_TITLE = "metrics"  # of a key without a slash
# With these, which a process above this one may have set, ClearML would join that one's task.
_PARENTS_TASK = ("CLEARML_PROC_MASTER_ID", "TRAINS_PROC_MASTER_ID")
_RETRIES = dict.fromkeys(("total", "connect", "read", "redirect", "status"), 1)
# One retry, because Task.init waits for 240; threads, because the reporting process that it
# forks makes close() take minutes.
_OVERRIDES = {
    "sdk": {"development": {"report_use_subprocess": False, "store_uncommitted_code_diff": False}},
    "api": {"http": {"retries": {**_RETRIES, "backoff_factor": 1.0, "backoff_max": 5.0}}},
}


class ClearMLSender(Tracker):
    """Write records to a ClearML task; offline, unless credentials are found.

    A key's title and series are its parts around the first slash; one without a slash has
    the title ``metrics``. ClearML would store NaN and infinities as 0: they are left out.

    :param project_name: the task's project
    :param task_name: the task's name
    :param tags: the task's tags
    :param offline: whether to stay offline; by default with no credentials
    :param folder: where an offline session is kept; by default the current folder
    :param name: what ``exclude`` calls this output
    :param init: more arguments for ``Task.init``
    :raises MissingBackendError: clearml is not installed
    :raises TypeError: an argument that ``Task.init`` does not have
    """

    name = "clearml"
    package = "clearml"
    limit = "ClearML would store NaN and infinities as 0"

    def __init__(
        self,
        *,
        project_name: str | None = None,
        task_name: str | None = None,
        tags: list[str] | None = None,
        offline: bool | None = None,
        folder: str | Path | None = None,
        name: str | None = None,
        **init: Any,
    ) -> None:
        super().__init__(folder=folder, name=name)
        check_init(self.name, "clearml", "task.py", init)
        self.project_name = project_name
        self.task_name = task_name
        self.tags = tags
        self.offline = offline
        self.init = init

    @classmethod
    def in_folder(cls, folder: Path, **arguments: Any) -> Sender:
        named = {"folder": folder / "clearml", "task_name": folder.absolute().name}
        return cls(**{**named, **arguments})

    def active(self) -> Any:
        clearml = sys.modules.get("clearml")
        if clearml is None or self.project_name or self.tags or self.init:
            return None
        _forget_parents_task()
        return clearml.Task.current_task()

    def open(self) -> Any:
        _forget_parents_task()
        with self._bounds():
            from clearml import Task
            from clearml.config import config_obj
            from clearml.utilities.check_updates import CheckPackageUpdates

            config_obj.set_overrides(_OVERRIDES)
            CheckPackageUpdates._package_version_checked = True  # else a thread asks its server
            if self._is_offline:
                Task.set_offline(offline_mode=True)
            return Task.init(**{**self._task_arguments(), **self.init})

    def emit(self, record: Record) -> None:
        logger = self.run.get_logger()
        for key, value in self.taken(record).items():
            title, _, series = key.partition("/")
            logger.report_scalar(title, series, value=value, iteration=record.step)
        for key, text in self.texts(record).items():
            logger.report_text(f"[step {record.step}] {key}: {text}", print_console=False)

    def emit_text(self, record: Record) -> None:
        self.run.get_logger().report_text(message_line(record), print_console=False)

    def held(self, value: float, step: int) -> float | None:
        number = to_float(value)
        return number if math.isfinite(number) else None

    def rename(self, key: str) -> str:
        title, _, series = key.partition("/")
        if not title or not series:
            return f"{_TITLE}/{key}"
        # What stands under our own title already must not meet a key without one.
        return with_digest(key, key) if title == _TITLE else key

    def finish(self, run: Any) -> None:
        if not self.owns_run:
            return
        with self._bounds():
            run.close()

    def destination(self) -> str:
        if self._is_offline:
            return f"offline session in {self.local_folder / 'offline'}"
        return f"online, project {self._project}"

    def read_back(self, run: Any) -> History:
        points: History = {}
        for event in _events(run.get_offline_mode_folder()):
            if event.get("type") == "training_stats_scalar":
                key = f"{event['metric']}/{event['variant']}"
                points.setdefault(key, []).append((event["iter"], event["value"]))
        return points

    @property
    def _is_offline(self) -> bool:
        if self.offline is not None:
            return self.offline
        told = os.environ.get("CLEARML_OFFLINE_MODE")
        return told not in ("0", "false", "False") if told else not _has_credentials()

    @property
    def _project(self) -> str:
        return self.project_name or "rl_logging"

    @contextlib.contextmanager
    def _bounds(self) -> Iterator[None]:
        cache = {"CLEARML_CACHE_DIR": str(self.local_folder)} if self._is_offline else {}
        with environment(CLEARML_LOG_LEVEL="ERROR", **cache), unpatched(), quiet():
            yield

    def _task_arguments(self) -> dict[str, Any]:
        automatic = ("frameworks", "arg_parser", "streams")
        return {
            "project_name": self._project,
            "task_name": self.task_name or "run",
            "tags": self.tags,
            "reuse_last_task_id": False,
            "output_uri": False,
            "auto_resource_monitoring": False,
            **{f"auto_connect_{what}": False for what in automatic},
        }


def _forget_parents_task() -> None:
    for mark in _PARENTS_TASK:
        if not os.environ.get(mark, "").startswith(f"{os.getpid()}:"):
            os.environ.pop(mark, None)


def _has_credentials() -> bool:
    """Whether ClearML would find credentials, as it looks for them."""
    if os.environ.get("CLEARML_API_ACCESS_KEY"):
        return True
    return Path(os.environ.get("CLEARML_CONFIG_FILE", "~/clearml.conf")).expanduser().is_file()


def _events(session: Path) -> Iterator[dict[str, Any]]:
    """The events of an offline session's folder, or of the archive that closing it makes."""
    if session.is_dir():
        metrics = session / "metrics.jsonl"
        text = metrics.read_text("utf-8") if metrics.exists() else ""
    else:
        with zipfile.ZipFile(session.with_name(session.name + ".zip")) as file:
            text = file.read("metrics.jsonl").decode("utf-8") if "metrics.jsonl" in file.namelist() else ""
    for line in text.splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # a torn last line
            yield from json.loads(line)
