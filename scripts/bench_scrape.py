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
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from bench_delivery import Turn, take_turn
from bench_nodes import LYING, SILENT, STATES, Nodes, Round, SimulatedSource, healthy, kinds_of
from bench_process import Process
from bench_report import progress, quantile, show, us

from rl_logging import configure
from rl_logging.sources.ray_names import Node

_IN_THREAD = 64  # nodes; RayGpuSource has a child process ask more
_PAUSE_S = 2.0  # between two rounds: the mute nodes' timeouts are over by then
_PEERS_TIMEOUT_S = 5.0
_PATIENCE_S = 3600.0
_WARM_UP = 20  # dumps before the first that counts


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
    _measure_dump(options, folder / "dump")


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
    row = [f"{size:,}", state, "a thread" if size <= _IN_THREAD else "a child process"]
    row += [f"{costs[0].round.seconds:.3f}", f"{statistics.median(later_s):.3f}", f"{max(later_s):.3f}"]
    row += [f"{min(cost.round.nodes for cost in costs):,} of {healthy(nodes.kinds):,}"]
    row += [f"{statistics.median(cost.cpu_s for cost in costs[1:]):.3f}"]
    row += [f"{statistics.median(cost.child_cpu_s for cost in costs[1:]):.2f}" if size > _IN_THREAD else ""]
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
    with contextlib.closing(SimulatedSource(nodes, len(nodes) > _IN_THREAD)) as source:
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


# Training while nodes are asked


class Side(NamedTuple):
    """What is asked at each dump: nothing, values that are there, or this many nodes."""

    name: str
    has_values: bool = False
    nodes: int = 0
    in_child: bool = False


class Asked(NamedTuple):
    """One turn of training, and the rounds of questions that ended in it."""

    turn: Turn
    rounds: list[Round]


def _measure_dump(options: argparse.Namespace, folder: Path) -> None:
    rounds, dumps = (1, 20) if options.quick else (options.rounds or 6, options.dumps or 500)
    few, many, every_s = (8, 8, 0.5) if options.quick else (_IN_THREAD, 16 * _IN_THREAD, 10.0)
    sides = [
        Side("no source"),
        Side("the same values, at hand", has_values=True),
        Side(f"a thread asks {few:,} nodes", nodes=few),
        Side(f"a child process asks {many:,} nodes", nodes=many, in_child=True),
    ]
    found: dict[Side, list[Asked]] = {side: [] for side in sides}
    with (
        Nodes(folder / "nodes", kinds_of(many, SILENT)) as nodes,
        Process(train, folder / "trainer", nodes.nodes, every_s) as process,
    ):
        for number in range(rounds):
            for side in sides[:: 1 if number % 2 == 0 else -1]:
                progress(f"training, {side.name}: turn {number + 1} of {rounds}")
                found[side].append(process.ask(side, dumps))
    _show_dump(found, nodes.kinds, f"{rounds} turns of {dumps} dumps, asked every {every_s:g} s")


def train(connection: Connection, folder: Path, nodes: Sequence[Node], every_s: float) -> None:
    """Take the turns that are asked for, each with a run of its own."""
    os.environ["RL_LOGGING_PROVENANCE"] = "0"  # its work would fall into the first turns
    values = SimulatedSource(nodes, in_child=False)()
    numbers = {key: value for key, value in values.items() if not isinstance(value, str)}
    for number, (side, dumps) in enumerate(iter(connection.recv, None)):
        source = SimulatedSource(nodes[: side.nodes], side.in_child, every_s) if side.nodes else None
        with configure(folder / str(number), ["csv"]) as logger:
            if side.has_values:
                logger.add_source(lambda: numbers)
            if source is not None:
                logger.add_source(source)
            take_turn(logger, 0, _WARM_UP)
            if source is not None:
                source.wait_for_second()
            turn = take_turn(logger, _WARM_UP, dumps)
            rounds = source.rounds[1:] if source is not None else []
        connection.send(Asked(turn, rounds))
        if source is not None:
            source.ended.wait(_PATIENCE_S)


def _show_dump(found: Mapping[Side, Sequence[Asked]], kinds: Sequence[str], how: str) -> None:
    none, *_ = found.values()
    rows = []
    for side, turns in found.items():
        times = [ns for asked in turns for ns in asked.turn.dump_ns]
        rounds = [each for asked in turns for each in asked.rounds]
        row = [side.name, us(statistics.median(times)), us(quantile(times, 0.99))]
        row += [f"{_ratio(turns, none, _median_ns):.2f}", f"{_ratio(turns, none, _tail_ns):.2f}"]
        row += [f"{1 - _ratio(turns, none, _work):.1%}"]
        if side.nodes:
            seconds = [each.seconds for each in rounds] or [float("nan")]
            row += [f"{len(rounds)}", f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"]
            row += [
                f"{min((each.nodes for each in rounds), default=0):,} of {healthy(kinds[: side.nodes]):,}"
            ]
        rows.append(row)
    columns = ["", "dump(), us: median", "99 %", "against no source: median", "99 %", "work lost"]
    columns += ["rounds", "a round, s: median", "at most", "healthy nodes in it"]
    show(
        columns,
        rows,
        f"{how}; 50 scalars every 20 ms, to a journal and a CSV; {SILENT}. Ratios and loss: the turns' "
        "median. Work is pure Python between the dumps; a turn begins with the second round of questions.",
    )


def _median_ns(turn: Turn) -> float:
    return statistics.median(turn.dump_ns)


def _tail_ns(turn: Turn) -> float:
    return quantile(turn.dump_ns, 0.99)


def _work(turn: Turn) -> float:
    return turn.work_per_s


def _ratio(ours: Sequence[Asked], none: Sequence[Asked], of: Callable[[Turn], float]) -> float:
    """How much as with no source, by the turns' median."""
    return statistics.median(of(one.turn) / of(other.turn) for one, other in zip(ours, none, strict=True))
