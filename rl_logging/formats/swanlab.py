"""SwanLab: one call a dump; offline where there is no account."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rl_logging.formats.base import History, Sender
from rl_logging.formats.tracker import Tracker, check_init, check_mode, message_line, quiet, unpatched
from rl_logging.record import Record
from rl_logging.values import to_float

_KEY_LENGTH = 512 - len("-12345678")  # SwanLab's limit, less what a changed key gets
_LARGEST_STEP = 1 << 48
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

    @classmethod
    def in_folder(cls, folder: Path, **arguments: Any) -> Sender:
        named = {"folder": folder / "swanlog", "run_name": folder.absolute().name}
        return cls(**{**named, **arguments})

    def active(self) -> Any:
        swanlab = sys.modules.get("swanlab")
        told = self.project or self.init
        return swanlab.get_run() if swanlab is not None and not told and swanlab.has_run() else None

    def open(self) -> Any:
        with unpatched(), quiet():
            import swanlab

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
                    **self.init,
                }
            )

    def emit(self, record: Record) -> None:
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
            self.run.config.update({"original_keys": self.renamed()})
        self._last_steps.update(dict.fromkeys(row, record.step))
        self.run.log(row, step=record.step)

    def emit_text(self, record: Record) -> None:
        import swanlab

        self._messages += 1  # as the step, since a step holds one text
        self.run.log({"messages": swanlab.Text(message_line(record))}, step=self._messages)

    def held(self, value: float, step: int) -> float | None:
        return to_float(value) if 0 <= step <= _LARGEST_STEP else None

    def clean(self, key: str) -> str:
        # SwanLab strips these itself, so that two keys would meet, and hides its own prefix.
        key = "".join(c if c.isprintable() else "_" for c in key).strip("/. ")
        return key.removeprefix("__swanlab__")[:_KEY_LENGTH] or "key"

    def finish(self, run: Any) -> None:
        if self.owns_run:
            with quiet():
                run.finish()

    def destination(self) -> str:
        if self._mode == "online":
            return f"online, project {self._project}"
        return f"{self._mode}, in {self._logs}"

    def viewer(self) -> str | None:
        return f"swanlab watch {self._logs}" if self._mode == "local" else None

    def read_back(self, run: Any) -> History:
        from swanlab.proto.swanlab.record.v1.record_pb2 import Record as Entry
        from swanlab.sdk.internal.core_python.store import DataStoreReader

        points: History = {}
        reader = DataStoreReader()
        reader.open(str(next(Path(run.dir).glob("run-*.swanlab"))))
        for body in reader:
            entry = Entry.FromString(body)
            if entry.WhichOneof("record_type") == "scalar":
                points.setdefault(entry.scalar.key, []).append((entry.scalar.step, entry.scalar.value.number))
        reader.close()
        return points

    def expected(self, records: Iterable[Record]) -> History:
        points = super().expected(records)
        return {key: _first_of_each_step(values) for key, values in points.items()}

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
