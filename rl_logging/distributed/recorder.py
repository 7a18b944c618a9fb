"""Recorder: what a worker records for a logger that is in another process."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from rl_logging.distributed.buffer import Buffer
from rl_logging.distributed.methods import Exclude, RecordMethods
from rl_logging.distributed.parts import Part, part_of
from rl_logging.distributed.timers import Timers
from rl_logging.errors import Trouble
from rl_logging.record import exclusion_names, key_name
from rl_logging.tensors import is_tensor
from rl_logging.values import describe, is_number, to_plain, to_text

_KEYS = 10_000  # that wait to be taken


class Recorder(RecordMethods):
    """The ``record`` methods without a logger: :meth:`take` gives what was recorded, to be sent.

    A controller that has workers give their parts with what they do puts them into its next
    dump by :meth:`rl_logging.Logger.add_parts`. ::

        def rollout(self):
            self.recorder.record_mean("rollout/return", 7.0)
            return batch, self.recorder.take()

    :param rank: the worker's number, from 0
    """

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank
        self._trouble = Trouble()
        self._buffer = Buffer()
        self._timers = Timers(self._trouble)
        self._excluded: dict[str, tuple[str, ...]] = {}
        self._lock = threading.RLock()
        self._names: set[str] = set()  # of what waits
        self._taken = 0

    def record(self, key: str, value: Any, exclude: Exclude = None) -> None:
        """Keep a number or a text until it is taken; of several under one key, the last."""
        self._reduce(self._last, key, value, exclude)

    def record_mean(self, key: str, value: Any, exclude: Exclude = None, *, weight: float = 1) -> None:
        """As :meth:`record`, but of several numbers under one key, the mean.

        :param weight: how much the number counts, such as the size of its batch; 0 is not at all
        """
        self._reduce(self._buffer.mean, key, value, exclude, weight)

    def _last(self, key: str, value: Any) -> None:
        is_tensor_ = is_tensor(value) and value.numel() == 1
        plain = value.detach() if is_tensor_ else to_plain(value)  # a device's stays there until it is taken
        if not is_tensor_ and not is_number(plain) and not isinstance(plain, str):
            told = (
                f"{key!r}: a worker's record is a number or a text; this is kept as {to_text(value)[:100]!r}"
            )
            self._trouble.tell(f"record {key[:100]}", told)
            plain = to_text(value)
        self._buffer.last(key, plain)

    def _reduce(self, add: Callable[..., None], key: Any, value: Any, exclude: Any, *arguments: Any) -> None:
        name = key if type(key) is str else key_name(key)
        with self._lock:
            if name not in self._names and not self._has_room(name):
                return
            try:
                add(name, value, *arguments)
            except Exception as error:  # what has no such reduction; its own code may raise anything
                name = f"{name} ({type(value).__name__})"
                self._trouble.tell(
                    f"record {name[:100]}", f"recorded as {name!r}, because: {describe(error)}"
                )
                self._last(name, value)
            if exclude is not None:
                self._excluded[name] = exclusion_names(exclude)

    def _has_room(self, name: str) -> bool:
        """Whether there is room for one more key; if so, it is taken."""
        if len(self._names) < _KEYS:
            self._names.add(name)
            return True
        told = f"{_KEYS:,} keys wait to be taken; {name[:100]!r} and others are left out until they are"
        self._trouble.tell("full", told)
        return False

    def take(self, compared: Iterable[str] = ()) -> Part:
        """What was recorded since the last call; small, and can be pickled."""
        with self._lock:
            states = self._states()
            excluded, self._excluded = self._excluded, {}
            self._names.clear()
            self._taken += 1
            return part_of(self.rank, self._taken - 1, states, excluded, compared)
