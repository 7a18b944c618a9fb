"""The journal as an output, so that SB3's own logger can have one, and a courier with it."""

import atexit
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rl_logging.dispatch import Dispatch
from rl_logging.formats import make_output
from rl_logging.formats.base import History, Sender
from rl_logging.formats.sb3 import OutputFormat
from rl_logging.journal import Journal, read
from rl_logging.record import CLOSED, RESUMED, Record, lifecycle_record

_LINGER_S, _CLOSE_S = 600.0, 30.0


class JournalOutputFormat(OutputFormat):
    """Append every record, messages among them, to a journal.

    Our ``Logger`` has a journal of its own; this is for SB3's, or for a second copy. ::

        journal = JournalOutputFormat("runs/a/journal.jsonl", deliver_to=["mlflow"])
        logger = stable_baselines3.common.logger.Logger("runs/a", [journal])

    :param path: the file; one that exists is continued. Its folder is the run folder of
        what is delivered
    :param name: what ``exclude`` calls it
    :param deliver_to: trackers, by name or ready made, that a courier delivers the journal to
    :raises RunInUseError: another process writes it
    :raises ValueError: deliveries from a file that is not called ``journal.jsonl``, or to
        what is no tracker
    :raises OSError: the file cannot be written
    """

    name = "journal"

    def __init__(
        self, path: str | Path, *, name: str | None = None, deliver_to: Iterable[str | Sender] = ()
    ) -> None:
        super().__init__(name=name)
        self.path = path
        self.deliver_to = list(deliver_to)
        folder = Path(path).parent
        outputs = [make_output(to, folder) if isinstance(to, str) else to for to in self.deliver_to]
        for output in outputs:
            if not output.remote or Path(path).name != "journal.jsonl":
                rule = "deliver_to takes trackers, from a file called journal.jsonl"
                raise ValueError(f"{rule}; not {output.name!r} from {path}")
        self._journal = Journal(path)
        self._dispatch: Dispatch | None = None
        if outputs:
            self._deliver_to(outputs)

    @classmethod
    def in_folder(cls, folder: Path, /, **arguments: Any) -> Sender:
        return cls(**{"path": folder / "journal.jsonl", **arguments})

    def handle(self, record: Record) -> None:
        self._journal.append(record)  # whole: what it excludes elsewhere stays known
        if self._journal.error:
            raise self._journal.error

    def history(self) -> History:
        return self.expected(read(self.path))

    def close(self) -> None:
        """Finish; what is delivered is waited for, 30 s at most."""
        if self._dispatch is None:
            self._journal.close()
            return
        dispatch, self._dispatch = self._dispatch, None
        atexit.unregister(self.close)
        self._journal.append(lifecycle_record(CLOSED, self._journal.last_step, status="finished"))
        self._journal.close()
        for name, count in dispatch.close(_CLOSE_S, "finished").items():
            told = f"{name} lacks {count} records; rl-logging sync {self._journal.path.parent}"
            self.trouble.tell(f"lacks {name}", told)

    def _deliver_to(self, outputs: list[Sender]) -> None:
        session = time.time_ns() // 1_000_000
        if self._journal.last_seq:
            self._journal.append(lifecycle_record(RESUMED, self._journal.last_step, session=session))
        self._dispatch = Dispatch(self._journal, session, False, _LINGER_S)
        for output in outputs:
            self._dispatch.adopt(output)
        atexit.register(self.close)
