"""Logger: SB3's, with a journal, and with outputs that cannot stop training."""

import atexit
import os
import threading
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from stable_baselines3.common import logger as sb3

from rl_logging.distributed.reducer import Reducer
from rl_logging.health import Health, journal_health
from rl_logging.journal import FSYNC_EVERY_S, Journal
from rl_logging.journaled import opened
from rl_logging.lifetime import OnSigterm, Turn, check_delivery, check_resume, how_it_went, uncaught
from rl_logging.provenance import collect
from rl_logging.record import CLOSED, PROVENANCE, Record, lifecycle_record, message_record, now
from rl_logging.rich import Media
from rl_logging.rollouts import RolloutLogger
from rl_logging.values import to_text

_LEVEL_NAMES = {sb3.DEBUG: "debug", sb3.INFO: "info", sb3.WARN: "warn", sb3.ERROR: "error"}
_PROVENANCE_S = 5.0  # waited for at the end, where a run is as short as that
_alive: "weakref.WeakSet[Logger]" = weakref.WeakSet()


class Logger(RolloutLogger):
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
    :param secret_names: names whose values are hidden, beside ``password``, ``api_key`` and
        their like
    :param reducer: what brings what all ranks recorded to rank 0; the loggers of other ranks
        open no files and write to no outputs
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
        secret_names: Iterable[str] = (),
        reducer: Reducer | None = None,
    ) -> None:
        check_delivery(delivery, linger_s)
        check_resume(resume, folder)
        OnSigterm.check(handle_sigterm)
        super().__init__(folder, output_formats, delivery, fsync, linger_s, secret_names, reducer)
        self._provenance: threading.Thread | None = None
        if folder and self._rank == 0:
            earlier = opened.get(os.path.realpath(folder))
            if isinstance(earlier, Logger):  # a notebook's cell ran again
                self._trouble.tell("earlier", f"another logger wrote {folder} until now: it is closed")
                earlier.close(timeout_s=5.0)
            self._open_journal(folder)
        self._on_sigterm = OnSigterm(self._end, self._turn) if handle_sigterm else None
        atexit.register(self._at_exit)
        _alive.add(self)

    def dump(self, step: int = 0) -> None:
        """Write what was recorded since the last dump to the journal and to every output.

        :param step: the training step; what is no number counts as the last dump's step
        :raises MissingRanksError: ranks are missing, and the reducer has ``on_missing="raise"``
        """
        if self._is_disabled():
            return
        values, excluded = self._take()
        if self._rank == 0:
            self._sources.ask(values, excluded)
        with self._turn:
            outputs = self._current()  # may open the journal, which has a last step of its own
            self._step = self._valid_step(step)
            if self._rank == 0:
                self._write(outputs, values, excluded, self._axes.split(values, self._step))
        if self._missing is not None:
            raise self._missing

    def log(self, *args: Any, level: int = sb3.INFO) -> None:
        """Write a message to the journal and to every output that can hold text.

        :param args: joined by spaces
        :param level: ``DEBUG`` to ``ERROR``; a message below the logger's own is dropped
        """
        level = self._valid_level(level)
        if self._rank or self._valid_level(self.level) > level or self._is_inert():
            return
        texts = [self._secrets.text(to_text(arg)) for arg in args]
        self._tell_hidden("messages")
        level_name = _LEVEL_NAMES.get(level, "info")
        with self._turn:
            outputs = self._current()
            record = self._journaled(message_record(" ".join(texts), level_name, self._step))
            self._fanout.message(outputs, record, texts)

    def log_provenance(self, code: bool = False) -> None:
        """Log what produces this run: command line, packages, host, git commit and changes.

        It is collected in a thread of its own; ``configure`` asks for it.

        :param code: whether to keep the files that git tracks, too
        """
        if self._provenance is None and not self._is_off():
            self._provenance = threading.Thread(
                target=self._collect, args=(code,), name="provenance", daemon=True
            )
            self._provenance.start()

    def __reduce__(self) -> Any:
        raise TypeError("a logger cannot be pickled; give workers logger.handle(), and record there")

    def _collect(self, code: bool) -> None:
        try:
            folder = self._place()
            found = collect(folder, self._secrets, code=code)
            if self._pid == os.getpid():
                self._tell_hidden("the provenance")
                files: dict[str, str] = found.pop("files", {})
                media = {
                    name: Media("artifact", f"<{name}>", file, {}, folder) for name, file in files.items()
                }
                self._hand_over(Record(self._step, now(), {"provenance": found, **media}, kind=PROVENANCE))
        except Exception as error:  # it must not end where nobody sees it
            self._tell_bad("log_provenance", "provenance", error)

    # The run's life

    def add_output(self, output: sb3.KVWriter, from_start: bool = False) -> None:
        """Add an output, as ``output_formats.append`` does.

        :param from_start: whether a tracker gets all that the run's journal has, instead of
            what comes from now on
        """
        with self._turn:
            self.output_formats.append(output)
            self._current(from_start)

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until all that was dumped up to now is delivered to every tracker.

        :param timeout_s: at most so long, in seconds
        :return: whether it is
        """
        with self._turn:
            self._current()
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
        if self._provenance is not None:
            self._provenance.join(_PROVENANCE_S)
            if self._provenance.is_alive():
                self._trouble.tell("provenance", "log_provenance: the run ended before all was collected")
        self._before_close()
        self._stop_reducing()
        with self._turn:
            outputs = self._current()
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
            opened.pop(os.path.realpath(self._journal.path.parent), None)
            self._see_off(self._journal, status, timeout_s)

    def _see_off(self, journal: Journal, status: str, timeout_s: float) -> None:
        """Wait for the deliveries, and say what is missing."""
        if missing := journal.lost + journal.waiting:
            self._trouble.tell("lost", f"journal: {missing} records are lost: they could not be written")
        dispatch = self._fanout.dispatch
        if dispatch is None:
            return
        if lacking := dispatch.close(timeout_s, status):
            self._trouble.tell("lacking", dispatch.advice(lacking))
        if refusals := dispatch.refusals():
            self._trouble.tell("refusals", f"{refusals}. The journal has all.")

    def _at_exit(self) -> None:
        self._end(how_it_went(uncaught()), 30.0)


def _renew_locks() -> None:
    """In a fork: a thread that is not there any more may have held them."""
    for logger in list(_alive):
        logger._lock, logger._turn = threading.RLock(), Turn()


os.register_at_fork(after_in_child=_renew_locks)
