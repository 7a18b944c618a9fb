"""Weights & Biases: one row a dump, with the step as the value ``global_step``."""

import json
import netrc
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rl_logging.formats.base import History, Sender
from rl_logging.formats.tracker import Tracker, check_init, check_mode, environment, message_line, unpatched
from rl_logging.record import Record

_BLOCK, _FILE_HEADER, _HEADER = 32768, 7, 7  # bytes, in W&B's log file
_END_TIMEOUT_S, _END_POLL_S = 10.0, 0.02
_HOSTS = ("api.forge.coreweave.com", "api.wandb.ai")  # W&B's own, now and before
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
        self._known: set[str] = set()

    @classmethod
    def in_folder(cls, folder: Path, **arguments: Any) -> Sender:
        return cls(**{"folder": folder, "run_name": folder.absolute().name, **arguments})

    def active(self) -> Any:
        wandb = sys.modules.get("wandb")
        return None if wandb is None or self.project or self.init else wandb.run

    def open(self) -> Any:
        with environment(**_ENVIRONMENT), unpatched():
            import wandb

            settings = wandb.Settings(
                console="off",
                silent=True,
                x_disable_meta=True,
                x_save_requirements=False,
                disable_git=True,
                disable_code=True,
                x_transaction_log_flush_interval=1.0,
            )
            self.local_folder.mkdir(parents=True, exist_ok=True)
            run = wandb.init(
                **{
                    "project": self._project,
                    "name": self.run_name,
                    "dir": str(self.local_folder),
                    "mode": self._mode(),
                    "reinit": "create_new",
                    "settings": settings,
                    **self.init,
                }
            )
        run.define_metric("*", step_metric="global_step")
        return run

    def emit(self, record: Record) -> None:
        run = self.run
        row = {**self.taken(record), **self.texts(record)}
        self._note_new(run, row.keys() - self._known)
        # Under the record's own number a repeated delivery changes nothing. Without one, W&B counts.
        number = record.seq if self.owns_run and record.seq else None
        run.log({**row, "global_step": record.step}, step=number, commit=True)

    def emit_text(self, record: Record) -> None:
        self.run.write_logs(message_line(record))

    def clean(self, key: str) -> str:
        # W&B hides what begins with an underscore, and drops an empty key.
        key = "".join(c if c.isprintable() else "_" for c in key).lstrip("_")
        return key or "key"

    def finish(self, run: Any) -> None:
        if self.owns_run:
            with environment(**_ENVIRONMENT):
                run.finish()

    def destination(self) -> str:
        if self._mode() == "online":
            return f"online, project {self._project}"
        return f"{self._mode()}, in {self.local_folder / 'wandb'}"

    def viewer(self) -> str | None:
        return None if self._run is None else f"wandb leet {Path(self._run.settings.sync_file).parent}"

    def read_back(self, run: Any) -> History:
        log = Path(run.settings.sync_file)
        if self.owns_run and self._closed:
            _wait_for_end(log)
        points: History = {}
        for row in _rows(log):
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
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        logins = netrc.netrc(str(path))
    except (OSError, netrc.NetrcParseError):  # no such file, or one that W&B could not read either
        return False
    return any(logins.authenticators(host) for host in ([told] if told else _HOSTS))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a W&B log file, as far as it is whole."""
    for entry in _entries(path):
        if entry.WhichOneof("record_type") == "history":
            items = entry.history.item
            yield {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def _wait_for_end(path: Path) -> None:
    """Wait until a finished run's log has its last entry: ``finish`` returns a moment earlier."""
    deadline = time.monotonic() + _END_TIMEOUT_S
    while not any(entry.HasField("exit") for entry in _entries(path)) and time.monotonic() < deadline:
        time.sleep(_END_POLL_S)


def _entries(path: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record as Entry

    return map(Entry.FromString, _bodies(path.read_bytes()))


def _bodies(data: bytes) -> Iterator[bytes]:
    """The entries of a log in LevelDB's format: 32 KiB blocks, entries in one or more pieces."""
    position, body = _FILE_HEADER, b""
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        _, size, kind = struct.unpack("<IHB", data[position : position + _HEADER])
        if kind == 0:
            position += left
            continue
        position += _HEADER
        piece = data[position : position + size]
        if len(piece) < size:
            return  # torn by a kill
        position += size
        body = piece if kind in (1, 2) else body + piece  # 1 whole, 2 first, 3 middle, 4 last
        if kind in (1, 4):
            yield body
