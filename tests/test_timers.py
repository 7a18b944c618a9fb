"""Timers: where the time goes, under names that say where they are used."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_logging import Logger, MemoryOutputFormat, configure
from rl_logging.distributed import timers
from rl_logging.distributed.timers import Timers
from rl_logging.errors import Trouble


class Clock:
    """Seconds that go by when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def go(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timers, "perf_counter", clock)
    return clock


@pytest.fixture
def memory() -> MemoryOutputFormat:
    return MemoryOutputFormat()


@pytest.fixture
def logger(clock: Clock, tmp_path: Path, memory: MemoryOutputFormat) -> Iterator[Logger]:
    with configure(tmp_path, []) as logger:
        logger.output_formats.append(memory)
        yield logger


def values(memory: MemoryOutputFormat) -> dict[str, Any]:
    return dict(memory.records[-1].values)


def test_timer_gives_sum_mean_and_count_of_each_dump(logger, memory, clock):
    """Under the name, and those of the blocks around it."""
    for _ in range(2):
        with logger.timer("rollout"):
            clock.go(1)
            for _ in range(3):
                with logger.timer("env"):
                    clock.go(2)
    logger.dump(1)

    assert values(memory) == {
        "time/rollout": 14,
        "time/rollout_mean": 7,
        "time/rollout_count": 2,
        "time/rollout/env": 12,
        "time/rollout/env_mean": 2,
        "time/rollout/env_count": 6,
    }
    logger.record("a", 1)
    logger.dump(2)
    assert values(memory) == {"a": 1}


def test_what_is_open_at_a_dump_counts_when_it_ends(logger, memory, clock):
    """A dump inside a block, as in a training loop."""
    with logger.timer("training"):
        clock.go(1)
        logger.record("a", 1)
        logger.dump(1)
        assert values(memory) == {"a": 1}
        clock.go(1)
    logger.dump(2)

    assert values(memory)["time/training"] == 2


