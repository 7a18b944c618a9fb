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
from rl_logging.formats.swanlab_log import configuration, contents, points
from rl_logging.formats.swanlab_records import SwanLabRecords
from rl_logging.formats.tracker import FAILED, FINISHED, KILLED, check_init, check_mode
from rl_logging.record import Record

_STATES = {FINISHED: "success", FAILED: "crashed", KILLED: "aborted"}
_PROBES = ("hardware", "runtime", "requirements", "git", "swanlab", "monitor")


class SwanLabSender(SwanLabRecords):
    """Write records to a SwanLab run; offline, unless an API key is found.

    SwanLab cannot hold a negative step, nor a second value of a key at a step: the first
    one stays. What is no number gets its kind into its name, ``eval/episode (video)``.
    Hyperparameters, tags and provenance are in the run's configuration; artifacts and models
    are among its files, with a text each. One process holds one run at a time.

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
        self._replaces = False  # whether an earlier session's records are delivered again

    @classmethod
    def in_folder(cls, folder: Path, /, **arguments: Any) -> Sender:
        named = {"folder": folder / "swanlog", "run_name": folder.absolute().name}
        return cls(**{**named, **arguments})

    def active(self) -> Any:
        swanlab = sys.modules.get("swanlab")
        told = self.project or self.init
        return swanlab.get_run() if swanlab is not None and not told and swanlab.has_run() else None

    def open(self) -> Any:
        with unpatched(), quiet(), no_exit():
            import swanlab

            earlier = self._sessions(self.located) if self.located else []
            # SwanLab sends a configuration as a whole: what stands is to stay.
            before = {} if self._replaces else configuration(earlier)
            for session in earlier if self._replaces else ():
                set_aside(self.name, session)
            continued = {"id": self.located["id"], "resume": "allow"} if self.located else {}
            settings = swanlab.Settings(
                interactive=False, terminal={"proxy_type": "none"}, probe=dict.fromkeys(_PROBES, False)
            )
            run = swanlab.init(
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
            if before:
                run.config.update({name: value for name, value in before.items() if name not in run.config})
            return run

    def finish(self, run: Any, status: str) -> None:
        if self.owns_run:
            with quiet():
                _stop_watching(run)
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
        return points(self._sessions(reference))

    def contents(self) -> dict[str, int]:
        reference = self.reference() or self.located
        return contents(self._sessions(reference)) if reference else {}

    def expected(self, records: Iterable[Record]) -> History:
        expected = super().expected(records)
        return {key: _first_of_each_step(values) for key, values in expected.items()}

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


def _stop_watching(run: Any) -> None:
    """End the thread that waits for changes of saved files, which SwanLab leaves behind if there were none.

    Each holds one of the 128 places that Linux gives a user for such things.
    """
    watcher = getattr(getattr(run, "_core", None), "_watcher", None)
    observer = getattr(watcher, "_observer", None)
    if observer is not None and not observer.is_alive():
        observer.stop()


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
