"""Handles: workers in other processes record for the logger of this one."""

import multiprocessing
import os
import pickle
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from logging_env import LoggingEnv
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv
from waiting import wait_until

from rl_logging import Handle, Logger, MemoryOutputFormat, Recorder, configure
from rl_logging.distributed import inbox, recorder
from rl_logging.distributed.handle import _workers
from rl_logging.distributed.parts import Part
from rl_logging.distributed.place import FRAME, NONCE, received
from rl_logging.distributed.wire import packed, unpacked
from rl_logging.journal import read

LONG_S = 60.0
WORKERS = 4


@pytest.fixture
def memory() -> MemoryOutputFormat:
    return MemoryOutputFormat()


@pytest.fixture
def logger(tmp_path: Path, memory: MemoryOutputFormat) -> Iterator[Logger]:
    with configure(tmp_path, []) as logger:
        logger.output_formats.append(memory)
        yield logger


def dumped(logger: Logger, memory: MemoryOutputFormat) -> dict[str, Any]:
    """What the next dump has."""
    logger.dump(len(memory.records))
    return dict(memory.records[-1].values) if memory.records else {}


def vec_env(method: str, handles: list[Handle]) -> VecEnv:
    functions = [lambda handle=handle: LoggingEnv(handle, 10 * handle.rank) for handle in handles]
    return DummyVecEnv(functions) if method == "dummy" else SubprocVecEnv(functions, start_method=method)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn", "dummy"])
def test_environments_log_from_inside_their_steps(logger, memory, method):
    """What all did before a dump is in it, as if one process had recorded it."""
    env = vec_env(method, [logger.handle() for _ in range(WORKERS)])
    logger.compare_ranks("time/env")
    env.reset()
    for _ in range(3):
        env.step([0] * WORKERS)
    logger.record_mean("env/energy", 1.0)

    values = dumped(logger, memory)

    energies = [10 * rank + step for rank in range(1, WORKERS + 1) for step in range(1, 4)]
    assert values["env/energy"] == pytest.approx((sum(energies) + 1) / (len(energies) + 1))
    assert (values["env/energies_min"], values["env/energies_max"]) == (min(energies), max(energies))
    assert values["env/energies_count"] == len(energies)
    assert values["env/map"] == "desert"
    (record,) = read(logger.dir / Path("journal.jsonl"))
    assert record.excluded["env/map"] == ("csv",)
    assert values["env/steps_per_s"] > 0
    assert values["time/env_count"] == len(energies)
    assert values["time/env@slowest_rank"] in range(1, WORKERS + 1)

    env.step([0] * WORKERS)
    assert dumped(logger, memory)["env/energies_count"] == WORKERS
    env.close()


def record_steps(handle: Handle, steps: int, go: Any, done: Any) -> None:
    """A worker: it records, says so, and ends when it may."""
    for step in range(steps):
        handle.record_sum("steps", 1)
        handle.record_window("window", step, window=2)
    done.release()
    go.acquire()


@pytest.fixture
def workers() -> Iterator[list[Any]]:
    """Processes that do not outlive the test."""
    processes: list[Any] = []
    yield processes
    for process in processes:
        process.kill()
        process.join()


def start(workers: list[Any], method: str, *arguments: Any) -> Any:
    process = multiprocessing.get_context(method).Process(target=record_steps, args=arguments)
    process.start()
    workers.append(process)
    return process


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_that_ends_leaves_what_it_recorded(logger, memory, workers, method):
    """Its last values are sent on its way out."""
    context = multiprocessing.get_context(method)
    done, go = context.Semaphore(0), context.Semaphore(1)
    process = start(workers, method, logger.handle(), 1000, go, done)

    process.join(LONG_S)

    assert process.exitcode == 0
    assert dumped(logger, memory) == {"steps": 1000, "window": 998.5}


def test_killed_worker_loses_at_most_what_it_had_not_sent(logger, memory, workers):
    """A second after it was recorded, it is with the logger, without any dump."""
    context = multiprocessing.get_context("fork")
    done, go = context.Semaphore(0), context.Semaphore(0)
    process = start(workers, "fork", logger.handle(), 10, go, done)
    assert done.acquire(timeout=LONG_S)
    assert logger._inbox is not None
    wait_until(lambda: bool(logger._inbox._parts), LONG_S)

    os.kill(process.pid, signal.SIGKILL)
    process.join()

    assert dumped(logger, memory)["steps"] == 10


