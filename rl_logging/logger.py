"""Logger: SB3's, with a journal, and with outputs that cannot stop training."""

import atexit
import logging
import os
import tempfile
import threading
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from stable_baselines3.common import logger as sb3

from rl_logging.dispatch import Dispatch, Health, journal_health
from rl_logging.fanout import FanOut
from rl_logging.journal import FSYNC_EVERY_S, Journal
from rl_logging.lifetime import OnSigterm, Turn, check_delivery, check_resume, how_it_went, uncaught
from rl_logging.record import CLOSED, RESUMED, Record, lifecycle_record, make_record, message_record
from rl_logging.recording import RecordingLogger
from rl_logging.values import describe, to_text

_LEVEL_NAMES = {sb3.DEBUG: "debug", sb3.INFO: "info", sb3.WARN: "warn", sb3.ERROR: "error"}
_log = logging.getLogger("rl_logging")
_alive: "weakref.WeakSet[Logger]" = weakref.WeakSet()
_open: "weakref.WeakValueDictionary[str, Logger]" = weakref.WeakValueDictionary()  # by run folder


class Logger(RecordingLogger):
    """SB3's logger, whose ``record``, ``dump``, ``info`` and ``close`` never raise.

    Pass it to any SB3 algorithm by ``model.set_logger(logger)``. Each dump goes to the
    run's journal first, then to every output here, each on its own. The trackers get it
    from the journal, by the run's courier, a process of its own.

    :param folder: the run folder, which gets ``journal.jsonl``; without one the journal is
        in a temporary folder, from the first tracker on
    :param output_formats: the outputs; ``logger.output_formats.append(…)`` adds one later
    :param resume: whether to continue the run in a folder that has one: ``"auto"`` does,
        ``"never"`` refuses such a folder, ``"must"`` any other
    :param delivery: who delivers to the trackers: ``"auto"``, the courier (and a thread for
        what must live in this process); ``"thread"``; or ``"inline"``, each dump itself
    :param fsync: when the journal is forced to the disk, see :class:`rl_logging.Journal`
    :param linger_s: how long the courier goes on when this process is gone, in seconds
    :param handle_sigterm: close on SIGTERM, then do what was done before; main thread only
    :raises RunInUseError: another process writes this run
    :raises ValueError: an argument that is not allowed
    :raises FileExistsError: ``resume="never"``, and the folder has a run
    :raises FileNotFoundError: ``resume="must"``, and it has none
    :raises OSError: the journal cannot be written
    """

    def __init__(
        self,
        folder: str | None,
        output_formats: list[sb3.KVWriter],
        *,
        resume: str = "auto",
        delivery: str = "auto",
        fsync: str | float = FSYNC_EVERY_S,
        linger_s: float = 600.0,
        handle_sigterm: bool = False,
    ) -> None:
        super().__init__(folder, output_formats)
        check_delivery(delivery, linger_s)
        check_resume(resume, folder)
        OnSigterm.check(handle_sigterm)
        self._delivery, self._linger_s, self._fsync = delivery, linger_s, fsync
        self._fanout = FanOut(self._trouble, self._make_dispatch)
        self._session = time.time_ns() // 1_000_000
        self._turn = Turn()  # one record after the other, in the same order everywhere
        self._journal: Journal | None = None
        self._pid: int | None = os.getpid()
        self.resumed_from: int | None = None
        """The last step of the run that is continued here."""
        if folder:
            if (earlier := _open.get(os.path.realpath(folder))) is not None:  # a notebook's cell ran again
                earlier.close(timeout_s=5.0)
            self._open_journal(folder)
        self._on_sigterm = OnSigterm(self._end, self._turn) if handle_sigterm else None
        atexit.register(self._at_exit)
        _alive.add(self)

    def _open_journal(self, folder: str) -> None:
        self._journal = Journal(Path(folder) / "journal.jsonl", self._fsync)
        self._step = self._journal.last_step
        if self._journal.last_seq:
            self.resumed_from = self._journal.last_step
            about = {"session": self._session, "pid": os.getpid()}
            self._journal.append(lifecycle_record(RESUMED, self._step, **about))
        _open[os.path.realpath(folder)] = self

    def dump(self, step: int = 0) -> None:
        """Write what was recorded since the last dump to the journal and to every output.

        :param step: the training step; what is no number counts as the last dump's step
        """
        if self._valid_level(self.level) == sb3.DISABLED or self._is_inert():
            return
        values, excluded = self._take()
        with self._turn:
            outputs = self._fanout.current(self.output_formats)
            self._step = self._valid_step(step)
            record = self._journaled(make_record(values, excluded, self._step)) if values else None
            self._fanout.write(outputs, record, values, excluded, self._step)

    def log(self, *args: Any, level: int = sb3.INFO) -> None:
        """Write a message to the journal and to every output that can hold text.

        :param args: joined by spaces
        :param level: ``DEBUG`` to ``ERROR``; a message below the logger's own is dropped
        """
        level = self._valid_level(level)
        if self._valid_level(self.level) > level or self._is_inert():
            return
        texts = [to_text(arg) for arg in args]
        level_name = _LEVEL_NAMES.get(level, "info")
        with self._turn:
            outputs = self._fanout.current(self.output_formats)
            record = self._journaled(message_record(" ".join(texts), level_name, self._step))
            self._fanout.message(outputs, record, texts)

    # The run's life

    def add_output(self, output: sb3.KVWriter, from_start: bool = False) -> None:
        """Add an output, as ``output_formats.append`` does.

        :param from_start: whether a tracker gets all that the run's journal has, instead of
            what comes from now on
        """
        with self._turn:
            self.output_formats.append(output)
            self._fanout.current(self.output_formats, from_start)

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until all that was dumped up to now is delivered to every tracker.

        :param timeout_s: at most so long, in seconds
        :return: whether it is
        """
        with self._turn:
            self._fanout.current(self.output_formats)
            journal, dispatch = self._journal, self._fanout.dispatch
        if journal is None or dispatch is None:
            return True
        return not dispatch.wait(journal.last_seq, timeout_s)

    def health(self) -> dict[str, Health]:
        """How the journal and each output do, by name."""
        journal = self._journal
        own = {} if journal is None else {"journal": journal_health(journal)}
        return {**own, **self._fanout.health()}

    def urls(self) -> dict[str, str]:
        """Where each tracker's run is, an address or a folder, as soon as it was opened."""
        return self._fanout.dispatch.urls() if self._fanout.dispatch else {}

    def close(self, timeout_s: float = 30.0) -> None:
        """Finish every output and the journal; a second call does nothing.

        :param timeout_s: how long to wait, in all, for what is not delivered yet; the courier
            goes on after that
        """
        self._end("finished", timeout_s)

    def __enter__(self) -> "Logger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(how_it_went(error), 30.0)

    def _end(self, status: str = "killed", timeout_s: float = 10.0) -> None:
        if self._pid != os.getpid():  # closed before, or a fork's copy of its parent's logger
            return
        with self._turn:
            outputs = self._fanout.current(self.output_formats)
            self._pid = None
            atexit.unregister(self._at_exit)
            if self._on_sigterm is not None:
                self._on_sigterm.remove()
            self._fanout.close(outputs, self._step)
            if self._journal is not None:
                self._journal.retry()
                if self._journal.last_seq and not self._journal.waiting:
                    self._journaled(lifecycle_record(CLOSED, self._step, status=status))
                self._journal.close()
        if self._journal is not None:
            _open.pop(os.path.realpath(self._journal.path.parent), None)
            self._see_off(self._journal, status, timeout_s)

    def _see_off(self, journal: Journal, status: str, timeout_s: float) -> None:
        """Wait for the deliveries, and say what is missing."""
        if missing := journal.lost + journal.waiting:
            self._trouble.tell("lost", f"journal: {missing} records are lost: they could not be written")
        dispatch = self._fanout.dispatch
        if dispatch is not None and (lacking := dispatch.close(timeout_s, status)):
            self._trouble.tell("lacking", dispatch.advice(lacking))

    def _at_exit(self) -> None:
        self._end(how_it_went(uncaught()), 30.0)

    def _is_inert(self) -> bool:
        """Whether nothing is to be written: after close, or in a fork, whose files are its parent's."""
        if self._pid == os.getpid():
            return False
        why = "it is closed" if self._pid is None else "this is a fork of the process that logs"
        self._trouble.tell("inert", f"the logger does nothing any more: {why}")
        return True

    # Records on their way

    def _make_dispatch(self) -> Dispatch | None:
        if self._delivery == "inline":
            return None
        if self._journal is None:
            folder = tempfile.mkdtemp(prefix="rl_logging-")
            _log.warning("no folder was given: the journal, from which trackers get all, is in %s", folder)
            self._open_journal(folder)
        in_threads = self._delivery == "thread"
        return Dispatch(cast(Journal, self._journal), self._session, in_threads, self._linger_s)

    def _journaled(self, record: Record) -> Record:
        if self._journal is None:
            return record
        try:
            record = self._journal.append(record)
            if (error := self._journal.error) is not None:
                message = f"journal: step {record.step} was not written: {describe(error)}"
                self._trouble.tell("journal", f"{message}. It waits in memory; training goes on.", error)
        except Exception as error:  # what nobody has thought of
            message = f"journal: step {record.step} was not written: {describe(error)}. Training goes on."
            self._trouble.tell("record", message, error)
        return record


def _renew_locks() -> None:
    """In a fork: a thread that is not there any more may have held them."""
    for logger in list(_alive):
        logger._lock, logger._turn = threading.RLock(), Turn()


os.register_at_fork(after_in_child=_renew_locks)
