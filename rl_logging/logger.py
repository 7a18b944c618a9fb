"""Logger: SB3's, with a journal, and with outputs that cannot stop training."""

import atexit
import difflib
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from stable_baselines3.common import logger as sb3

from rl_logging.delivery import InlineDelivery, describe
from rl_logging.errors import Trouble
from rl_logging.formats import formats
from rl_logging.formats.base import Sender
from rl_logging.journal import Journal
from rl_logging.record import Record, exclusion_names, key_name, make_record, message_record, to_step
from rl_logging.values import detached, to_text

_LEVEL_NAMES = {sb3.DEBUG: "debug", sb3.INFO: "info", sb3.WARN: "warn", sb3.ERROR: "error"}


class Logger(sb3.Logger):
    """SB3's logger, whose ``record``, ``dump``, ``info`` and ``close`` never raise.

    Pass it to any SB3 algorithm by ``model.set_logger(logger)``. Each dump goes to the
    run's journal first, then to every output, each on its own.

    :param folder: the run folder, which gets ``journal.jsonl``; without one there is no
        journal
    :param output_formats: the outputs; ``logger.output_formats.append(…)`` adds one later
    :raises OSError: the journal cannot be written
    """

    def __init__(self, folder: str | None, output_formats: list[sb3.KVWriter]) -> None:
        super().__init__(folder, output_formats)
        self._journal = Journal(Path(folder) / "journal.jsonl") if folder else None
        self._step = self._journal.last_step if self._journal else 0
        self._deliveries: dict[int, InlineDelivery] = {}
        self._exclusions: set[tuple[str, ...]] = set()  # those that were looked at
        self._trouble = Trouble()
        # Two locks, so that who records need not wait for an output. A signal handler may log while
        # its thread does, hence both can be taken again.
        self._lock = threading.RLock()  # for the values since the last dump
        self._turn = threading.RLock()  # one record after the other, in the same order everywhere
        self._pid: int | None = os.getpid()
        atexit.register(self.close)

    @staticmethod
    def to_tuple(string_or_tuple: Any) -> tuple[str, ...]:
        """The names in ``exclude``, however they were given."""
        return ("",) if string_or_tuple is None else exclusion_names(string_or_tuple)

    def record(self, key: str, value: Any, exclude: str | tuple[str, ...] | None = None) -> None:
        """Keep a value until the next dump; of several under one key, the last.

        :param key: what stands before its first slash groups it
        :param value: a number, text, array, tensor, or one of SB3's rich values
        :param exclude: the outputs that shall not get it, by name
        """
        with self._lock:
            try:  # as SB3's method, without a call of it: this runs hundreds of times a dump
                self.name_to_value[key] = detached(value)
                self.name_to_excluded[key] = self.to_tuple(exclude)
            except Exception as error:  # such as an unhashable key
                self._keep_aside(key_name(key), value, exclude, error)

    def record_mean(self, key: str, value: Any, exclude: str | tuple[str, ...] | None = None) -> None:
        """As :meth:`record`, but of several values under one key, the mean.

        A value that has no mean, such as a text, is kept beside it, under the key and the
        value's type: ``loss (str)``.
        """
        with self._lock:
            known = None
            try:
                known = key in self.name_to_value
                super().record_mean(key, detached(value), exclude)
            except Exception as error:  # such as a value without a mean
                if known is False:
                    self.name_to_value.pop(key, None)  # the zero that SB3 began with
                name = key_name(key) if known is None else f"{key_name(key)} ({type(value).__name__})"
                self._keep_aside(name, value, exclude, error)

    def _keep_aside(self, name: str, value: Any, exclude: Any, error: Exception) -> None:
        self._trouble.tell(f"record {name[:100]}", f"recorded as {name!r}, because: {describe(error)}")
        super().record(name, value, exclude)

    def dump(self, step: int = 0) -> None:
        """Write what was recorded since the last dump to the journal and to every output.

        :param step: the training step; what is no number counts as the last dump's step
        """
        if self._valid_level(self.level) == sb3.DISABLED or self._is_inert():
            return
        with self._lock:
            values, excluded = dict(self.name_to_value), dict(self.name_to_excluded)
            self.name_to_value.clear()
            self.name_to_count.clear()
            self.name_to_excluded.clear()
        with self._turn:
            self._step = self._valid_step(step)
            record = self._journaled(make_record(values, excluded, self._step)) if values else None
            if record is not None:
                self._check_exclusions(record)
            for output in list(self.output_formats):
                if isinstance(output, Sender):
                    if record is not None:
                        self._delivery(output).deliver(record)
                elif isinstance(output, sb3.KVWriter):
                    self._call(output, "write", dict(values), dict(excluded), self._step)
                else:
                    kind = type(output).__name__
                    self._trouble.tell(
                        f"no output {kind}", f"a {kind} in output_formats is no KVWriter: it gets nothing"
                    )

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
            record = self._journaled(message_record(" ".join(texts), level_name, self._step))
            for output in list(self.output_formats):
                if isinstance(output, Sender):
                    self._delivery(output).deliver(record)
                elif isinstance(output, sb3.SeqWriter):
                    self._call(output, "write_sequence", list(texts))

    def close(self) -> None:
        """Finish every output and the journal; a second call does nothing."""
        if self._pid != os.getpid():  # closed before, or a fork's copy of its parent's logger
            return
        self._pid = None
        atexit.unregister(self.close)
        for output in self.output_formats:
            if isinstance(output, Sender):
                self._delivery(output)
            else:
                self._call(output, "close")
        for delivery in self._deliveries.values():
            delivery.close()
        if self._journal:
            self._journal.close()
            if missing := self._journal.lost + self._journal.waiting:
                self._trouble.tell("lost", f"journal: {missing} records are lost: they could not be written")

    def __enter__(self) -> "Logger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_inert(self) -> bool:
        """Whether nothing is to be written: after close, or in a fork, whose files are its parent's."""
        if self._pid == os.getpid():
            return False
        why = "it is closed" if self._pid is None else "this is a fork of the process that logs"
        self._trouble.tell("inert", f"the logger does nothing any more: {why}")
        return True

    def _check_exclusions(self, record: Record) -> None:
        """Say so when ``exclude`` names what is no output, with this logger or any other."""
        new = set(record.excluded.values()) - self._exclusions
        if not new:
            return
        self._exclusions |= new
        known = {*formats(), *(getattr(output, "name", "") for output in self.output_formats)}
        for name in {name for names in new for name in names} - known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self._trouble.tell(f"exclude {name[:100]}", f"exclude={name!r} is no output{hint}")

    def _valid_step(self, step: Any) -> int:
        try:
            return to_step(step)
        except ValueError as error:
            self._trouble.tell("step", f"dump: {error}; taken as step {self._step}, the last one")
            return self._step

    def _valid_level(self, level: Any) -> int:
        try:
            return level if type(level) is int else int(level)
        except Exception:  # the object's own code may raise anything
            self._trouble.tell("level", f"{to_text(level)} is no level; taken as info")
            return sb3.INFO

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

    def _delivery(self, output: Sender) -> InlineDelivery:
        # Kept by identity: an output is a plain list's element and need not be hashable.
        delivery = self._deliveries.get(id(output))
        if delivery is None:
            delivery = self._deliveries[id(output)] = InlineDelivery(output)
        return delivery

    def _call(self, output: Any, method: str, *args: Any) -> None:
        """Call an output that is not ours as SB3 does, but isolated."""
        try:
            getattr(output, method)(*args)
        except Exception as error:  # the user's own output must not stop the others
            name = type(output).__name__
            message = f"{name}.{method} failed at step {self._step}: {describe(error)}. Training goes on."
            self._trouble.tell(f"{name} {type(error).__name__}", message, error)