def test_worker_that_stands_still_is_named_and_comes_later(logger, memory, workers, caplog, monkeypatch):
    """No dump waits for it twice."""
    context = multiprocessing.get_context("fork")
    done, go = context.Semaphore(0), context.Semaphore(0)
    standing = start(workers, "fork", logger.handle(), 10, go, done)
    start(workers, "fork", logger.handle(), 5, go, done)
    assert done.acquire(timeout=LONG_S)
    assert done.acquire(timeout=LONG_S)
    first = dumped(logger, memory)
    assert first["steps"] == 15
    monkeypatch.setattr(inbox, "_PATIENCE_S", 1.0)
    os.kill(standing.pid, signal.SIGSTOP)
    wait_until(lambda: ") T " in Path(f"/proc/{standing.pid}/stat").read_text(), LONG_S)

    logger.record("a", 1)
    assert dumped(logger, memory) == {"a": 1}
    logger.record("a", 2)
    assert dumped(logger, memory) == {"a": 2}

    (message,) = [record.message for record in caplog.records]
    assert message.startswith("workers: rank 1 did not answer within 1 s; what they recorded comes later")
    os.kill(standing.pid, signal.SIGCONT)


def test_handle_of_a_closed_logger_keeps_and_says_so_once(tmp_path, caplog):
    """Training of an environment whose logger is gone goes on."""
    with configure(tmp_path, []) as logger:
        handle = logger.handle()
        handle.record("a", 1)
        logger.dump(1)
    caplog.clear()
    for value in range(1000):
        handle.record_sum("b", value)
        handle.flush()

    messages = [record.message for record in caplog.records]
    assert len(messages) == 1
    assert messages[0].startswith("worker 1 does not reach its logger, which may be closed")


def test_threads_of_handles_end_with_their_logger(tmp_path):
    """A thousand runs in one process are not a thousand threads."""
    before = threading.active_count()
    for number in range(3):
        with configure(tmp_path / str(number), []) as logger:
            logger.handle().record("a", 1)
            logger.dump(1)

    wait_until(lambda: threading.active_count() <= before, LONG_S)


def test_keys_that_wait_are_bounded_and_it_is_said(monkeypatch, caplog):
    """A worker whose keys are new each time fills no memory."""
    monkeypatch.setattr(recorder, "_KEYS", 3)
    own = Recorder()
    for number in range(10):
        own.record_sum(f"key {number}", 1)
        own.record_sum("key 0", 1)

    assert len(own.take().states) == 3
    (message,) = [record.message for record in caplog.records]
    assert message.startswith("3 keys wait to be taken; 'key 3' and others are left out until they are")
    own.record_sum("key 9", 1)
    assert len(own.take().states) == 1


def test_stranger_is_refused(logger, memory, caplog):
    """Who does not know the handles' token puts nothing into a run."""
    handle = logger.handle()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(handle._place.path)
        received(stranger, NONCE)
        stranger.sendall(b"\0" * 32)
        with pytest.raises(ConnectionError):
            received(stranger, 1)

    assert [record.message for record in caplog.records] == [
        "inbox: a stranger was refused, who does not know the handles' token"
    ]


def test_handle_says_nothing_of_its_token(logger):
    """It may stand in a log."""
    handle = logger.handle()

    assert repr(handle) == "Handle(rank=1)"
    assert repr(pickle.loads(pickle.dumps(handle))) == "Handle(rank=1)"


class Evil:
    """What a pickle may ask for."""

    def __reduce__(self) -> Any:
        return os.getenv, ("HOME",)


@pytest.mark.parametrize("content", [pickle.dumps(Evil()), pickle.dumps({"a": Evil()}), b"", b"\x80\x05N."])
def test_what_is_no_part_is_not_loaded(content):
    """A pickle from a network may call any function."""
    with pytest.raises(ValueError, match="part"):
        unpacked(content)


def test_part_comes_back_as_it_was():
    """With all that a worker can record."""
    own = Recorder(3)
    own.record("text", "a", exclude=("csv",))
    own.record("number", 10**30)
    for method in (own.record_mean, own.record_sum, own.record_min, own.record_max, own.record_window):
        method(method.__name__, 2.5)
    own.record_ema("ema", 1.0)
    own.record_rate("rate", 3)
    own.record_stats("few", [1.0, 2.0])
    own.record_stats("many", range(1000))
    with own.timer("t"):
        pass
    part = own.take(["record_*"])

    again = unpacked(packed(part))

    assert isinstance(again, Part)
    assert again == part


