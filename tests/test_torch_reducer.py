"""TorchReducer: ranks of torch.distributed, which are processes of their own."""

import json
import math
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
from torch_ranks import LONG_S, ranks

from rl_logging import MissingRanksError, TorchReducer, configure
from rl_logging.journal import read

COUNTS = [3, 1, 70, 5]  # values that a rank has


def values_of(rank: int) -> "np.ndarray[Any, Any]":
    return np.random.default_rng(rank).normal(size=COUNTS[rank % len(COUNTS)]) * 10


def metrics(folder: Path) -> list[dict[str, Any]]:
    """What was logged, dump by dump."""
    return [dict(record.values) for record in read(folder / "journal.jsonl") if record.kind == "metrics"]


def said(folder: Path, rank: int) -> str:
    """What a rank said in its log."""
    return (folder / f"said-{rank}.txt").read_text()


def own_log(folder: Path, rank: int) -> None:
    """Have a rank write its log into a file."""
    import logging

    logging.basicConfig(filename=folder / f"said-{rank}.txt", level=logging.WARNING, format="%(message)s")


def record_all(rank: int, store: Any, folder: Path) -> None:
    """Every rank records all it can, in its own number of values, and a key of its own."""
    own_log(folder, rank)
    with configure(folder / "run", ["csv"]) as logger:
        logger.compare_ranks("time/*", "sum")
        for value in values_of(rank):
            logger.record_mean("mean", value)
            logger.record_mean("weighted", value, weight=rank + 1)
            logger.record_sum("sum", value)
            logger.record_min("min", value)
            logger.record_max("max", value)
            logger.record_window("window", value, window=2)
            logger.record_rate("rate", 1)
        logger.record_stats("stats", values_of(rank))
        logger.record("last", f"of {rank}")
        logger.record_sum(f"only/{rank}", rank)
        logger.record_mean("array", np.ones(3))
        if rank == 2:
            logger.record_max("loss", 1.0)
        else:
            logger.record_mean("loss", 1.0)
        with logger.timer("rollout"):
            pass
        logger.log_hyperparams({"rank": rank})
        logger.info(f"a message of rank {rank}")
        logger.dump(7)
        logger.record_mean("mean", math.nan if rank == 3 else 1.0)
        logger.dump(8)


def test_four_ranks_are_what_numpy_says_of_all_their_values(tmp_path):
    """Counts differ from rank to rank, keys too; only rank 0 writes."""
    with ranks(4, record_all, tmp_path) as running:
        running.wait()

    first, second = metrics(tmp_path / "run")
    everything = [values_of(rank) for rank in range(4)]
    together = np.concatenate(everything)
    weights = np.concatenate([np.full(len(values), rank + 1) for rank, values in enumerate(everything)])
    assert first["mean"] == pytest.approx(together.mean(), rel=1e-12)
    assert first["weighted"] == pytest.approx(np.average(together, weights=weights), rel=1e-12)
    assert first["sum"] == pytest.approx(together.sum(), rel=1e-12)
    assert (first["min"], first["max"]) == (together.min(), together.max())
    assert first["window"] == pytest.approx(np.concatenate([each[-2:] for each in everything]).mean())
    assert first["stats_count"] == len(together)
    assert first["stats_mean"] == pytest.approx(together.mean())
    assert first["stats_std"] == pytest.approx(together.std())
    ends = [
        np.quantile(together, share, method=method) for share, method in [(0.9, "lower"), (0.9, "higher")]
    ]
    assert ends[0] - 0.01 * abs(ends[0]) <= first["stats_p90"] <= ends[1] + 0.01 * abs(ends[1])
    assert [first[f"only/{rank}"] for rank in range(4)] == [0, 1, 2, 3]
    assert first["last"] == "of 0"
    assert first["rate"] > 0
    assert first["time/rollout_count"] == 4
    sums = [values.sum() for values in everything]
    assert (first["sum@lowest_rank"], first["sum@highest_rank"]) == (np.argmin(sums), np.argmax(sums))
    assert first["sum@spread"] == pytest.approx(max(sums) - min(sums))
    assert {"time/rollout@slowest_rank", "time/rollout@spread"} <= first.keys()
    assert (first["loss (mean)"], first["loss (max)"]) == (1.0, 1.0)
    assert "ranks/missing" not in first
    assert math.isnan(second["mean"])

    kinds = [record.kind for record in read(tmp_path / "run/journal.jsonl")]
    assert kinds.count("hyperparameters") == 1
    assert "max on rank 2; mean on rank 0, 1, 3" in said(tmp_path, 0)
    assert "rank 1: 'array' is neither a number nor a text; only rank 0's is logged" in said(tmp_path, 1)


