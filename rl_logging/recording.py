"""The values between two dumps: SB3's ``record`` methods, for which no value is a bad one."""

import re
import threading
from collections.abc import Iterable
from typing import Any

from stable_baselines3.common import logger as sb3

from rl_logging.axes import Axes
from rl_logging.distributed.buffer import valid_weight
from rl_logging.errors import Trouble, caller
from rl_logging.record import exclusion_names, key_name, to_step
from rl_logging.redaction import Redaction
from rl_logging.tensors import fetched
from rl_logging.values import describe, detached, to_text

_NUMBER = re.compile(r"\d+")
_NAMED = 8  # hidden names that are said at once
Taken = tuple[dict[Any, Any], dict[Any, Any]]
"""What was recorded, and what is excluded where, by key."""


class RecordingLogger(sb3.Logger):
    """The half of the logger that keeps values until the next dump."""

    def __init__(
        self, folder: str | None, output_formats: list[sb3.KVWriter], secret_names: Iterable[str] = ()
    ) -> None:
        super().__init__(folder, output_formats)
        self._trouble = Trouble()
        self._secrets = Redaction(secret_names)
        self._axes = Axes()
        self._step = 0
        self._lock = threading.RLock()  # a signal handler may record while its thread does

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

    def record_mean(
        self, key: str, value: Any, exclude: str | tuple[str, ...] | None = None, *, weight: float = 1
    ) -> None:
        """As :meth:`record`, but of several values under one key, the mean.

        A value that has no mean, such as a text, is kept beside it, under the key and the
        value's type: ``loss (str)``.

        :param weight: how much the value counts, such as the size of its batch; 0 is not at all
        """
        with self._lock:
            known = None
            try:
                known = key in self.name_to_value
                if weight == 1:
                    super().record_mean(key, detached(value), exclude)
                else:
                    self._record_weighted(key, detached(value), exclude, weight)
            except Exception as error:  # such as a value without a mean
                if known is False:
                    self.name_to_value.pop(key, None)  # the zero that SB3 began with
                name = key_name(key) if known is None else f"{key_name(key)} ({type(value).__name__})"
                self._keep_aside(name, value, exclude, error)

    def _record_weighted(self, key: str, value: Any, exclude: Any, weight: float) -> None:
        weight = valid_weight(weight)
        if not weight:
            return
        before = self.name_to_count[key]
        total = value * (1.0 * weight)  # a text, which has no mean, raises here
        total = total + self.name_to_value[key] * before if before else total
        self.name_to_value[key] = total / (before + weight)
        self.name_to_count[key] = before + weight  # type: ignore[assignment]
        self.name_to_excluded[key] = self.to_tuple(exclude)

    def _keep_aside(self, name: str, value: Any, exclude: Any, error: Exception) -> None:
        self._trouble.tell(f"record {name[:100]}", f"recorded as {name!r}, because: {describe(error)}")
        super().record(name, value, exclude)

    def _take(self) -> Taken:
        """What was recorded since the last call."""
        with self._lock:
            taken = fetched(self.name_to_value), dict(self.name_to_excluded)
            self.name_to_value.clear()
            self.name_to_count.clear()
            self.name_to_excluded.clear()
        return taken

    def _tell_hidden(self, where: str) -> None:
        """Say once what was hidden."""
        if names := self._secrets.new_hidden():
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            told = f"secrets in {where} are replaced by <hidden>: {', '.join(names[:_NAMED])}{more}"
            self._trouble.tell(f"hidden {names[0][:100]}", told)

    def _tell_bad(self, method: str, name: Any, error: Exception) -> None:
        told = f"{method}: {to_text(name)!r} is not logged: {describe(error)}{caller()}. Training goes on."
        kind = _NUMBER.sub("#", describe(error))[:80]  # of one name, several things may be wrong
        self._trouble.tell(f"{method} {to_text(name)[:100]} {kind}", told)

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
