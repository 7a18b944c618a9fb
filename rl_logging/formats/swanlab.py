"""SwanLab: one call a dump; offline where there is no account."""

import glob
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rl_logging.formats.base import History, Sender
from rl_logging.formats.bounds import quiet, unpatched
from rl_logging.formats.sessions import no_exit, online, set_aside, stands
from rl_logging.formats.tracker import FAILED, FINISHED, KILLED, Tracker, check_init, check_mode, message_line
from rl_logging.record import Record
from rl_logging.values import to_float

_KEY_LENGTH = 512 - len("-12345678")  # SwanLab's limit, less what a changed key gets
_LARGEST_STEP = 1 << 48
_STATES = {FINISHED: "success", FAILED: "crashed", KILLED: "aborted"}
_PROBES = ("hardware", "runtime", "requirements", "git", "swanlab", "monitor")


class SwanLabSender(Tracker):
    """Write records to a SwanLab run; offline, unless an API key is found.

    SwanLab cannot hold a negative step, nor a second value of a key at a step: the first
    one stays. One process holds one run at a time.

    :param project: by default ``rl_logging``
    :param run_name: the run's name
    :param mode: ``"online"``, ``"offline"``, ``"local"`` (with SwanLab's dashboard) or
        ``"disabled"``; by default ``$SWANLAB_MODE``, else online with an API key and
        offline without
    :param folder: where SwanLab keeps its runs; by default ``swanlog`` in the current folder
    :param name: what ``exclude`` calls this output
    :param init: more arguments for ``swanlab.init``
    :raises MissingBackendError: swanlab is not installed
    :raises ValueError: an unknown mode
    :raises TypeError: an argument that ``swanlab.init`` does not have
    """

    name = "swanlab"
    package = "swanlab"
    limit = "SwanLab holds one value of a key at a step, and steps from 0 to 2**48"

    def __init__(
        self,
        *,
        project: str | None = None,
        run_name: str | None = None,
        mode: str | None = None,
        folder: str | Path | None = None,
        name: str | None = None,
        **init: Any,
    ) -> None:
        super().__init__(folder=folder, name=name)
        check_init(self.name, "swanlab", "sdk/cmd/init.py", init)
        check_mode(self.name, mode, ("online", "offline", "local", "disabled"))
        self.project = project
        self.run_name = run_name
        self.mode = mode
        self.init = init
        self._last_steps: dict[str, int] = {}
        self._messages = 0
        self._handed = False  # whether anything was handed over
        self._replaces = False  # whether an earlier session's records are delivered again

    @classmethod
    def in_folder(cls, folder: Path, **arguments: Any) -> Sender:
        named = {"folder": folder / "swanlog", "run_name": folder.absolute().name}
        return cls(**{**named, **arguments})

    def active(self) -> Any:
        swanlab = sys.modules.get("swanlab")
        told = self.project or self.init
        return swanlab.get_run() if swanlab is not None and not told and swanlab.has_run() else None

    def open(self) -> Any:
        with unpatched(), quiet(), no_exit():
            import swanlab

            for session in self._sessions(self.located) if self._replaces else ():
                set_aside(self.name, session)
            continued = {"id": self.located["id"], "resume": "allow"} if self.located else {}
            settings = swanlab.Settings(
                interactive=False, terminal={"proxy_type": "none"}, probe=dict.fromkeys(_PROBES, False)
            )
            return swanlab.init(
                **{
                    "project": self._project,
                    "name": self.run_name,
                    "log_dir": str(self._logs),
                    "mode": self._mode,
                    "settings": settings,
                    **continued,
                    **self.init,
                }
            )

    def emit(self, record: Record) -> None:
        run = self.run
        import swanlab

        texts = {key: swanlab.Text(text) for key, text in self.texts(record).items()}
        row = {**self.taken(record), **texts}
        for key in list(row):
            # The numbers of such a step are out already.
            if self._last_steps.get(key) == record.step or self.held(0.0, record.step) is None:
                self.refuse(key, record.step, self.limit)
                del row[key]
        if not row:
            return
        if not self.renamed().keys().isdisjoint(row.keys() - self._last_steps.keys()):
            run.config.update({"original_keys": self.renamed()})
        run.log(row, step=record.step)
        self._last_steps.update(dict.fromkeys(row, record.step))
        self._handed = True

    def emit_text(self, record: Record) -> None:
        run = self.run
        import swanlab

        self._messages += 1
        # A step holds one text. The record's own number is the same in a repeated delivery.
        number = record.seq or self._messages
        run.log({"messages": swanlab.Text(message_line(record))}, step=number)
        self._handed = True

    def held(self, value: float, step: int) -> float | None:
        return to_float(value) if 0 <= step <= _LARGEST_STEP else None

    def clean(self, key: str) -> str:
        # SwanLab strips these itself, so that two keys would meet, and hides its own prefix.
        key = "".join(c if c.isprintable() else "_" for c in key).strip("/. ")
        return key.removeprefix("__swanlab__")[:_KEY_LENGTH] or "key"

    def finish(self, run: Any, status: str) -> None:
        if self.owns_run:
            with quiet():
                run.finish(state=_STATES[status], error=None if status == FINISHED else f"training {status}")

    def settle(self) -> bool:
        # SwanLab keeps the end of its file in memory until the run is finished.
        return self._run is None or self._closed or not self._handed or self._run.mode == "disabled"

    # Continuing a run, and finding it again

    def service(self) -> str:
        return online("SWANLAB_API_HOST") if self._mode == "online" else self._mode

    def reference(self) -> dict[str, Any]:
        run = self._run
        if run is None or run.mode == "disabled":
            return {}
        return {"id": run.id, "folder": str(run.dir), "url": run.url if run.mode == "online" else ""}

    def resume(self, reference: Mapping[str, Any]) -> bool:
        self.located = reference
        local = not self.leave_open and self._mode in ("offline", "local")
        self._replaces = local and stands(Path(reference["folder"]))
        return not self._replaces

    def local_arguments(self) -> dict[str, Any]:
        return {"mode": "offline"}

    def resolved(self) -> dict[str, Any]:
        return {**self.arguments(), "project": self._project, "mode": self._mode}

    def url(self) -> str:
        found = self.reference() or self.located
        return str(found["url"] or found["folder"]) if found else ""

    def destination(self) -> str:
        if self._mode == "online":
            return f"online, project {self._project}"
        return f"{self._mode}, in {self._logs}"

    def viewer(self) -> str | None:
        return f"swanlab watch {self._logs}" if self._mode == "local" else None

    def read_back(self, reference: Mapping[str, Any]) -> History:
        from swanlab.proto.swanlab.record.v1.record_pb2 import Record as Entry
        from swanlab.sdk.internal.core_python.store import DataStoreReader

        points: dict[str, dict[int, float]] = {}
        for log in (log for folder in self._sessions(reference) for log in folder.glob("run-*.swanlab")):
            reader = DataStoreReader()
            reader.open(str(log))
            for body in reader:
                entry = Entry.FromString(body)
                if entry.WhichOneof("record_type") == "scalar":
                    scalar = entry.scalar
                    points.setdefault(scalar.key, {}).setdefault(scalar.step, scalar.value.number)
            reader.close()
        return {key: list(values.items()) for key, values in points.items()}

    def expected(self, records: Iterable[Record]) -> History:
        points = super().expected(records)
        return {key: _first_of_each_step(values) for key, values in points.items()}

    def _sessions(self, reference: Mapping[str, Any]) -> list[Path]:
        """The folders of all sessions of a run that are not set aside, the oldest first."""
        folder = Path(reference["folder"])
        identity = glob.escape(str(reference["id"]))
        return sorted({folder, *folder.parent.glob(f"run-*-{identity}")})

    @property
    def _mode(self) -> str:
        return self.mode or os.environ.get("SWANLAB_MODE") or ("online" if _has_key() else "offline")

    @property
    def _project(self) -> str:
        return self.project or "rl_logging"

    @property
    def _logs(self) -> Path:
        return Path(self.folder) if self.folder else Path.cwd() / "swanlog"


def _has_key() -> bool:
    """Whether SwanLab would find an API key, as it looks for one."""
    if os.environ.get("SWANLAB_API_KEY"):
        return True
    return Path("~/.swanlab/.netrc").expanduser().is_file()


def _first_of_each_step(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    firsts: dict[int, float] = {}
    for step, value in points:
        firsts.setdefault(step, value)
    return list(firsts.items())
