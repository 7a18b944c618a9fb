"""Weights & Biases: one row a dump, with the step as the value ``global_step``."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rl_logging.formats.base import History, Sender
from rl_logging.formats.bounds import environment, unpatched
from rl_logging.formats.sessions import has_login, no_exit, online, set_aside
from rl_logging.formats.tracker import FINISHED, Tracker, check_init, check_mode, message_line
from rl_logging.formats.wandb_log import WandBLog, all_logs, is_unsent, synced_step, wait_for_end
from rl_logging.record import Record
from rl_logging.verdict import RETRY

_HOSTS = ("api.forge.coreweave.com", "api.wandb.ai")  # W&B's own, now and before
_ENVIRONMENT = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}  # else it looks up its server
_INIT_TIMEOUT_S = 20.0  # W&B's own is 90 s
# W&B's own is 15 s, and what it has not written is lost with its process. This costs 0.3 %
# of a core more than 1 s would.
_FLUSH_S = 0.1


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
        self._known: set[str] = set()
        self._log: WandBLog | None = None
        self._number, self._rows, self._lines = -1, 0, 0  # of the last row; rows without one; messages
        self._first = 0  # W&B's number of a record is its own and this
        self._there = 0  # the last record that W&B has from an earlier session
        self._replaces = False  # whether an earlier session's records are delivered again

    @classmethod
    def in_folder(cls, folder: Path, **arguments: Any) -> Sender:
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
            run = wandb.init(**{**self._arguments(), "settings": self._settings(), **self.init})
        if self.owns_run:
            run.define_metric("*", step_metric="global_step")
            # A run that the user told us to go on with has rows of its own.
            self._first = self.located.get("first", 0) if self.located else run.starting_step
            self._there = max(run.starting_step - 1, synced_step(self.located)) - self._first
        return run

    def emit(self, record: Record) -> None:
        run = self.run
        if self._is_there(record):
            return
        row = {**self.taken(record), **self.texts(record)}
        self._note_new(run, row.keys() - self._known)
        # Under the record's own number a repeated delivery changes nothing. Without one, W&B counts.
        number = self._first + record.seq if self.owns_run and record.seq else None
        run.log({**row, "global_step": record.step}, step=number, commit=True)
        if number is None:
            self._rows += 1
        else:
            self._number = max(self._number, number)

    def emit_text(self, record: Record) -> None:
        run = self.run
        if not self._is_there(record):
            run.write_logs(message_line(record))
            self._lines += 1

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
        handed = self._number, self._rows, self._lines
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
        rows: dict[Any, dict[str, Any]] = {}
        for log in all_logs(reference):
            for number, row in WandBLog(log).rows():
                # W&B numbers a user's rows anew in each session; ours are the same rows again.
                rows[(log, number) if self.leave_open else number] = row
        points: History = {}
        for row in rows.values():
            step = row.pop("global_step", 0)
            for key, value in row.items():
                if not key.startswith("_") and isinstance(value, (int, float)):
                    points.setdefault(key, []).append((step, float(value)))
        return points

    @property
    def _project(self) -> str:
        return self.project or os.environ.get("WANDB_PROJECT") or "rl_logging"

    def _mode(self) -> str:
        return self.mode or os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")

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

    def _settings(self) -> Any:
        import wandb

        return wandb.Settings(
            console="off",
            silent=True,
            x_disable_meta=True,
            x_save_requirements=False,
            disable_git=True,
            disable_code=True,
            init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", _INIT_TIMEOUT_S)),
            x_transaction_log_flush_interval=_FLUSH_S,
        )

    def _is_there(self, record: Record) -> bool:
        return 0 < record.seq <= self._there

    def _set_aside(self) -> None:
        for log in filter(is_unsent, all_logs(self.located)):
            set_aside(self.name, log.parent)

    def _note_new(self, run: Any, keys: set[str]) -> None:
        """Tell W&B of keys that stand for the first time."""
        if not self.owns_run:  # the user's other metrics keep the axis that they have
            for key in keys:
                if "*" not in key:
                    run.define_metric(key, step_metric="global_step")
        originals = self.renamed()
        if not keys.isdisjoint(originals):
            run.config.update({"original_keys": originals}, allow_val_change=True)
        self._known |= keys


def _has_key() -> bool:
    """Whether W&B would find an API key, as it looks for one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    told = urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc
    return has_login(Path(os.environ.get("NETRC", "~/.netrc")).expanduser(), [told] if told else _HOSTS)