@pytest.mark.parametrize(
    "weight",
    [np.float64(2), np.float32(2), np.int64(2), np.array(2), np.ones(1) * 2, torch.tensor(2.0), True + 1],
)
def test_weight_may_be_any_librarys_number(logger, memory, weight):
    """As the sum of a mask; it comes over the wire as what Python knows."""
    handle = logger.handle()
    for own in (handle, logger):
        own.record_mean("loss", 4.0, weight=weight)
        own.record_mean("loss", np.float32(1.0), weight=1)
    handle.record_window("window", np.float32(3), window=np.int64(2))
    handle.record_ema("ema", np.float64(3), coefficient=np.float32(0.5))
    handle.record_min("min", np.int64(3))
    handle.record_rate("rate", np.float32(3))

    values = dumped(logger, memory)

    assert values.pop("rate") > 0
    assert values == {"loss": 3.0, "window": 3.0, "ema": 3.0, "min": 3.0}


def test_bad_part_of_a_worker_stops_no_other(logger, memory, caplog):
    """Nor the worker's own next one."""
    handle, other = logger.handle(), logger.handle()
    handle.record_sum("a", 1)
    other.record_sum("a", 1)
    dumped(logger, memory)
    worker = _workers[handle._place.path, 1]
    with worker._sending:
        worker._socket.sendall(FRAME.pack(0, 3) + b"bad")
    handle.record_sum("a", 1)
    other.record_sum("a", 1)

    assert dumped(logger, memory) == {"a": 2}
    assert caplog.messages[0].startswith("what worker 1 recorded since it last sent something is left out")


@pytest.mark.parametrize("rank", [-1, "x", 1.5])
def test_bad_rank_of_a_handle_is_an_error_at_once(logger, rank):
    """It names the value and what is allowed."""
    with pytest.raises(ValueError, match="rank is a whole number from 0 on, not"):
        logger.handle(rank)


def test_parts_that_workers_give_with_their_work_are_in_the_next_dump(logger, memory):
    """As what ``ray.get`` brings."""
    workers = [Recorder(rank) for rank in range(3)]
    for worker in workers:
        for _ in range(worker.rank + 1):
            worker.record_mean("return", 10.0 * worker.rank)
        worker.record("of", worker.rank)
    logger.record_mean("return", 5.0)

    logger.add_parts(worker.take() for worker in workers)

    assert dumped(logger, memory) == {"return": pytest.approx((0 + 10 + 10 + 20 * 3 + 5) / 7), "of": 0}


@pytest.mark.parametrize("parts", [[1], [None], ["a"]])
def test_what_is_no_part_is_an_error_at_once(logger, parts):
    """It names the value."""
    with pytest.raises(TypeError, match="parts are wanted, as"):
        logger.add_parts(parts)


def test_what_a_worker_cannot_record_is_kept_as_text(caplog):
    """Nothing raises into an environment's step."""
    own = Recorder()
    own.record("image", [[1, 2], [3, 4]])
    own.record_mean("loss", "nan?")
    own.record_mean("weight", 1.0, weight=-1)

    values = {key: state[-1] for (key, _), state in own.take().states.items()}

    assert values == {"image": "[[1, 2], [3, 4]]", "loss (str)": "nan?", "weight (float)": 1.0}
    assert len(caplog.records) == 3


def test_logger_cannot_be_pickled_and_says_what_can(logger):
    """Not even by the way of an environment's attributes."""
    with pytest.raises(TypeError, match=re.escape("give workers logger.handle()")):
        pickle.dumps({"logger": logger})


def test_fork_of_a_worker_is_a_worker_of_its_own(logger, memory, workers):
    """The connection is its parent's."""
    handle = logger.handle()
    handle.record_sum("steps", 1)
    context = multiprocessing.get_context("fork")
    done, go = context.Semaphore(0), context.Semaphore(1)

    start(workers, "fork", handle, 2, go, done).join(LONG_S)

    assert dumped(logger, memory)["steps"] == 3


def test_logger_without_handles_has_no_inbox(logger, memory):
    """No thread, no socket, no folder that nobody needs."""
    logger.record("a", 1)
    logger.dump(1)

    assert logger._inbox is None


def test_inbox_leaves_nothing(tmp_path):
    """Neither a folder nor a thread."""
    with configure(tmp_path, []) as logger:
        path = Path(logger.handle()._place.path)
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not path.parent.exists()
    assert logger._inbox is not None
    assert not logger._inbox._thread.is_alive()
