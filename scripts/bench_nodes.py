"""Simulated nodes of a Ray cluster, and a source that asks them.

Each node is an address of this machine, with a recorded page of 8 GPUs. One process is all
nodes: it listens once, at every address, answers after the latency of a network, and behaves
by the address at which it was asked.
"""

import asyncio
import contextlib
import gzip
import random
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from bench_process import Process
from bench_store import closed_port

from rl_logging.sources.ray_child import ClusterProcess
from rl_logging.sources.ray_cluster import RayCluster
from rl_logging.sources.ray_names import Node, NodeNames
from rl_logging.sources.sampled import KEEP_INTERVALS

HEALTHY, BUSY, DEAD, MUTE, SLOW = "healthy", "busy", "dead", "mute", "slow"
ERROR, ENDLESS, GARBAGE = "error", "endless", "garbage"
ALL_HEALTHY, SILENT, LYING = "all healthy", "1 % dead, 1 % mute", "and some slow or lying"
ALL_BUSY = "all healthy, pages of busy head nodes"
# Of each bad kind there is one in so many nodes, and at least one.
STATES: dict[str, dict[str, int]] = {
    ALL_HEALTHY: {},
    SILENT: {DEAD: 100, MUTE: 100},
    ALL_BUSY: {BUSY: 1},
    LYING: {DEAD: 100, MUTE: 100, SLOW: 400, ERROR: 400, ENDLESS: 400, GARBAGE: 400},
}
IN_THREAD = 64  # nodes; RayGpuSource has a child process ask more
_GPUS = 8  # of a node
_PAGES = Path(__file__).parents[1] / "tests/data/ray_pages"
_RECORDED = ("gpu8_busy", "cluster_worker_1gpu")
_OF_GPUS = (b"ray_node_gpu", b"ray_node_gram")
_LATENCY_S = 0.02
_DRIP_S = 0.1  # between two bytes
_WAITING = 4096  # connections that are not accepted yet
_TIMEOUT_S = 1.0  # RayGpuSource's
_OK = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"


