"""The part of the logger that turns what was recorded into records, and keeps them."""

import logging
import os
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stable_baselines3.common import logger as sb3

from rl_logging.dispatch import Dispatch
from rl_logging.distributed.reducer import Reducer
from rl_logging.fanout import FanOut
from rl_logging.journal import Journal
from rl_logging.lifetime import Turn
from rl_logging.media import MediaWriter
from rl_logging.record import RESUMED, Record, lifecycle_record, make_record
from rl_logging.reducing import ReducingLogger
from rl_logging.rich import Media
from rl_logging.sources.asked import AskedSources, Exclude
from rl_logging.sources.sampled import Source, check_callable
from rl_logging.values import Value, describe, to_plain

_log = logging.getLogger("rl_logging")
opened: "weakref.WeakValueDictionary[str, JournaledLogger]" = weakref.WeakValueDictionary()  # by run folder


class JournaledLogger(ReducingLogger):
    """Records go to the journal first, then to every output.

    :param secret_names: more names whose values are secrets
    """

    def __init__(
        self,
        folder: str | None,
        output_formats: list[sb3.KVWriter],
        delivery: str,
        fsync: str | float,
        linger_s: float,
        secret_names: Iterable[str],
        reducer: Reducer | None,
    ) -> None:
        super().__init__(folder, output_formats, secret_names, reducer)
        self._delivery, self._linger_s, self._fsync = delivery, linger_s, fsync
        self._fanout = FanOut(self._trouble, self._make_dispatch)
        self._session = time.time_ns() // 1_000_000
        self._sources = AskedSources(self._trouble)
        self._callbacks: list[Callable[[], object]] = []  # before closing
        self._turn = Turn()  # one record after the other, in the same order everywhere
        self._journal: Journal | None = None
        self._media: MediaWriter | None = None
        self._pid: int | None = os.getpid()
        self.resumed_from: int | None = None
        """The last step of the run that is continued here."""

    def _open_journal(self, folder: str) -> Journal:
        journal = self._journal = Journal(Path(folder) / "journal.jsonl", self._fsync)
        self._media = MediaWriter(folder, self._secrets.nested)
        self._step = journal.last_step
        if journal.last_seq:
            self.resumed_from = journal.last_step
            about = {"session": self._session, "pid": os.getpid()}
            journal.append(lifecycle_record(RESUMED, self._step, **about))
        opened[os.path.realpath(folder)] = self
        return journal

    def _journal_somewhere(self) -> Journal:
        """The journal; in a temporary folder where no other was given."""
        if self._journal is not None:
            return self._journal
        folder = tempfile.mkdtemp(prefix="rl_logging-")
        _log.warning("no folder was given: the journal, from which trackers get all, is in %s", folder)
        return self._open_journal(folder)

    def _place(self) -> Path:
        """The run folder."""
        with self._turn:
            return self._journal_somewhere().path.parent

    def _make_dispatch(self) -> Dispatch | None:
        if self._delivery == "inline":
            return None
        in_threads = self._delivery == "thread"
        return Dispatch(self._journal_somewhere(), self._session, in_threads, self._linger_s)

    # Sources

    def add_source(self, source: Source, exclude: Exclude = None) -> None:
        """Ask a source for metrics at each dump; they stand beside what was recorded.

        One with an ``every_s`` is asked on a thread of its own, see :class:`rl_logging.Sampled`.

        :param source: a callable that gives values by key; a value that was recorded under
            the same key stays
        :param exclude: the outputs that shall not get its values: names, or a callable that
            gives them for a key; by default the source's own ``exclude``
        :raises TypeError: it cannot be called
        """
        check_callable(source)
        if self._rank == 0:
            self._sources.add(source, exclude)

    def call_before_close(self, callback: Callable[[], object]) -> None:
        """Have something called when this logger is closed, before it stops to take records.

        It must not wait for anything, and is called once.
        """
        self._callbacks.append(callback)

    def _before_close(self) -> None:
        self._sources.stop()
        while self._callbacks:
            try:
                self._callbacks.pop()()
            except Exception as error:  # it must not keep the logger from closing
                self._trouble.tell("before close", f"before closing: {describe(error)}", error)

    # Records on their way

    def _current(self, from_start: bool = False) -> list[sb3.KVWriter]:
        """The outputs that there are now; none above rank 0."""
        return [] if self._rank else self._fanout.current(self.output_formats, from_start)

    def _write(
        self,
        outputs: list[sb3.KVWriter],
        values: Mapping[Any, Any],
        excluded: Mapping[Any, Any],
        parts: Iterable[tuple[str, int, Mapping[Any, Any]]],
    ) -> None:
        """Write values to every output.

        :param parts: the same values apart by axis, each with its name and its step
        """
        records = []
        for axis, step, part in parts:
            if part:
                record = make_record(part, excluded, step, self._keep)
                records.append(self._journaled(replace(record, axis=axis) if axis else record))
        self._tell_hidden("what was recorded")
        self._fanout.write(outputs, records, values, excluded, self._step)

    def _log_values(
        self, values: Mapping[Any, Any], step: Any, axis: str = "", exclude: Exclude = None
    ) -> None:
        """Write values at once, beside those that wait for the next dump."""
        if self._is_off():
            return
        with self._turn:
            outputs = self._current()
            at = self._step if step is None else self._valid_step(step)
            if not axis:  # a late value does not turn the run back
                self._step = max(self._step, at)
            parts = [(axis, at, values)] if axis else self._axes.split(values, at)
            excluded = {key: exclude(key) if callable(exclude) else exclude for key in values if exclude}
            self._write(outputs, values, excluded, parts)

    def _hand_over(self, record: Record) -> None:
        """Write a record that only outputs of ours know what to do with."""
        if self._is_off():
            return
        with self._turn:
            outputs = self._current()
            self._fanout.hand(outputs, self._journaled(record))

    def _keep(self, key: str, value: Any, step: int) -> Value:
        if self._media is None:  # there are but text outputs, which show a word
            return self._secrets.nested(to_plain(value))
        kept = self._media.keep(key, value, step)
        if isinstance(kept, Media) and "raw" in kept.about:
            self._fanout.encode_from_here()
        return kept

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

    def _is_off(self) -> bool:
        """Whether nothing is to be written: not at this level, not after close, in a fork, above rank 0."""
        return self._rank > 0 or self._is_disabled()

    def _is_disabled(self) -> bool:
        """Whether nothing is to be taken: not at this level, not after close, not in a fork."""
        return self._valid_level(self.level) == sb3.DISABLED or self._is_inert()

    def _is_inert(self) -> bool:
        """Whether nothing can be written: after close, or in a fork, whose files are its parent's."""
        if self._pid == os.getpid():
            return False
        why = "it is closed" if self._pid is None else "this is a fork of the process that logs"
        self._trouble.tell("inert", f"the logger does nothing any more: {why}")
        return True
