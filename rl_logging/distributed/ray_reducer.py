"""RayReducer: the parts of ranks that are Ray's tasks or actors, by an actor that collects them."""

import asyncio
import threading
import time
from collections import deque
from importlib.util import find_spec
from typing import Any

from rl_logging.distributed.parts import Part, merge
from rl_logging.distributed.reducer import KEPT_DUMPS, TIMEOUT_S, Absent, Gathered, check_reducer
from rl_logging.distributed.wire import packed, unpacked
from rl_logging.errors import MissingBackendError

_PAUSE_S = 0.05  # between two looks for the actor
_REPLY_S = 5.0  # the actor itself may take, beyond what it waits for


class RayReducer:
    """Brings the parts of ranks that are Ray's tasks or actors to rank 0, by a named actor.

    Ranks above 0 push their parts and do not wait. Rank 0 asks for them, one round trip, and
    waits for those that are late, once: who was missing is not waited for again until it has
    caught up. Rank 0's process starts the actor, which ends with it and needs no CPU.

    :param rank: this process's, from 0
    :param ranks: how many there are
    :param name: of the actor; two runs in one Ray job need two
    :param timeout_s: how long rank 0 waits at a dump, in seconds
    :param on_missing: ``"partial"``: go on with what came; ``"raise"``: write it, then raise
        :class:`rl_logging.MissingRanksError`
    :raises MissingBackendError: Ray is not installed
    :raises RuntimeError: Ray is not initialised in this process, or rank 0 has no such reducer
    :raises ValueError: an argument that is not allowed
    """

    def __init__(
        self,
        rank: int,
        ranks: int,
        name: str = "rl_logging",
        *,
        timeout_s: float = TIMEOUT_S,
        on_missing: str = "partial",
    ) -> None:
        check_reducer(rank, ranks, timeout_s, on_missing)
        if find_spec("ray") is None:
            raise MissingBackendError("ray", extra="ray")
        import ray

        if not ray.is_initialized():
            raise RuntimeError(
                "Ray is not initialised here; call ray.init(…) first, or log from Ray's workers"
            )
        self.rank, self.ranks, self.name = rank, ranks, name
        self.timeout_s, self.on_missing = float(timeout_s), on_missing
        self._absent = Absent(ranks)
        self._pushed: deque[Any] = deque()  # what the actor has not confirmed yet
        self._actor = self._find() if rank else self._start()

    def gather(self, part: Part) -> Gathered | None:
        """Send this rank's part; on rank 0, give what all sent for the same dump."""
        if self.rank:
            self._push(part)
            return None
        import ray

        answer = self._actor.collect.remote(part.dump, self._absent.waited(), self.timeout_s)
        found, there = ray.get(answer, timeout=self.timeout_s + _REPLY_S)
        return self._absent.gathered(part.dump, merge([part, unpacked(found)]), there)

    def _push(self, part: Part) -> None:
        """Send a part, and wait for nothing.

        :raises RuntimeError: the actor takes no parts
        :raises ray.exceptions.RayError: it is dead
        """
        import ray

        while self._pushed and ray.wait([self._pushed[0]], timeout=0)[0]:
            ray.get(self._pushed.popleft())
        if len(self._pushed) >= KEPT_DUMPS:
            raise RuntimeError(f"rank 0 has taken none of the last {KEPT_DUMPS} parts; this one is left out")
        self._pushed.append(self._actor.push.remote(packed(part)))

    def _start(self) -> Any:
        import ray

        class_ = ray.remote(num_cpus=0, max_restarts=-1)(_Collector)
        try:
            return class_.options(name=self.name).remote()
        except ValueError as error:
            raise RuntimeError(
                f"another RayReducer of this Ray job has the name {self.name!r}; close its logger, or give "
                "one a name= of its own"
            ) from error

    def _find(self) -> Any:
        """The actor that rank 0 starts."""
        import ray

        deadline, pause = time.monotonic() + self.timeout_s, threading.Event()
        while True:
            try:
                return ray.get_actor(self.name)
            except ValueError as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"rank 0 has started no RayReducer {self.name!r} within {self.timeout_s:g} s"
                    ) from error
            pause.wait(_PAUSE_S)

    def close(self) -> None:
        """Send no more; rank 0 ends the actor."""
        import ray

        if self.rank == 0 and ray.is_initialized():
            ray.kill(self._actor)
        elif self._pushed and ray.is_initialized():  # this process may end at once
            ray.wait(list(self._pushed), num_returns=len(self._pushed), timeout=self.timeout_s)


class _Collector:
    """The actor: it puts parts together as they come, until rank 0 asks for them."""

    def __init__(self) -> None:
        self._parts: dict[int, Part] = {}  # by dump, of all ranks that sent one
        self._newest: dict[int, int] = {}  # dump of a rank
        self._collected = -1
        self._news = asyncio.Event()

    async def push(self, content: bytes) -> None:
        """Take a part; those of a rank that is far ahead of rank 0, or late, are left out."""
        part = unpacked(content)
        (rank,) = part.ranks
        self._newest[rank] = part.dump
        if self._collected < part.dump <= self._collected + KEPT_DUMPS:
            self._parts[part.dump] = merge([self._parts.get(part.dump, Part()), part])
        self._news.set()

    async def collect(self, dump: int, waited: list[int], timeout_s: float) -> tuple[bytes, list[int]]:
        """What came for a dump, as one part, and from which ranks.

        Who has sent what it had for the dump before is waited for, too.
        """
        deadline = time.monotonic() + timeout_s
        expected = {*waited, *(rank for rank, newest in self._newest.items() if newest >= dump - 1)}
        while not expected <= self._parts.get(dump, Part()).ranks:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), deadline - time.monotonic())
            except asyncio.TimeoutError:
                break
        found = self._parts.get(dump, Part())
        self._collected = max(self._collected, dump)
        self._parts = {number: part for number, part in self._parts.items() if number > self._collected}
        return packed(found), sorted(found.ranks)
