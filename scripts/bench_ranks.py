"""What many ranks and workers cost: merging their parts, and bringing them to rank 0.

Ray's ranks up to 64 are actors of their own; beyond, one actor pushes for all. Ranks of
torch.distributed beyond one are simulated by a process that sends for all. In both cases all
have sent before rank 0 asks, so that nothing is measured but the asking.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from bench_process import Process
from bench_report import progress, quantile, show

from rl_logging import Part, RayReducer, Recorder, TorchReducer
from rl_logging.distributed.parts import merge
from rl_logging.distributed.torch_reducer import _slot
from rl_logging.distributed.wire import packed, unpacked

_KEYS = 50
_VALUES = 200  # of a key with a sketch
_REAL = 64  # Ray actors


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure all, and show it."""
    from bench_workers import (
        measure_handles,
        measure_timers,
    )  # Ray's actors import this module, and need no torch

    sizes = [1, 8] if options.quick else [1, 8, 64, 256, 1024]
    rounds = 3 if options.quick else options.rounds or 30
    _measure_merge(sizes, rounds)
    _measure_ray(sizes, rounds)
    _measure_torch(sizes, rounds, folder / "torch")
    measure_handles(
        [1, 4] if options.quick else [1, 4, 8, 32], 5 if options.quick else 200, folder / "handles"
    )
    measure_timers(1_000 if options.quick else 200_000)


def part(rank: int, dump: int, sketches: bool = False) -> Part:
    """What a rank has recorded: 50 means, or 50 keys with a sketch each."""
    recorder, random = Recorder(rank), np.random.default_rng(rank)
    for key in range(_KEYS):
        if sketches:
            recorder.record_stats(f"train/key_{key}", random.normal(size=_VALUES))
        else:
            recorder.record_mean(f"train/key_{key}", random.normal())
    taken = recorder.take()
    return Part(taken.ranks, dump, taken.states)


def _ms(task: Callable[..., object], *arguments: Any) -> float:
    start = time.perf_counter()
    task(*arguments)
    return (time.perf_counter() - start) * 1e3


def _figures(times_ms: list[float]) -> list[str]:
    return [f"{statistics.median(times_ms):.2f}", f"{quantile(times_ms, 0.9):.2f}"]


def _measure_merge(sizes: list[int], rounds: int) -> None:
    rows = []
    for sketches, what in [(False, "50 means"), (True, "50 keys of 200 values each, in sketches")]:
        for size in sizes:
            progress(f"merge {size} parts of {what}")
            content = [packed(part(rank, 0, sketches)) for rank in range(size)]
            parts = [unpacked(each) for each in content]
            times_ms = [_ms(merge, parts) for _ in range(3 if sketches else rounds)]
            rows.append([what, f"{size:,}", f"{len(content[0]):,}", *_figures(times_ms)])
    show(["parts of", "parts", "bytes of one", "merge, ms: median", "90 %"], rows, f"{rounds} rounds.")


# Ray


class Ranks:
    """An actor that pushes for ranks."""

    def __init__(self, ranks: list[int], size: int, name: str) -> None:
        self._reducers = [RayReducer(rank, size, name) for rank in ranks]

    def push(self, dump: int) -> None:
        """Push, and wait until all is with the collector."""
        import ray

        for reducer in self._reducers:
            reducer.gather(part(reducer.rank, dump))
            ray.get(list(reducer._pushed))


@contextmanager
def _ray() -> Iterator[Any]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def _measure_ray(sizes: list[int], rounds: int) -> None:
    rows = []
    with _ray() as ray:
        for size in sizes:
            progress(f"collect from {size} Ray actors")
            reducer = RayReducer(0, size + 1, f"bench {size}")
            groups = [[rank] for rank in range(1, size + 1)] if size <= _REAL else [list(range(1, size + 1))]
            class_ = ray.remote(num_cpus=0)(Ranks)
            actors = [class_.remote(group, size + 1, f"bench {size}") for group in groups]
            asked, empty = [], []
            for dump in range(rounds):
                ray.get([actor.push.remote(dump) for actor in actors])
                empty.append(_ms(_answer, reducer))
                asked.append(_ms(_collect, reducer, part(0, dump)))
            how = "actors" if size <= _REAL else "simulated"
            rows.append([f"{size:,}", how, *_figures(empty), *_figures(asked)])
            for actor in actors:
                ray.kill(actor)
            reducer.close()
    columns = ["ranks", "", "one round trip, ms: median", "90 %", "collect, ms: median", "90 %"]
    show(columns, rows, f"{rounds} dumps of 50 means a rank; all are pushed before rank 0 asks.")


def _answer(reducer: RayReducer) -> None:
    """A round trip to the collector, which has nothing for this dump."""
    import ray

    ray.get(reducer._actor.collect.remote(-1, [], 0.0))


def _collect(reducer: Any, own: Part) -> None:
    """Dump as rank 0.

    :raises RuntimeError: not all parts came
    """
    if missing := reducer.gather(own).missing:
        raise RuntimeError(f"{len(missing)} parts did not come")


# torch.distributed


def send_for_all(connection: Any, folder: Path, port: int, size: int) -> None:
    """Be all ranks but the first."""
    import torch.distributed as dist

    store = dist.PrefixStore("rl_logging/0", dist.TCPStore("127.0.0.1", port, is_master=False))  # type: ignore[attr-defined]
    for (dump,) in iter(connection.recv, None):
        for rank in range(1, size + 1):
            store.set(_slot(rank, dump), packed(part(rank, dump)))
        connection.send("sent")


def be_rank_0(connection: Any, folder: Path, size: int) -> None:
    """Dump as rank 0 of many; each number that comes is a dump."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=size + 1, store=FakeStore())
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    reducer = TorchReducer(store=store)
    connection.send(store.port)
    for (dump,) in iter(connection.recv, None):
        connection.send(_ms(_collect, reducer, part(0, dump)))


def _measure_torch(sizes: list[int], rounds: int, folder: Path) -> None:
    rows = []
    for size in sizes:
        progress(f"collect from {size} ranks of torch.distributed")
        with Process(be_rank_0, folder / f"{size}", size) as first:
            port = first.receive()
            with Process(send_for_all, folder / f"{size} others", port, size) as others:
                times_ms: list[float] = []
                for dump in range(rounds):
                    others.ask(dump)
                    times_ms.append(first.ask(dump))
        rows.append([f"{size:,}", *_figures(times_ms)])
    columns = ["other ranks, simulated", "collect, ms: median", "90 %"]
    show(columns, rows, f"{rounds} dumps of 50 means a rank, by a TCPStore; all are sent before rank 0 asks.")
