"""Ranks: whether this process is one of several, and the reducer for them."""

import os
import sys

from rl_logging.distributed.ray_reducer import RayReducer
from rl_logging.distributed.reducer import Reducer
from rl_logging.distributed.torch_reducer import TorchReducer


def find_reducer() -> Reducer | None:
    """The reducer for the ranks this process is one of; None if it is alone.

    It is one of several where torch.distributed is initialised or Ray Train runs it.
    """
    torch, train = sys.modules.get("torch.distributed"), sys.modules.get("ray.train")
    if torch is not None and torch.is_available() and torch.is_initialized():
        if torch.get_world_size() == 1:
            return None
        return TorchReducer()
    if train is not None and (found := _ray_train_ranks()) is not None:
        return RayReducer(*found)
    return None


def _ray_train_ranks() -> tuple[int, int] | None:
    try:
        context = sys.modules["ray.train"].get_context()
        rank, ranks = context.get_world_rank(), context.get_world_size()
    except RuntimeError:  # this process is none of its workers
        return None
    return (rank, ranks) if ranks is not None and ranks > 1 else None


def started_by_torchrun() -> str:
    """What torchrun says this process is, as ``rank 3 of 8``; empty if it has not started it."""
    rank, ranks = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    return f"rank {rank} of {ranks}" if rank.isdecimal() and ranks.isdecimal() and int(ranks) > 1 else ""