def kinds_of(nodes: int, state: str) -> list[str]:
    """How each of so many nodes behaves, in a mixed order that is always the same."""
    bad = [kind for kind, share in STATES[state].items() for _ in range(max(1, nodes // share))]
    kinds = [*bad, *[HEALTHY] * (nodes - len(bad))]
    random.Random(nodes).shuffle(kinds)
    if HEALTHY in kinds:
        kinds[kinds.index(HEALTHY)] = BUSY  # the head node
    return kinds


def healthy(kinds: Sequence[str]) -> int:
    """How many of them answer well."""
    return kinds.count(HEALTHY) + kinds.count(BUSY)


def _pages() -> dict[str, bytes]:
    """The recorded pages: of a busy head node, and of a worker node, with the GPUs of the former."""
    busy, worker = (gzip.decompress((_PAGES / f"{name}.txt.gz").read_bytes()) for name in _RECORDED)
    gpus = b"".join(line for line in busy.splitlines(keepends=True) if line.startswith(_OF_GPUS))
    others = [line for line in worker.splitlines(keepends=True) if not line.startswith(_OF_GPUS)]
    half = len(others) // 2
    return {BUSY: busy, HEALTHY: b"".join(others[:half]) + gpus + b"".join(others[half:])}


class Nodes:
    """Nodes that are there until this is closed.

    :param folder: made for their process
    :param kinds: how each behaves
    """

    def __init__(self, folder: Path, kinds: Sequence[str]) -> None:
        addresses = [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(len(kinds))]
        self.kinds = kinds
        self._process = Process(serve, folder, dict(zip(addresses, kinds, strict=True)))
        port, dead = self._process.receive()
        self.nodes = [
            Node(f"{number:056x}", address, dead if kind == DEAD else port, address, f"host-{number}")
            for number, (address, kind) in enumerate(zip(addresses, kinds, strict=True))
        ]

    def __enter__(self) -> "Nodes":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()


class Round(NamedTuple):
    """All nodes asked once.

    :param seconds: until what the nodes said was published
    :param nodes: how many are in it, with what they said in this round
    """

    seconds: float
    nodes: int


class SimulatedSource:
    """What RayGpuSource is, for nodes that Ray does not know; it remembers how long it took.

    :param in_child: whether a child process asks
    """

    name = prefix = "ray"

    def __init__(self, nodes: Sequence[Node], in_child: bool, every_s: float = 10.0) -> None:
        self.every_s = every_s
        self.rounds: list[Round] = []
        self.ended = threading.Event()
        self._begun = threading.Semaphore(0)  # released by each round that begins
        self._nodes, self._names = nodes, NodeNames()
        class_ = ClusterProcess if in_child else RayCluster
        self._cluster = class_(detail="auto", timeout_s=_TIMEOUT_S, keep_s=KEEP_INTERVALS * every_s)

    def __call__(self) -> dict[str, Any]:
        self._begun.release()
        start = time.perf_counter()
        values = self._cluster.ask(self._names.of(self._nodes)).values
        seconds = time.perf_counter() - start
        # A page of an earlier round has its GPUs in it, too, but its node counts as silent.
        nodes = min(values.get("gpus", 0) // _GPUS, values["nodes_alive"] - values["nodes_silent"])
        self.rounds.append(Round(seconds, nodes))
        return {f"{self.prefix}/{key}": value for key, value in values.items()}

    def wait_for_second(self) -> None:
        """Wait until the second round begins: the first one starts the child, and sees all labels anew."""
        for _ in range(2):
            self._begun.acquire()

    def close(self) -> None:
        """End the child process, where there is one."""
        if isinstance(self._cluster, ClusterProcess):
            self._cluster.close()
        self.ended.set()


# In the nodes' process


def serve(connection: Connection, folder: Path, kinds: Mapping[str, str]) -> None:
    """Be the nodes at these addresses until something is sent."""
    with closed_port() as dead:
        asyncio.run(_Server(kinds).run(connection, dead))


def _answer(content: bytes, is_packed: bool) -> bytes:
    encoding = b"Content-Encoding: gzip\r\n" if is_packed else b""
    return b"%s%sContent-Length: %d\r\n\r\n" % (_OK, encoding, len(content)) + content


class _Server:
    def __init__(self, kinds: Mapping[str, str]) -> None:
        self._kinds = kinds
        pages = _pages()
        self._page = pages[HEALTHY]
        self._packed = {kind: _answer(gzip.compress(page), True) for kind, page in pages.items()}
        self._plain = {kind: _answer(page, False) for kind, page in pages.items()}
        self._garbage = _OK + b"\r\n" + random.Random(0).randbytes(1 << 16)

    async def run(self, connection: Connection, dead: int) -> None:
        server = await asyncio.start_server(self._answer, "0.0.0.0", 0, backlog=_WAITING)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(connection.fileno(), ended.set)
        connection.send((server.sockets[0].getsockname()[1], dead))
        await ended.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = self._kinds[writer.get_extra_info("sockname")[0]]
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # who has asked is gone
            request = await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(_LATENCY_S)
            if kind in self._packed:
                writer.write((self._packed if b"gzip" in request else self._plain)[kind])
            elif kind == MUTE:
                await reader.read()
            elif kind == SLOW:
                await self._drip(writer)
            elif kind == ENDLESS:
                await self._repeat(writer)
            elif kind == ERROR:
                writer.write(b"HTTP/1.0 500 Internal Server Error\r\n\r\n")
            elif kind == GARBAGE:
                writer.write(self._garbage)
        writer.close()

    async def _drip(self, writer: asyncio.StreamWriter) -> None:
        for byte in self._plain[HEALTHY]:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(_DRIP_S)

    async def _repeat(self, writer: asyncio.StreamWriter) -> None:
        writer.write(_OK + b"\r\n")
        while True:
            writer.write(self._page)
            await writer.drain()