def dump_until_told(rank: int, store: Any, folder: Path, on_missing: str) -> None:
    """Ranks dump; the last one says that it is ready, and waits to be killed instead of the second dump."""
    own_log(folder, rank)
    reducer = TorchReducer(timeout_s=5.0, on_missing=on_missing)
    with configure(folder / "run", [], reducer=reducer) as logger:
        dist.barrier()
        for step in range(1, 5):
            if rank == 3 and step == 2:
                store.set("ready", "")
                store.wait(["never"], timedelta(seconds=LONG_S))
            elif step == 2:
                store.wait(["killed"], timedelta(seconds=LONG_S))
            logger.record_sum("ranks", 1)
            try:
                logger.dump(step)
            except MissingRanksError as error:
                (folder / f"raised-{step}").write_text(str(error))


def test_killed_rank_is_counted_and_named_and_the_others_go_on(tmp_path):
    """Its last dump is in time; no other one waits for it more than once."""
    with ranks(4, dump_until_told, tmp_path, "partial") as running:
        running.wait_for("ready")
        running.kill(3)
        running.say("killed")
        running.wait(0, 0, 0, -signal.SIGKILL)

    assert metrics(tmp_path / "run") == [{"ranks": 4}, *[{"ranks": 3, "ranks/missing": 1}] * 3]
    assert "rank 3 of 4 sent nothing for a dump within 5 s" in said(tmp_path, 0)
    assert not list(tmp_path.glob("raised-*"))


def test_missing_rank_is_an_error_if_that_is_wanted(tmp_path):
    """What came is written all the same."""
    with ranks(4, dump_until_told, tmp_path, "raise") as running:
        running.wait_for("ready")
        running.kill(3)
        running.say("killed")
        running.wait(0, 0, 0, -signal.SIGKILL)

    assert (tmp_path / "raised-2").read_text() == (
        "rank 3 sent nothing for this dump within 5 s; the rest is written"
    )
    assert metrics(tmp_path / "run")[1] == {"ranks": 3, "ranks/missing": 1}


def be_late(rank: int, store: Any, folder: Path) -> None:
    """Rank 1 sends what it has for the second dump when that is written."""
    own_log(folder, rank)
    with configure(folder / "run", [], reducer=TorchReducer(timeout_s=3.0)) as logger:
        dist.barrier()
        for step in (1, 2, 3, 4):
            logger.record_sum(f"rank {rank}", step)
            if (rank, step) == (1, 2):
                store.wait(["written 2"], timedelta(seconds=LONG_S))
            if (rank, step) == (0, 4):
                store.wait(["sent 4"], timedelta(seconds=LONG_S))
            logger.dump(step)
            store.set(f"{'written' if rank == 0 else 'sent'} {step}", "")


def test_late_part_never_pairs_with_another_dump(tmp_path):
    """A rank that has caught up counts again."""
    with ranks(2, be_late, tmp_path) as running:
        running.wait()

    found = metrics(tmp_path / "run")
    assert found[0] == {"rank 0": 1, "rank 1": 1}
    assert found[1] == {"rank 0": 2, "ranks/missing": 1}
    assert found[2]["rank 0"] == 3
    assert found[2].get("rank 1", 3) == 3
    assert found[3] == {"rank 0": 4, "rank 1": 4}
    assert "rank 1 is back; what it recorded for" in said(tmp_path, 0)


def run_ahead(rank: int, store: Any, folder: Path) -> None:
    """Rank 1 dumps forty times before rank 0 does once."""
    own_log(folder, rank)
    with configure(folder / "run", [], reducer=TorchReducer(timeout_s=1.0)) as logger:
        if rank == 0:
            store.wait(["ahead"], timedelta(seconds=LONG_S))
        for step in range(40):
            logger.record_sum(f"rank {rank}", step)
            logger.dump(step)
        store.set("ahead", "")


