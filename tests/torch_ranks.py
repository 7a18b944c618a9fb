"""Processes that are ranks of torch.distributed, over gloo, on this machine."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from waiting import wait_until

LONG_S = 120.0


class Ranks:
    """Ranks that are running.

    :param processes: by rank
    :param store: by which they found each other; tests use it to have them wait for each other
    """

    def __init__(self, processes: list[Any], store: Any) -> None:
        self.processes, self.store = processes, store

    def wait(self, *expected: int) -> None:
        """Wait for the end of all; ``expected`` are their exit codes, by default 0."""
        wait_until(lambda: not any(process.is_alive() for process in self.processes), LONG_S)
        codes = [process.exitcode for process in self.processes]
        assert codes == list(expected or [0] * len(codes))

    def kill(self, rank: int) -> None:
        """Kill one, as the system does that has no memory left."""
        os.kill(self.processes[rank].pid, signal.SIGKILL)
        self.processes[rank].join()

    def say(self, word: str) -> None:
        """Let all go on that wait for a word."""
        self.store.set(word, "")

    def wait_for(self, word: str) -> None:
        """Wait until a rank has said a word."""
        self.store.wait([word], timedelta(seconds=LONG_S))


@contextmanager
def ranks(count: int, task: Callable[..., None], folder: Path, *arguments: Any) -> Iterator[Ranks]:
    """Ranks that do a task; none outlives the test.

    :param task: a function at a module's top; called with the rank, the store, the folder
        and the arguments
    """
    import torch.distributed as dist

    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed", "rl_logging.compose"])  # once, not in each rank
    processes = [
        context.Process(target=_run, args=(rank, count, store.port, task, folder, *arguments))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    try:
        yield Ranks(processes, store)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _run(rank: int, count: int, port: int, task: Callable[..., None], folder: Path, *arguments: Any) -> None:
    import torch
    import torch.distributed as dist

    import rl_logging.compose  # noqa: F401  else some ranks are at their first dump while others import it

    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
    task(rank, store, folder, *arguments)
    dist.destroy_process_group()
