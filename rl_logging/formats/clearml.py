"""ClearML: one call a number, since it has no other; offline where there is no account."""

import contextlib
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rl_logging.formats.base import History, Sender, with_digest
from rl_logging.formats.bounds import environment, quiet, unpatched
from rl_logging.formats.clearml_files import add_artifacts, add_parameters, add_provenance, add_tags
from rl_logging.formats.clearml_session import (
    NOTHING_AUTOMATIC,
    ClearMLSession,
    forget_parents_task,
    is_offline,
    mark_ended,
    task_class,
)
from rl_logging.formats.clearml_values import prepare
from rl_logging.formats.sessions import no_exit, online, signals_kept
from rl_logging.formats.tracker import Tracker, check_init, message_line
from rl_logging.record import Record
from rl_logging.values import is_rich, to_float

_TITLE = "metrics"  # of a key without a slash
_FLUSH_S = 1.0  # ClearML itself writes every 5 s
_LINE = "[step "  # what a line of ours begins with


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
        self._events, self._lines = 0, 0  # handed over
        self._session: ClearMLSession | None = None  # of a task of ours
        self._flushed = 0.0
        self._replaces = False  # whether an earlier session's records are delivered again
        self._reference: dict[str, Any] = {}

    @classmethod
    def in_folder(cls, folder: Path, /, **arguments: Any) -> Sender:
        named = {"folder": folder / "clearml", "task_name": folder.absolute().name}
        return cls(**{**named, **arguments})

    def active(self) -> Any:
        clearml = sys.modules.get("clearml")
        if clearml is None or self.project_name or self.tags or self.init:
            return None
        forget_parents_task()
        return clearml.Task.current_task()

    def open(self) -> Any:
        forget_parents_task()
        with self._bounds(), signals_kept(), no_exit(), task_class(self._is_offline) as task_type:
            task = task_type.init(**{**self._task_arguments(), **self._continued(task_type), **self.init})
        if self.owns_run and self._is_offline:
            self._session = ClearMLSession(str(task.get_offline_mode_folder()))
        return task

    def emit(self, record: Record) -> None:
        task, step = self._task(), record.step
        rich = {self.rename(key): value for key, value in record.values.items() if is_rich(value)}
        reports, words = prepare(task, rich, step)
        numbers, logger = self.taken(record), task.get_logger()
        for key, value in numbers.items():
            title, _, series = key.partition("/")
            logger.report_scalar(title, series, value=value, iteration=step)
        for report in reports:
            report(logger)
        self._events += len(numbers) + len(reports)
        for key, text in {**self.texts(record), **words}.items():
            self._report(logger, f"{_LINE}{step}] {key}: {text}")

    def emit_text(self, record: Record) -> None:
        self._report(self._task().get_logger(), message_line(record))

    def emit_hyperparameters(self, record: Record) -> None:
        add_parameters(self._task(), record.values)

    def emit_tags(self, record: Record) -> None:
        add_tags(self._task(), record.values)

    def emit_artifact(self, record: Record) -> None:
        for name in add_artifacts(self._task(), record.values, record.step):
            self.refuse(name, record.step, "its file is not in the run folder any more")

    def emit_provenance(self, record: Record) -> None:
        add_provenance(self._task(), record.values, owns_task=self.owns_run)

    def held(self, value: float, step: int) -> float | None:
        number = to_float(value)
        return number if math.isfinite(number) else None

    def rename(self, key: str) -> str:
        title, _, series = key.partition("/")
        if not title or not series:
            return f"{_TITLE}/{key}"
        # What stands under our own title already must not meet a key without one.
        return with_digest(key, key) if title == _TITLE else key

    def finish(self, run: Any, status: str) -> None:
        if not self.owns_run:
            return
        with self._bounds():
            run.close()
        if self._session is None:
            mark_ended(run, status)
        elif not self._is_written():  # ClearML says nothing of a full disk
            raise RuntimeError(f"ClearML has not written all into {self._session.folder}")

    def settle(self) -> bool:
        if self._run is None or self._closed or not (self._events or self._lines):
            return True
        if time.monotonic() - self._flushed > _FLUSH_S:
            self._run.flush()  # only asks for it
            self._flushed = time.monotonic()
        return self._is_written()

    # Continuing a task, and finding it again

    def service(self) -> str:
        return "offline" if self._is_offline else online("CLEARML_API_HOST")

    def reference(self) -> dict[str, Any]:
        run = self._run
        if run is not None and not self._reference:
            folder = run.get_offline_mode_folder()
            page = "" if folder else run.get_output_log_web_page()
            self._reference = {"id": run.id, "folder": folder and str(folder), "url": page}
        return self._reference

    def resume(self, reference: Mapping[str, Any]) -> bool:
        self.located = reference
        ours = self._is_offline and not self.leave_open
        self._replaces = ours and ClearMLSession(reference["folder"]).stands
        return not self._replaces

    def local_arguments(self) -> dict[str, Any]:
        return {"offline": True}

    def resolved(self) -> dict[str, Any]:
        return {**self.arguments(), "project_name": self._project, "offline": self._is_offline}

    def url(self) -> str:
        found = self.reference() or self.located
        return str(found["url"] or found["folder"]) if found else ""

    def destination(self) -> str:
        if self._is_offline:
            return f"offline session in {self.local_folder / 'offline'}"
        return f"online, project {self._project}"

    def read_back(self, reference: Mapping[str, Any]) -> History:
        folder = reference["folder"]  # a server gives a sample of the points, at most
        return ClearMLSession(folder).points() if folder else {}

    def contents(self) -> dict[str, int]:
        folder = {**self.located, **self.reference()}.get("folder")
        return ClearMLSession(folder).contents() if folder else {}

    @property
    def _is_offline(self) -> bool:
        return is_offline() if self.offline is None else self.offline

    @property
    def _project(self) -> str:
        return self.project_name or "rl_logging"

    @contextlib.contextmanager
    def _bounds(self) -> Iterator[None]:
        known = self.located.get("folder")
        place = Path(known).parents[1] if known and Path(known).parent.exists() else self.local_folder
        cache = {"CLEARML_CACHE_DIR": str(place)} if self._is_offline else {}
        with environment(CLEARML_LOG_LEVEL="ERROR", **cache), unpatched(), quiet():
            yield

    def _task_arguments(self) -> dict[str, Any]:
        named = {"project_name": self._project, "task_name": self.task_name or "run", "tags": self.tags}
        return {**named, **NOTHING_AUTOMATIC}

    def _continued(self, task: Any) -> dict[str, Any]:
        """The arguments by which an earlier task is continued, where it can be."""
        if not self.located:
            return {}
        identity = self.located["id"]
        if self._is_offline:
            session = ClearMLSession(self.located["folder"])
            if self._replaces:
                session.replace(self.name)
                self._replaces = False
            if not session.can_be_continued:
                return {}
        elif not task.query_tasks(additional_return_fields=None, task_filter={"id": [identity]}):
            raise RuntimeError(f"ClearML has no task {identity}")  # init would open a new one
        # True in place of 0 would shift every iteration by one.
        return {"reuse_last_task_id": identity, "continue_last_task": 0}

    def _task(self) -> Any:
        run = self.run
        if type(run).current_task() is not run:  # it would be lost without a word
            raise RuntimeError("the ClearML task is closed")
        return run

    def _report(self, logger: Any, line: str) -> None:
        # Where a text goes on in a line that looks like another one's first, it is moved to the right.
        logger.report_text(line.replace(f"\n{_LINE}", f"\n {_LINE}"), print_console=False)
        self._lines += line.count(_LINE)

    def _is_written(self) -> bool:
        if self._session is not None:
            return self._session.has(self._events, self._lines)
        return not self._run._reporter.events_waiting()
