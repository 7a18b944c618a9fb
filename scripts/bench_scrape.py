"""What it takes to ask the nodes of a Ray cluster: 8 to 4,096 of them, 8 GPUs each, simulated.

One process is the nodes; another one asks them, and does nothing else, or trains and dumps.
As RayGpuSource does, a thread asks up to 64 nodes, and a child process more. Beside it
stands what a peer's logger does: it asks one node after the other, and prometheus_client
reads each page as a whole.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from bench_nodes import IN_THREAD, LYING, SILENT, STATES, Nodes, Round, SimulatedSource, healthy, kinds_of
from bench_process import Process
from bench_report import progress, show
from bench_scrape_dump import measure_dump

from rl_logging.sources.ray_names import Node

_PAUSE_S = 2.0  # between two rounds: the mute nodes' timeouts are over by then
_PEERS_TIMEOUT_S = 5.0
_PATIENCE_S = 3600.0


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Ask clusters of all sizes; then train and dump while some are asked."""
    multiprocessing.set_forkserver_preload(["rl_logging.compose", "rl_logging.sources.ray_child"])
    sizes = [8] if options.quick else [int(size) for size in options.nodes.split(",")]
    later = 1 if options.quick else options.rounds or 5
    rows = []
    for size in sizes:
        for state in STATES:
            would_end = state != LYING and not (state == SILENT and options.quick)
            in_turn = would_end and size <= options.in_turn
            rows.append(_row(size, state, later, in_turn, folder / f"{size} {state}"))
    _show(rows, later)
    measure_dump(options, folder / "dump")


class Cost(NamedTuple):
    """What one round took, in CPU seconds too: of the process that asked for it, and of its child."""

    round: Round
    cpu_s: float
    child_cpu_s: float = 0.0


def _row(size: int, state: str, later: int, in_turn: bool, folder: Path) -> list[str]:
    """One line of the first table."""
    what = f"{size:,} nodes, {state}"
    with Nodes(folder / "nodes", kinds_of(size, state)) as nodes:
        costs = _ask(nodes.nodes, 1 + later, folder / "ours", what)
        peer = _ask_in_turn(nodes.nodes, folder / "in turn", what) if in_turn else None
    later_s = [cost.round.seconds for cost in costs[1:]]
    row = [f"{size:,}", state, "a thread" if size <= IN_THREAD else "a child process"]
    row += [f"{costs[0].round.seconds:.3f}", f"{statistics.median(later_s):.3f}", f"{max(later_s):.3f}"]
    row += [f"{min(cost.round.nodes for cost in costs):,} of {healthy(nodes.kinds):,}"]
    row += [f"{statistics.median(cost.cpu_s for cost in costs[1:]):.3f}"]
    row += [f"{statistics.median(cost.child_cpu_s for cost in costs[1:]):.2f}" if size > IN_THREAD else ""]
    if peer is None:
        return [*row, "not run", "", "", ""]
    (seconds, seen), cpu_s, _ = peer
    return [
        *row,
        f"{seconds:.1f}",
        f"{cpu_s:.1f}",
        f"{seen:,}",
        f"{seconds / statistics.median(later_s):,.0f}",
    ]


def _ask(nodes: Sequence[Node], rounds: int, folder: Path, what: str) -> list[Cost]:
    pause, costs = threading.Event(), []
    with Process(ask, folder, nodes) as process:
        for number in range(rounds):
            pause.wait(_PAUSE_S if number else 0)
            costs.append(process.ask("a round"))
            progress(f"{what}: {costs[-1].round.seconds:.3f} s")
    return costs


def _ask_in_turn(nodes: Sequence[Node], folder: Path, what: str) -> Cost:
    progress(f"{what}, one after the other")
    with Process(ask_in_turn, folder, nodes) as process:
        cost: Cost = process.receive(patience_s=_PATIENCE_S)
    return cost


def ask(connection: Connection, folder: Path, nodes: Sequence[Node]) -> None:
    """Ask nodes, as often as is asked for."""
    with contextlib.closing(SimulatedSource(nodes, len(nodes) > IN_THREAD)) as source:
        for _ in iter(connection.recv, None):
            child_cpu_s, cpu_s = _children_cpu_s(), time.process_time()
            source()
            cpu_s = time.process_time() - cpu_s
            connection.send(Cost(source.rounds[-1], cpu_s, _children_cpu_s() - child_cpu_s))


def _children_cpu_s() -> float:
    import psutil

    times = [child.cpu_times() for child in psutil.Process().children()]
    return float(sum(each.user + each.system for each in times))


def ask_in_turn(connection: Connection, folder: Path, nodes: Sequence[Node]) -> None:
    """Ask one node after the other, and read all that each says."""
    import requests
    from prometheus_client.parser import text_string_to_metric_families

    os.environ["no_proxy"] = "*"
    start, cpu_s, answered = time.perf_counter(), time.process_time(), 0
    for node in nodes:
        with contextlib.suppress(requests.RequestException):
            url = f"http://{node.address}:{node.port}/metrics"
            page = requests.get(url, timeout=_PEERS_TIMEOUT_S).text
            names = [family.name for family in text_string_to_metric_families(page)]
            answered += "ray_node_gram_used" in names
    found = Round(time.perf_counter() - start, answered)
    connection.send(Cost(found, time.process_time() - cpu_s))


def _show(rows: Sequence[Sequence[str]], later: int) -> None:
    columns = ["nodes", "", "asked by", "first round, s", "later: median, s", "at most, s"]
    columns += ["healthy nodes in it", "CPU s a round", "of the child"]
    columns += ["one after the other, s", "CPU s", "nodes in it", "times as long"]
    show(
        columns,
        rows,
        f"Rounds: the first, with the child's start, and {later} later; CPU: the later ones' median. "
        f"Latency 20 ms, timeout 1 s; the nodes' process uses the same cores. One after the other: once, "
        f"requests with a timeout of {_PEERS_TIMEOUT_S:g} s; it is not run for large clusters unless "
        "--in-turn says so, and never where a node is slow or endless: it would not end.",
    )
