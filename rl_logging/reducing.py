"""The part of the logger that makes one value of many: of one process, of its workers, of all ranks."""

import numbers
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from stable_baselines3.common import logger as sb3

from rl_logging.distributed.buffer import Buffer
from rl_logging.distributed.handle import Handle
from rl_logging.distributed.inbox import Inbox
from rl_logging.distributed.methods import RecordMethods
from rl_logging.distributed.parts import Part, as_one_rank, merge, of_worker, part_of, reduced
from rl_logging.distributed.reducer import Reducer
from rl_logging.distributed.timers import Timers
from rl_logging.errors import MissingRanksError, named
from rl_logging.record import key_name
from rl_logging.recording import RecordingLogger, Taken
from rl_logging.values import NUMBERS, describe, to_plain

States = dict[tuple[str, str], Any]


class ReducingLogger(RecordMethods, RecordingLogger):
    """Values that come several times between two dumps, from workers, and from other ranks.

    :param reducer: what brings the parts of all ranks to rank 0, which alone writes
    """

    def __init__(
        self,
        folder: str | None,
        output_formats: list[sb3.KVWriter],
        secret_names: Iterable[str] = (),
        reducer: Reducer | None = None,
    ) -> None:
        super().__init__(folder, output_formats, secret_names)
        self._buffer = Buffer()
        self._timers = Timers(self._trouble)
        self._reducer = reducer
        self._rank = 0 if reducer is None else reducer.rank
        self._dumps = 0
        self._compared: list[str] = []
        self._missing: MissingRanksError | None = None  # at the last dump
        self._inbox: Inbox | None = None
        self._handles = 0
        self._parts: list[Part] = []  # that workers gave for the next dump

    def _reduce(self, add: Callable[..., None], key: Any, value: Any, exclude: Any, *arguments: Any) -> None:
        name = key if type(key) is str else key_name(key)
        with self._lock:
            try:
                add(name, value, *arguments)
            except Exception as error:  # what has no such reduction; its own code may raise anything
                self._keep_aside(f"{name} ({type(value).__name__})", value, exclude, error)
                return
            self.name_to_excluded[name] = self.to_tuple(exclude)

    # Workers and ranks

    def handle(self, rank: int | None = None) -> Handle:
        """Give the record methods to a worker: an environment, a Ray actor or task, a process.

        What it records is in the next dump. The first handle starts a thread that listens at
        a socket in a folder of this user's; where Ray is initialised, also at a free port of
        this machine's address in the cluster, for those who know the handle's token.

        :param rank: the worker's number in ``@slowest_rank`` and in messages; by default the
            next one, from 1
        :raises ValueError: a number that is none, or below 0
        """
        if rank is not None and (not isinstance(rank, int) or rank < 0):
            raise ValueError(f"rank is a whole number from 0 on, not {rank!r}")
        with self._lock:
            if self._inbox is None:
                ray: Any = sys.modules.get("ray")
                in_cluster = ray is not None and ray.is_initialized()
                self._inbox = Inbox(self._trouble, ray.util.get_node_ip_address() if in_cluster else None)
            self._handles += 1
            return Handle(self._inbox.place, self._handles if rank is None else rank)

    def add_parts(self, parts: Iterable[Part]) -> None:
        """Put what workers recorded into the next dump; see :class:`rl_logging.Recorder`.

        :raises TypeError: something else than parts
        """
        given = list(parts)
        if wrong := [part for part in given if not isinstance(part, Part)]:
            raise TypeError(f"parts are wanted, as Recorder.take() gives them, not {wrong[0]!r}")
        with self._lock:
            self._parts += given

    def compare_ranks(self, *keys: str) -> None:
        """From the next dump on, log which ranks or workers had the ends of a key, and how far apart.

        ``time/rollout@slowest_rank``, ``@fastest_rank`` and ``@spread`` in seconds; of what is
        no time, ``@highest_rank`` and ``@lowest_rank``. All ranks must call it.

        :param keys: with ``*`` for any text, as in ``time/*``
        """
        with self._lock:
            self._compared += [key for key in keys if key not in self._compared]

    def _take(self) -> Taken:
        with self._lock:
            counts = dict(self.name_to_count)
            values, excluded = super()._take()
            states = self._states()
            parts, self._parts = self._parts, []
            self._dumps += 1
        if self._inbox is not None:
            parts += self._inbox.collect()
        if not (states or parts or self._reducer):
            return values, excluded
        reduced_keys = {key for key, _ in states}
        for key in list(values):
            if key in reduced_keys or ((parts or self._reducer) and _can_be_sent(values[key])):
                name = key if type(key) is str else key_name(key)
                excluded[name] = excluded.get(key, ("",))
                states.update(_state(name, values.pop(key), counts.get(key)))
        limited = {key: excluded[key] for key, _ in states if excluded.get(key, ("",)) != ("",)}
        part = part_of(self._rank, self._dumps, states, limited, self._compared)
        if parts:
            interval_s = self._buffer.interval_s
            part = merge(
                [part, *(of_worker(each, interval_s, self._compared) for each in parts if each.ranks)]
            )
        return self._together(values, excluded, part)

    def _together(self, values: dict[Any, Any], excluded: dict[Any, Any], part: Part) -> Taken:
        """What was recorded here and in a part, of which the reducer makes that of all ranks."""
        missing: tuple[int, ...] = ()
        if self._reducer is not None:
            if len(part.ranks) > 1:
                part = as_one_rank(part, self._rank, part.dump, self._compared)
            part, missing = self._gathered(self._reducer, part)
        if self._rank:
            for key in values:
                told = f"rank {self._rank}: {key!r} is neither a number nor a text; only rank 0's is logged"
                self._trouble.tell(f"rank {key}", told)
            return {}, {}
        found = reduced(part)
        for topic, told in found.told.items():
            self._trouble.tell(topic, told)
        for key in found.values.keys() & values.keys():  # such as loss_mean, beside the stats of loss
            found.values[f"{key} (reduced)"] = found.values.pop(key)
            self._trouble.tell(f"twice {key}", f"{key!r} was recorded, too; the other is '{key} (reduced)'")
        if missing:
            found.values.setdefault("ranks/missing", len(missing))
        return {**values, **found.values}, {**excluded, **found.excluded}

    def _gathered(self, reducer: Reducer, part: Part) -> tuple[Part, tuple[int, ...]]:
        """The part of all ranks that are there, and those that are not."""
        missing: tuple[int, ...] = ()
        try:
            gathered = reducer.gather(part)
        except Exception as error:  # the engine's; it must not stop training
            missing = (0,) if self._rank else tuple(range(1, reducer.ranks))
            told = f"rank {self._rank}: the other ranks are not reached: {describe(error)}. Training goes on."
            self._trouble.tell("reducer", told, error)
        else:
            if gathered is not None:
                part, missing = gathered.part, gathered.missing
                for topic, told in gathered.told.items():
                    self._trouble.tell(topic, told)
            if missing:
                told = (
                    f"{named(missing)} of {reducer.ranks} sent nothing for a dump within "
                    f"{reducer.timeout_s:g} s. It has what the others recorded; no dump waits for them "
                    "again until they have caught up. Ranks must call dump() equally often: what one "
                    "rank has alone is for log_metrics()"
                )
                self._trouble.tell(f"missing {missing}", told)
        raises = missing and reducer.on_missing == "raise"
        self._missing = MissingRanksError(missing, reducer.timeout_s) if raises else None
        return part, missing

    def _stop_reducing(self) -> None:
        """Ask no workers and ranks any more."""
        try:
            if self._inbox is not None:
                self._inbox.close()
            if self._reducer is not None:
                self._reducer.close()
        except Exception as error:  # the engine's, which may be gone already
            self._trouble.tell("reducer", f"the reducer cannot be closed: {describe(error)}", error)

    # For a checkpoint

    def state_dict(self) -> dict[str, Any]:
        """What goes on beyond a dump: windows, weighted means, and the time since the last dump.

        Plain values, for a checkpoint; what waits for the next dump is not among them.
        """
        with self._lock:
            return {"reductions": self._buffer.state_dict(), "step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave.

        :raises ValueError: it is none
        """
        try:
            step, reductions = int(state["step"]), dict(state["reductions"])
            with self._lock:
                self._buffer.load_state_dict(reductions)
                self._step = step
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no state of a logger: {error!r}") from error


def _can_be_sent(value: Any) -> bool:
    """Whether a value may go into a part: a number or a text. Nothing large is looked into."""
    class_ = type(value)
    if issubclass(class_, np.ndarray) and value.size != 1:
        return False
    return class_ in NUMBERS or issubclass(class_, (str, numbers.Number, np.generic, np.ndarray))


def _state(key: str, value: Any, count: float | None) -> States:
    """What was recorded by ``record`` or ``record_mean`` as the state of a reduction."""
    plain = to_plain(value)
    return {(key, "mean"): (plain * count, count)} if count else {(key, "last"): (plain,)}
