"""Weights & Biases: one row a dump, with the step as the value ``global_step``."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_logging.formats.base import History, Sender
from rl_logging.formats.bounds import environment, unpatched
from rl_logging.formats.sessions import no_exit, online, set_aside
from rl_logging.formats.tracker import FINISHED, Tracker, check_init, check_mode, message_line
from rl_logging.formats.wandb_about import WandBAbout
from rl_logging.formats.wandb_contents import all_rows, contents, points
from rl_logging.formats.wandb_log import (
    AXIS_STEP,
    STEP,
    WandBLog,
    all_logs,
    is_unsent,
    synced_step,
    wait_for_end,
)
from rl_logging.formats.wandb_settings import has_key, settings
from rl_logging.formats.wandb_values import WandBValues
from rl_logging.record import Record
from rl_logging.verdict import RETRY

_ENVIRONMENT = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}  # else it looks up its server


class WandBSender(Tracker):
    """Write records to a W&B run; offline, unless an API key is found.

    :param project: by default ``$WANDB_PROJECT``, else ``rl_logging``
    :param run_name: the run's name
    :param mode: ``"online"``, ``"offline"``, ``"shared"`` or ``"disabled"``; by default ``$WANDB_MODE``,
        else online with an API key and offline without
    :param folder: where W&B puts its ``wandb`` folder; by default the current folder
    :param name: what ``exclude`` calls this output
    :param init: more arguments for ``wandb.init``
    :raises MissingBackendError: wandb is not installed
    :raises ValueError: an unknown mode
    :raises TypeError: an argument that ``wandb.init`` does not have
    """

    name = "wandb"
    package = "wandb"

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
        check_init(self.name, "wandb", "sdk/wandb_init.py", init)
        check_mode(self.name, mode, ("online", "offline", "disabled", "shared"))
        self.project = project
        self.run_name = run_name
        self.mode = mode
        self.init = init
        self._log: WandBLog | None = None
        self._number, self._rows = -1, 0  # of the last row; rows without one
        self._first = 0  # W&B's number of a record is its own and this
        self._there = 0  # the last record whose row W&B has from an earlier session
        self._sent = 0  # the last one that the user has sent with all that came before
        self._opened: tuple[WandBAbout, WandBValues] | None = None
        self._replaces = False  # whether an earlier session's records are delivered again

    @classmethod
    def in_folder(cls, folder: Path, /, **arguments: Any) -> Sender:
        return cls(**{"folder": folder, "run_name": folder.absolute().name, **arguments})

    def active(self) -> Any:
        wandb = sys.modules.get("wandb")
        return None if wandb is None or self.project or self.init else wandb.run

    def open(self) -> Any:
        with environment(**_ENVIRONMENT), unpatched(), no_exit():
            import wandb

            self.local_folder.mkdir(parents=True, exist_ok=True)
            if self._replaces:
                self._set_aside()
            run = wandb.init(**{**self._arguments(), "settings": settings(), **self.init})
        if self.owns_run:
            run.define_metric("*", step_metric=STEP)
            # A run that the user told us to go on with has rows of its own.
            self._first = self.located.get("first", 0) if self.located else run.starting_step
            self._sent = synced_step(self.located) - self._first
            self._there = max(run.starting_step - 1 - self._first, self._sent)
        return run

    def emit(self, record: Record) -> None:
        if not self._takes(record):
            return
        rich = {self.rename(key): value for key, value in self._parts[1].of(record).items()}
        row = {**self.taken(record), **self.texts(record), **rich}
        if not row or self._is_there(record):
            return
        axis = self.rename(record.axis) if record.axis else ""
        self._about.keys(row.keys(), axis, self.renamed())
        # Under the record's own number a repeated delivery changes nothing. Without one, W&B counts.
        number = self._first + record.seq if self.owns_run and record.seq else None
        row[AXIS_STEP if record.axis else STEP] = record.step
        self.run.log(row, step=number, commit=True)
        if number is None:
            self._rows += 1
        else:
            self._number = max(self._number, number)

    def emit_text(self, record: Record) -> None:
        if self._takes(record) and not self._is_there(record):
            self.run.write_logs(message_line(record))
            self._about.handed["output_logger"] += 1

    def emit_hyperparameters(self, record: Record) -> None:
        if not self.run.disabled:
            self._about.hyperparameters(record.values)

    def emit_tags(self, record: Record) -> None:
        if not self.run.disabled:
            self._about.tags(record.values)

    def emit_artifact(self, record: Record) -> None:
        if self._takes(record):
            self._about.artifacts(record)

    def emit_provenance(self, record: Record) -> None:
        if self._takes(record):
            self._about.provenance(record)

    def clean(self, key: str) -> str:
        # W&B hides what begins with an underscore, and drops an empty key.
        key = "".join(c if c.isprintable() else "_" for c in key).lstrip("_")
        return key or "key"

    def finish(self, run: Any, status: str) -> None:
        if self.owns_run:
            with environment(**_ENVIRONMENT):
                run.finish(exit_code=0 if status == FINISHED else 1)
            wait_for_end(run.settings.sync_file)

    def settle(self) -> bool:
        if self._run is None or self._closed or self._run.disabled:
            return True
        if self._log is None:
            self._log = WandBLog(self._run.settings.sync_file)
        handed = self._number, self._rows, self._about.handed
        return self._log.has(*handed) or self._log.read().has(*handed)

    # Continuing a run, and finding it again

    def verdict(self, error: Exception) -> str:
        # W&B's own process is gone, and this one cannot start another.
        self.is_broken = self.is_open and isinstance(error, ConnectionError)
        return RETRY if type(error).__name__ == "CommError" else super().verdict(error)

    def service(self) -> str:
        return online("WANDB_BASE_URL") if self._mode() in ("online", "shared") else self._mode()

    def reference(self) -> dict[str, Any]:
        run = self._run
        if run is None or run.disabled:
            return {}
        log = run.settings.sync_file
        return {"id": run.id, "log": log, "url": run.url or "", "first": self._first}

    def resume(self, reference: Mapping[str, Any]) -> bool:
        self.located = reference
        if self.leave_open or self._mode() not in ("online", "offline"):
            return True
        # W&B's process ends with ours and leaves unsent what is in its log only. So all is
        # delivered again; what the server has is known, and left out.
        self._replaces = self._mode() == "online" or is_unsent(Path(reference["log"]))
        return not self._replaces

    def local_arguments(self) -> dict[str, Any]:
        return {"mode": "offline"}

    def resolved(self) -> dict[str, Any]:
        entity = os.environ.get("WANDB_ENTITY")
        told = {"entity": entity} if entity else {}
        return {**told, **self.arguments(), "project": self._project, "mode": self._mode()}

    def url(self) -> str:
        found = self.reference() or self.located
        return str(found["url"] or Path(found["log"]).parent) if found else ""

    def destination(self) -> str:
        if self._mode() == "online":
            return f"online, project {self._project}"
        return f"{self._mode()}, in {self.local_folder / 'wandb'}"

    def viewer(self) -> str | None:
        found = self.reference() or self.located
        return f"wandb leet {Path(found['log']).parent}" if found else None

    def read_back(self, reference: Mapping[str, Any]) -> History:
        return points(all_rows(reference, by_log=self.leave_open))

    def contents(self) -> dict[str, int]:
        found = self.reference() or self.located
        rows = all_rows(found, by_log=self.leave_open) if found else ()
        return contents(found, rows, self.init.get("tags") or ()) if found else {}

    @property
    def _project(self) -> str:
        return self.project or os.environ.get("WANDB_PROJECT") or "rl_logging"

    def _mode(self) -> str:
        return self.mode or os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")

    def _arguments(self) -> dict[str, Any]:
        continued = {"id": self.located["id"], "resume": "allow"} if self.located else {}
        return {
            "project": self._project,
            "name": self.run_name,
            "dir": str(self.local_folder),
            "mode": self._mode(),
            "reinit": "create_new",
            **continued,
        }

    def _is_there(self, record: Record) -> bool:
        return 0 < record.seq <= self._there

    def _takes(self, record: Record) -> bool:
        return not self.run.disabled and not 0 < record.seq <= self._sent

    @property
    def _parts(self) -> tuple[WandBAbout, WandBValues]:
        if self._opened is None:
            about = WandBAbout(self.run, self.located, self.owns_run, self.refuse)
            self._opened = about, WandBValues(self.run, about)
        return self._opened

    @property
    def _about(self) -> WandBAbout:
        return self._parts[0]

    def _set_aside(self) -> None:
        for log in filter(is_unsent, all_logs(self.located)):
            set_aside(self.name, log.parent)
