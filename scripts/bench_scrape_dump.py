"""What it costs a trainer's dump() that nodes are asked: by a thread, by a child process, by a stranger."""

import argparse
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from bench_delivery import Turn, take_turn
from bench_nodes import IN_THREAD, SILENT, Nodes, Round, SimulatedSource, healthy, kinds_of
from bench_process import Process
from bench_report import progress, quantile, show, us

from rl_logging import Sampled, configure
from rl_logging.sources.ray_names import Node

_PATIENCE_S = 3600.0
_WARM_UP = 20  # dumps before the first that counts


class Side(NamedTuple):
    """What is asked at each dump: nothing, values that are there, or this many nodes.

    :param beside: so many nodes are asked by a process that the trainer knows nothing of
    """

    name: str
    has_values: bool = False
    nodes: int = 0
    in_child: bool = False
    beside: int = 0


class Asked(NamedTuple):
    """One turn of training, and the rounds of questions that ended in it."""

    turn: Turn
    rounds: list[Round]


def measure_dump(options: argparse.Namespace, folder: Path) -> None:
    rounds, dumps = (1, 20) if options.quick else (options.rounds or 6, options.dumps or 500)
    few, many, every_s = (4, 8, 0.5) if options.quick else (IN_THREAD, 16 * IN_THREAD, 10.0)
    sides = [
        Side("no source"),
        Side("the same values, at hand", has_values=True),
        Side(f"at hand, and a stranger asks {few:,} nodes", has_values=True, beside=few),
        Side(f"at hand, and a stranger asks {many:,} nodes", has_values=True, beside=many),
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
                asked = nodes.nodes[: side.beside]
                with _stranger(folder / f"stranger {number} {side.name}", asked, every_s):
                    found[side].append(process.ask(side, dumps))
    _show_dump(found, nodes.kinds, f"{rounds} turns of {dumps} dumps, asked every {every_s:g} s")


@contextmanager
def _stranger(folder: Path, nodes: Sequence[Node], every_s: float) -> Iterator[None]:
    """Have a process that is not the trainer's ask nodes; the first round is over when the turn begins."""
    if not nodes:
        yield
        return
    with Process(ask_on, folder, nodes, every_s) as process:
        process.receive()
        yield


def ask_on(connection: Connection, folder: Path, nodes: Sequence[Node], every_s: float) -> None:
    """Ask nodes until something is sent."""
    source = SimulatedSource(nodes, len(nodes) > IN_THREAD, every_s)
    sampled = Sampled(source, every_s)
    sampled.start()
    source.wait_for_second()
    connection.send("begun")
    connection.recv()
    sampled.stop()
    source.ended.wait(_PATIENCE_S)


def train(connection: Connection, folder: Path, nodes: Sequence[Node], every_s: float) -> None:
    """Take the turns that are asked for, each with a run of its own."""
    os.environ["RL_LOGGING_PROVENANCE"] = "0"  # its work would fall into the first turns
    values = SimulatedSource(nodes, in_child=False)()
    numbers = {key: value for key, value in values.items() if not isinstance(value, str)}
    for number, (side, dumps) in enumerate(iter(connection.recv, None)):
        source = SimulatedSource(nodes[: side.nodes], side.in_child, every_s) if side.nodes else None
        with configure(folder / str(number), ["csv"]) as logger:
            if side.has_values:
                logger.add_source(Sampled(lambda: numbers, every_s, prefix="ray"))  # its clock, not its work
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
