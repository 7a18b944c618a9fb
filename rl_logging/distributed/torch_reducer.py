"""TorchReducer: the parts of the ranks of torch.distributed, by its store."""

import itertools
import time
from datetime import timedelta
from typing import Any

from rl_logging.distributed.parts import Part, merge
from rl_logging.distributed.reducer import KEPT_DUMPS, TIMEOUT_S, Absent, Gathered, check_reducer
from rl_logging.distributed.wire import packed, unpacked

_numbers = itertools.count()  # all ranks make their reducers in one order, as they make process groups


class TorchReducer:
    """Brings the parts of all ranks of ``torch.distributed`` to rank 0, with any backend.

    Parts go by the store through which the ranks found each other, not by a collective: a
    collective that one rank misses hangs or fails for all, and leaves a process group that
    training cannot use any more. Ranks above 0 do not wait. Rank 0 waits for those that are
    late, once: who was missing is not waited for again until it has caught up.

    :param timeout_s: how long rank 0 waits at a dump, in seconds
    :param on_missing: ``"partial"``: go on with what came; ``"raise"``: write it, then raise
        :class:`rl_logging.MissingRanksError`
    :param store: another store than that of the default process group
    :raises RuntimeError: ``torch.distributed`` is not initialised
    :raises ValueError: an argument that is not allowed
    """

    def __init__(
        self, *, timeout_s: float = TIMEOUT_S, on_missing: str = "partial", store: Any = None
    ) -> None:
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import _get_default_store

        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "torch.distributed is not initialised; call torch.distributed.init_process_group(…) first"
            )
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        check_reducer(self.rank, self.ranks, timeout_s, on_missing)
        self.timeout_s, self.on_missing = float(timeout_s), on_missing
        # A connection of its own: a wait in it must hold up nobody else who uses the store.
        own = _get_default_store() if store is None else store
        own = own.clone() if hasattr(own, "clone") else own  # torch below 2.8 has no clone()
        own.set_timeout(timedelta(seconds=timeout_s))
        self._store: Any = dist.PrefixStore(f"rl_logging/{next(_numbers)}", own)  # type: ignore[attr-defined]
        self._timed_out = dist.DistStoreError
        self._absent = Absent(self.ranks)
        self._told: dict[str, str] = {}  # by topic, for the next dump

    def gather(self, part: Part) -> Gathered | None:
        """Send this rank's part; on rank 0, give what all sent for the same dump."""
        if self.rank:
            # A slot is used again: what a rank sends while rank 0 stands still takes bounded memory.
            self._send(_slot(self.rank, part.dump), packed(part))
            return None
        found = self._received(part.dump, time.monotonic() + self.timeout_s)
        gathered = self._absent.gathered(part.dump, merge([part, *found.values()]), found)
        told, self._told = {**gathered.told, **self._told}, {}
        return gathered._replace(told=told)

    def _send(self, slot: str, content: bytes) -> None:
        if self._store is None:
            raise RuntimeError("the store, which is rank 0's, is gone")
        try:
            self._store.set(slot, content)
        except RuntimeError:  # it does not come back, and prints a page at each try
            self._store = None
            raise

    def _received(self, dump: int, deadline: float) -> dict[int, Part]:
        """What the others sent for a dump, by rank."""
        found: dict[int, Part] = {}
        expected = [*self._absent.waited(), *self._caught_up(dump)]
        while True:
            waited = [rank for rank in expected if rank not in found]
            all_there = self._wait([_slot(rank, dump) for rank in waited], deadline)
            there = waited if all_there else self._with_slot(waited, dump)
            others = [rank for rank in range(1, self.ranks) if rank not in expected]
            parts = self._taken([*there, *self._with_slot(others, dump)], dump)
            found.update({rank: part for rank, part in parts.items() if part.dump == dump})
            if not all_there or all(part.dump >= dump for part in parts.values()):
                return found
            # A slot had what came too late for an earlier dump; what it waits for is still to come.

    def _caught_up(self, dump: int) -> list[int]:
        """Ranks that were missing, and have sent what they had for the dump before this one."""
        absent = [rank for rank in range(1, self.ranks) if rank in self._absent]
        late = self._taken(self._with_slot(absent, dump - 1), dump - 1)
        return [rank for rank, part in late.items() if part.dump == dump - 1]

    def _with_slot(self, ranks: list[int], dump: int) -> list[int]:
        return [rank for rank in ranks if self._store.check([_slot(rank, dump)])]

    def _taken(self, ranks: list[int], dump: int) -> dict[int, Part]:
        """What the slots of ranks have; what is of a later dump stays in it."""
        slots = [_slot(rank, dump) for rank in ranks]
        contents = self._store.multi_get(slots) if slots else []
        parts: dict[int, Part] = {}
        for rank, slot, content in zip(ranks, slots, contents, strict=True):
            try:
                part = parts[rank] = unpacked(content)
            except ValueError as error:
                self._told[f"part {rank}"] = f"what rank {rank} sent for a dump is left out: {error}"
            if rank not in parts or part.dump <= dump:
                self._store.delete_key(slot)
        return parts

    def _wait(self, slots: list[str], deadline: float) -> bool:
        """Wait until all slots are filled; tell whether they are."""
        left_s = max(deadline - time.monotonic(), 0.001)
        try:
            if slots:
                self._store.wait(slots, timedelta(seconds=left_s))
        except self._timed_out:
            return False
        return True

    def close(self) -> None:
        """Send no more."""
        self._store = None


def _slot(rank: int, dump: int) -> str:
    return f"{rank}/{dump % KEPT_DUMPS}"
