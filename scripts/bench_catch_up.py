"""How fast MLflow gets a run that was trained without it, by ``rl-logging sync``.

The floor is the server's: the same points, posted in batches of 1,000 by a bare
``MlflowClient`` in a loop. Both take turns, each in a fresh process, whose import of
MLflow is not timed.
"""

import argparse
import math
import os
import shutil
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from bench_process import Process, Usage, usage_of
from bench_report import progress, show
from bench_store import Store
from bench_values import log

from rl_logging import configure, journal
from rl_logging.record import METRICS

_SCALARS = 50
_BATCH = 1000  # MLflow's limit
_PATIENCE_S = 3600.0
_SYNC, _FLOOR = "rl-logging sync", "a bare MlflowClient"


class Found(NamedTuple):
    """One delivery: how long it took, the requests, and what the process used at most."""

    seconds: float
    requests: int
    used: Usage


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Deliver the same run by both, in turns."""
    rounds, records = (1, 100) if options.quick else (options.rounds or 1, options.records or 10_000)
    progress(f"writing a run of {records:,} records")
    with configure(folder / "run", []) as logger:
        log(logger, _SCALARS, records)
    tasks = {_SYNC: sync, _FLOOR: post}
    found: dict[str, list[Found]] = {name: [] for name in tasks}
    with Store(folder / "store", options.quick) as store:
        for number in range(rounds):
            for name in sorted(tasks, reverse=number % 2 == 0):
                place = folder / f"{name} {number}"
                with Process(tasks[name], place, folder / "run/journal.jsonl", store.uri) as process:
                    found[name].append(_find(process, store))
                progress(f"{name}: {found[name][-1].seconds:.1f} s")
    _show(found, records, f"{rounds} turns each, {records:,} records of {_SCALARS} scalars; {store.kind}.")


def _find(process: Process, store: Store) -> Found:
    process.receive()
    before = store.answered()
    idle_s = usage_of(process.pid).cpu_s
    peaks_mb = [0.0]
    process.send("go")
    seconds = process.receive(lambda: peaks_mb.append(usage_of(process.pid).memory_mb), _PATIENCE_S)
    used = usage_of(process.pid)
    peak_mb = max(used.memory_mb, *peaks_mb)
    return Found(seconds, store.answered() - before, Usage(used.cpu_s - idle_s, peak_mb))


def sync(connection: Connection, folder: Path, journal_path: Path, mlflow_uri: str) -> None:
    """Deliver as the command does, a copy of the run for each turn."""
    import mlflow  # noqa: F401  as in the other's process: before the clock starts

    from rl_logging import sync

    os.environ["MLFLOW_TRACKING_URI"] = mlflow_uri
    (folder / "run").mkdir()
    shutil.copy(journal_path, folder / "run")
    connection.send("ready")
    connection.recv()
    start = time.perf_counter()
    plan = sync.plan(
        str(folder / "run"), ["mlflow"], follow=False, from_start=False, wait=True, offline=False
    )
    status = sync.run(plan)
    seconds = time.perf_counter() - start
    if status != 0:
        raise RuntimeError("not all was delivered")
    connection.send(seconds)
    connection.recv()


def post(connection: Connection, folder: Path, journal_path: Path, mlflow_uri: str) -> None:
    """Post the same points; they are made before the clock starts."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    points = [
        Metric(key, float(value), round(record.time * 1000), record.step)
        for record in journal.read(journal_path)
        if record.kind == METRICS
        for key, value in record.values.items()
    ]
    client = MlflowClient(tracking_uri=mlflow_uri)
    connection.send("ready")
    connection.recv()
    start = time.perf_counter()
    run = client.create_run(client.create_experiment(folder.name))
    for first in range(0, len(points), _BATCH):
        client.log_batch(run.info.run_id, metrics=points[first : first + _BATCH])
    client.set_terminated(run.info.run_id)
    connection.send(time.perf_counter() - start)
    connection.recv()


def _ratio(turns: list[Found], floor: list[Found]) -> float:
    """The median of the ratios, turn by turn."""
    return statistics.median(one.seconds / least.seconds for one, least in zip(turns, floor, strict=True))


def _show(found: dict[str, list[Found]], records: int, how: str) -> None:
    seconds = {name: statistics.median(of.seconds for of in found[name]) for name in found}
    rows = []
    for name, turns in found.items():
        per_s = records / seconds[name]
        cpu_s = statistics.median(of.used.cpu_s for of in turns)
        rows.append(
            [
                name,
                f"{statistics.median(of.requests for of in turns):,.0f}",
                f"{seconds[name]:.1f}",
                f"{per_s:,.0f}",
                f"{per_s * _SCALARS:,.0f}",
                f"{_ratio(turns, found[_FLOOR]):.2f}",
                f"{cpu_s:.1f}",
                f"{cpu_s * 1000 / records:.2f}",
                f"{max(of.used.memory_mb for of in turns):,.0f}",
            ]
        )
    columns = ["", "requests", "s", "records/s", "values/s", "against the floor", "CPU s"]
    columns += ["CPU s per 1,000 records", "peak RSS, MB"]
    least = math.ceil(records * _SCALARS / _BATCH)
    show(
        columns, rows, f"{how} Medians. MLflow's limit of 1,000 points a request asks for {least:,} requests."
    )