def test_exception_ends_the_block_and_goes_on(logger, memory, clock):
    """What it took is known; what comes after it is not below it."""

    @logger.timer("bad")
    def fail() -> None:
        clock.go(3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with logger.timer("good"):
        clock.go(1)
    logger.dump(1)

    assert (values(memory)["time/bad"], values(memory)["time/good"]) == (3, 1)


def test_decorator_measures_each_call(logger, memory, clock):
    """Of asynchronous functions too, until their result is there; names and results stay."""

    @logger.timer("update")
    def update(seconds: float) -> float:
        """Take so long."""
        clock.go(seconds)
        return seconds

    @logger.timer("fetch")
    async def fetch(seconds: float) -> float:
        await asyncio.sleep(0)
        clock.go(seconds)
        return seconds

    assert (update(2.0), update(3.0), asyncio.run(fetch(4.0))) == (2, 3, 4)
    assert (update.__name__, update.__doc__) == ("update", "Take so long.")
    logger.dump(1)
    found = values(memory)
    assert (found["time/update"], found["time/update_count"], found["time/fetch"]) == (5, 2, 4)


def test_generator_cannot_be_decorated(logger):
    """Its work lies between the calls, of which the first takes no time."""
    with pytest.raises(TypeError, match=r"timer\('numbers'\) measures calls, and numbers is a generator"):

        @logger.timer("numbers")
        def numbers() -> Iterator[int]:
            yield 1


def test_asynchronous_tasks_nest_each_on_its_own(logger, memory, clock):
    """Two tasks at once: neither stands below the other, both below what has started them."""
    at_once = asyncio.Barrier(2) if hasattr(asyncio, "Barrier") else None

    async def task(name: str) -> None:
        with logger.timer(name):
            if at_once is not None:
                await at_once.wait()
            clock.go(1)
            await asyncio.sleep(0)
            with logger.timer("inner"):
                await asyncio.sleep(0)

    async def main() -> None:
        with logger.timer("all"):
            await asyncio.gather(task("a"), task("b"))

    asyncio.run(main())
    logger.dump(1)

    keys = {key for key in values(memory) if key.endswith("_count")}
    names = ("all", "all/a", "all/b", "all/a/inner", "all/b/inner")
    assert keys == {f"time/{name}_count" for name in names}
    assert values(memory)["time/all"] == 2


def test_threads_nest_each_on_its_own_and_lose_nothing(logger, memory):
    """One timer, open in several threads at once."""
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(1000):
            with logger.timer("work"), logger.timer("part"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    with logger.timer("main"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    logger.dump(1)

    assert values(memory)["time/work_count"] == 4000
    assert values(memory)["time/work/part_count"] == 4000


def test_generator_that_ends_elsewhere_is_told_and_breaks_nothing(logger, memory, clock, caplog):
    """Its block was begun in a task that is gone."""

    async def numbers() -> Any:
        with logger.timer("numbers"):
            yield 1

    generator = numbers()
    asyncio.run(_first(generator))
    with pytest.raises(StopAsyncIteration):
        generator.__anext__().send(None)
    with logger.timer("next"):
        clock.go(1)
    logger.dump(1)

    assert values(memory)["time/next"] == 1
    (message,) = [record.message for record in caplog.records]
    assert message.startswith("timer 'numbers' ended in another context than it began in")


async def _first(generator: Any) -> None:
    await generator.__anext__()


@pytest.mark.parametrize("name", [7, None, ("a", "b"), ["a"], "a\x1b[31m", "", "a/b"])
def test_any_name_is_taken(logger, memory, clock, name):
    """Nothing raises into training."""
    with logger.timer(name):
        clock.go(1)
    logger.dump(1)

    (key,) = [key for key, value in values(memory).items() if key.endswith("_count")]
    assert key.startswith("time/")


def test_without_cuda_the_host_is_timed_and_it_is_said(logger, memory, clock, caplog):
    """The same program runs on a laptop."""
    pytest.importorskip("torch")
    with logger.timer("update", cuda=True):
        clock.go(2)
    logger.dump(1)

    assert values(memory)["time/update"] == 2
    assert "there is no CUDA device; the host is timed" in caplog.text


def test_cuda_timer_measures_the_device_and_waits_for_nothing(tmp_path, memory):
    """What the stream does, not how long it took to ask for it."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    with configure(tmp_path, []) as logger:
        logger.output_formats.append(memory)
        matrix = torch.randn(4096, 4096, device="cuda")
        with logger.timer("products", cuda=True):
            for _ in range(20):
                matrix = matrix @ matrix / 64
        torch.cuda.synchronize()
        logger.dump(1)

    assert 1e-4 < values(memory)["time/products"] < 10


def test_report_shows_the_share_of_each(logger, clock):
    """As a table, from the start to now, whatever was dumped meanwhile."""
    for _ in range(4):
        with logger.timer("rollout"):
            clock.go(1)
            with logger.timer("env"):
                clock.go(0.5)
        logger.dump(1)
    clock.go(2)
    with logger.timer("bad\x1b[31m\nname"):
        clock.go(2)

    assert logger.time_report().splitlines() == [
        "                   seconds   share  uses  mean, s",
        "rollout              6.000   60.0%     4      1.5",
        "  env                2.000   20.0%     4      0.5",
        "bad\\x1b[31m\\nname    2.000   20.0%     1        2",
        "wall time           10.000  100.0%",
    ]


@given(st.lists(st.sampled_from(["enter a", "enter b", "exit", "take"]), max_size=40))
def test_any_order_of_blocks_and_dumps_counts_each_block_once(events):
    """Under the names of the blocks around it."""
    clock, own = Clock(), Timers(Trouble())
    open_: list[tuple[Any, str, float]] = []
    expected: dict[str, tuple[float, int]] = {}
    found: dict[str, tuple[float, int]] = {}

    def take() -> None:
        for key, (seconds, count) in own.take().items():
            before = found.get(key, (0.0, 0))
            found[key] = before[0] + seconds, before[1] + count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timers, "perf_counter", clock)
        for event in [*events, *["exit"] * len(events)]:
            clock.go(1)
            if event.startswith("enter"):
                name = event[-1]
                timer = own.timer(name)
                timer.__enter__()
                open_.append((timer, f"{open_[-1][1] if open_ else 'time'}/{name}", clock.now))
            elif event == "exit" and open_:
                timer, key, start = open_.pop()
                timer.__exit__(None, None, None)
                before = expected.get(key, (0.0, 0))
                expected[key] = before[0] + clock.now - start, before[1] + 1
            elif event == "take":
                take()
        take()

    assert found == expected


def test_memory_is_bounded_between_dumps(logger, memory, clock, monkeypatch):
    """A program that times a million steps and does not dump."""
    monkeypatch.setattr(timers, "_MANY", 10)
    for _ in range(1000):
        with logger.timer("step"):
            clock.go(1)
    assert len(logger._timers._root.below["step"].durations) <= 11
    logger.dump(1)

    assert (values(memory)["time/step"], values(memory)["time/step_count"]) == (1000, 1000)