def test_rank_that_is_far_ahead_takes_bounded_memory_and_pairs_with_none_but_its_dump(tmp_path):
    """Sixteen dumps of it are kept: the last."""
    with ranks(2, run_ahead, tmp_path) as running:
        running.wait()

    found = metrics(tmp_path / "run")
    assert [values["rank 0"] for values in found] == list(range(40))
    assert [values.get("rank 1") for values in found] == [None] * 24 + list(range(24, 40))


def outlive_rank_0(rank: int, store: Any, folder: Path) -> None:
    """Rank 1 goes on when rank 0, and with it the store, is gone."""
    own_log(folder, rank)
    theirs = dist.TCPStore("127.0.0.1", int(store.get("port")), is_master=False) if rank else None
    if rank == 0:
        theirs = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        store.set("port", str(theirs.port))
    with configure(folder / "run", [], reducer=TorchReducer(timeout_s=2.0, store=theirs)) as logger:
        for step in range(10):
            logger.record_sum("ranks", 1)
            logger.dump(step)
            if step == 0:
                store.set(f"dumped {rank}", "")
                store.wait(["killed" if rank else "never"], timedelta(seconds=LONG_S))


def test_rank_without_rank_0_goes_on_and_says_so(tmp_path):
    """Nothing hangs where nobody listens."""
    with ranks(2, outlive_rank_0, tmp_path) as running:
        running.wait_for("dumped 0")
        running.wait_for("dumped 1")
        running.kill(0)
        running.say("killed")
        running.wait(-signal.SIGKILL, 0)

    assert "rank 1: the other ranks are not reached" in said(tmp_path, 1)


def send_what_is_no_part(rank: int, store: Any, folder: Path) -> None:
    """Rank 2 sends something that cannot be read; the others' parts are good."""
    own_log(folder, rank)
    reducer = TorchReducer(timeout_s=20.0)
    with configure(folder / "run", [], reducer=reducer) as logger:
        logger.record_sum("ranks", 1)
        if rank == 2:
            reducer._store.set("2/1", b"bad")
        else:
            logger.dump(1)


def test_part_that_cannot_be_read_drops_no_other(tmp_path):
    """It is said whose it is."""
    with ranks(3, send_what_is_no_part, tmp_path) as running:
        running.wait()

    assert metrics(tmp_path / "run") == [{"ranks": 2, "ranks/missing": 1}]
    assert "what rank 2 sent for a dump is left out: these 3 bytes are no part" in said(tmp_path, 0)


def train_ddp(rank: int, store: Any, folder: Path) -> None:
    """As a user's program: the reducer is found, and the console is rank 0's."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as shown:
        with configure(
            folder / "run", ["stdout", "log", "csv", "json"], sources=[lambda: {"asked": 1}]
        ) as logger:
            logger.record_mean("loss", rank)
            logger.dump(1)
        files = sorted(path.name for path in (folder / "run").iterdir()) if rank == 0 else []
    (folder / f"{rank}.json").write_text(json.dumps([shown.getvalue(), files]))


def test_only_rank_0_writes_and_asks(tmp_path):
    """By ``configure``'s default, where torch.distributed is initialised."""
    with ranks(2, train_ddp, tmp_path) as running:
        running.wait()

    shown, files = json.loads((tmp_path / "0.json").read_text())
    assert "loss" in shown
    assert {"journal.jsonl", "progress.csv", "progress.json", "train.log"} <= set(files)
    assert json.loads((tmp_path / "1.json").read_text())[0] == ""
    (values,) = metrics(tmp_path / "run")
    assert values == {"loss": 0.5, "asked": 1}


def test_without_torch_distributed_the_reducer_says_what_to_call():
    """Before anything is trained."""
    with pytest.raises(RuntimeError, match=r"call torch.distributed.init_process_group\(…\) first"):
        TorchReducer()


def test_process_of_torchrun_that_is_not_initialised_is_told(tmp_path, monkeypatch, caplog):
    """Else each of its ranks would log for itself, into one folder."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")

    configure(tmp_path, []).close()

    (message,) = [record.message for record in caplog.records]
    assert message.startswith("this process is rank 1 of 2, but torch.distributed is not initialised")


@pytest.mark.parametrize("reducer", ["mean", 3, TorchReducer])
def test_what_is_no_reducer_is_an_error_at_once(tmp_path, reducer):
    """It names the value and what is allowed."""
    with pytest.raises(TypeError, match="reducer is 'auto', None, or a reducer such as"):
        configure(tmp_path, [], reducer=reducer)
