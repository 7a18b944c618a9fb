"""Ray actors that record, for tests."""

from typing import Any

import numpy as np

from rl_logging import Handle, Part, Recorder
from rl_logging.journal import read


def values_of(rank: int) -> "np.ndarray[Any, Any]":
    """What a worker records: in another number than others do."""
    return np.random.default_rng(rank).normal(size=3 * rank + 1)


class Worker:
    """A worker with all three ways to record."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self._recorder = Recorder(rank)
        self._logger: Any = None

    def record(self, handle: Handle) -> int:
        """Record by a handle."""
        _record(handle, self.rank)
        return self.rank

    def part(self) -> Part:
        """Record, and give it with the answer."""
        _record(self._recorder, self.rank)
        return self._recorder.take()

    def configure(self, folder: str, ranks: int, **options: Any) -> None:
        """Be one of several ranks, each with a logger."""
        from rl_logging import RayReducer, configure  # SB3 and torch come with it

        self._logger = configure(folder, ["csv"], reducer=RayReducer(self.rank, ranks, **options))

    def dump(self, step: int) -> str:
        """Record, and dump as a rank; give the error, if there is one."""
        _record(self._logger, self.rank)
        try:
            self._logger.dump(step)
        except RuntimeError as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def read(self, folder: str) -> list[dict[str, Any]]:
        """What is in the journal, dump by dump."""
        return [dict(each.values) for each in read(f"{folder}/journal.jsonl") if each.kind == "metrics"]

    def close(self) -> None:
        """Close the logger."""
        self._logger.close()


def _record(logger: Any, rank: int) -> None:
    for value in values_of(rank):
        logger.record_mean("mean", value)
    logger.record_sum("ranks", 1)
    with logger.timer("rollout"):
        pass


def train(options: dict[str, str]) -> None:
    """What a worker of Ray Train does."""
    from rl_logging import configure

    with configure(options["folder"], []) as logger:
        logger.record_sum("ranks", 1)
        logger.record("by", type(logger._reducer).__name__)
        logger.dump(1)
