"""Sources of a logger: asked at each dump, each on its own, and never in its way."""

import logging
import sys
import threading
import time

import pytest
from metrics_nodes import never, nodes
from waiting import wait_until

from rl_logging import Logger, MemoryOutputFormat, MissingBackendError, Sampled, configure
from rl_logging.journal import read
from rl_logging.sources.ray_cluster import RayCluster

LONG_S = 30.0


@pytest.fixture
def memory() -> MemoryOutputFormat:
    return MemoryOutputFormat()


@pytest.fixture
def logger(tmp_path, memory):
    with Logger(str(tmp_path), [memory]) as made:
        yield made


def values(memory: MemoryOutputFormat) -> list[dict]:
    return [dict(record.values) for record in memory.records if record.kind == "metrics"]


def test_source_is_asked_at_each_dump(logger, memory):
    """Its values stand beside those that were recorded, at the same step."""
    counts = iter(range(10))
    logger.add_source(lambda: {"queue/length": next(counts)})

    logger.record("a", 1)
    logger.dump(10)
    logger.dump(20)

    assert values(memory) == [{"a": 1, "queue/length": 0}, {"queue/length": 1}]
    assert [record.step for record in memory.records] == [10, 20]
    assert [dict(record.values) for record in read(logger._journal.path)][:2] == values(memory)


def test_recorded_value_stays_where_a_source_has_the_same_key(logger, memory):
    """What the training code says goes first."""
    logger.add_source(lambda: {"a": 2, "b": 2})
    logger.record("a", 1)
    logger.dump(1)

    assert values(memory) == [{"a": 1, "b": 2}]


@pytest.mark.parametrize(
    "exclude", ["memory", ("csv", "memory"), lambda key: "memory" if key == "a" else None]
)
def test_values_are_excluded_as_recorded_ones_are(logger, memory, exclude):
    """By name, or by what a callable says of a key."""
    logger.add_source(lambda: {"a": 1}, exclude=exclude)
    logger.record("b", 1)
    logger.dump(1)

    assert values(memory) == [{"b": 1}]


def test_source_says_itself_what_is_excluded_where(logger, memory):
    """Unless the user says otherwise."""

    class Own:
        def exclude(self, key: str) -> str:
            return "memory"

        def __call__(self) -> dict[str, int]:
            return {"a": 1}

    logger.add_source(Own())
    logger.record("b", 1)
    logger.dump(1)
    logger.add_source(lambda: {"a": 1}, exclude=())
    assert values(memory) == [{"b": 1}]


@pytest.mark.parametrize("answer", [ZeroDivisionError, 7, None, ["a"]])
def test_source_that_fails_stops_neither_training_nor_other_sources(logger, memory, caplog, answer):
    """It is named once."""

    def broken():
        return 1 / 0 if answer is ZeroDivisionError else answer

    logger.add_source(broken)
    logger.add_source(lambda: {"b": 1})
    for step in range(5):
        logger.record("a", step)
        logger.dump(step)

    assert values(memory) == [{"a": step, "b": 1} for step in range(5)]
    (message,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert message.startswith("source 'broken' failed: ")


def test_source_that_does_not_answer_at_once_is_waited_for_once(logger, memory, caplog):
    """Its values come one dump late, and no dump waits again."""
    answers, waited = iter([1, 2]), threading.Semaphore(0)

    def slow() -> dict[str, int]:
        waited.acquire()
        return {"a": next(answers)}

    logger.add_source(slow)
    (asker,) = [source for source, _ in logger._sources._sources]
    logger.record("b", 1)
    logger.dump(1)
    waited.release()
    wait_until(lambda: not asker._answers.empty(), LONG_S)
    logger.dump(2)
    logger.record("b", 3)
    logger.dump(3)

    assert values(memory) == [{"b": 1}, {"a": 1}, {"b": 3}]
    (message,) = [record.message for record in caplog.records]
    assert message.startswith("source 'slow': no answer within 50 ms. No dump waits for it again")
    assert "rl_logging.Sampled" in message
    waited.release(2)


def test_source_that_hangs_holds_up_neither_dump_nor_close(tmp_path, memory):
    """The promise holds for the user's own sources, too."""
    hangs = threading.Event()
    began = time.monotonic()
    with Logger(str(tmp_path), [memory]) as logger:
        logger.add_source(lambda: hangs.wait() or {})
        logger.add_source(lambda: {"b": 1})
        for step in range(100):
            logger.record("a", step)
            logger.dump(step)

    assert time.monotonic() - began < LONG_S
    assert values(memory) == [{"a": step, "b": 1} for step in range(100)]
    hangs.set()


@pytest.mark.parametrize("end", [SystemExit, KeyError("no")])
def test_source_that_ends_the_program_ends_nothing(logger, memory, end):
    """Not even with sys.exit()."""

    def source() -> dict[str, int]:
        raise end

    logger.add_source(source)
    logger.add_source(Sampled(source, 0.01))
    for step in range(3):
        logger.record("a", step)
        logger.dump(step)

    assert values(memory) == [{"a": step} for step in range(3)]


@pytest.mark.parametrize(
    "way", [lambda source: source, lambda source: Sampled(source, 0.01)], ids=["plain", "Sampled"]
)
def test_close_that_fails_is_told(tmp_path, caplog, way):
    """It is the user's code, and nobody sees what a thread ends with."""

    class Broken:
        name = "broken"

        def __call__(self) -> dict[str, int]:
            return {"a": 1}

        def close(self) -> None:
            raise OSError("stuck")

    with Logger(str(tmp_path), []) as logger:
        logger.add_source(way(Broken()))

    wait_until(lambda: "source 'broken' cannot be closed" in caplog.text, LONG_S)


def test_exclude_that_fails_stops_nothing(logger, memory, caplog):
    """It is the user's code, as the source is."""
    logger.add_source(lambda: {"z": 1}, exclude=lambda key: 1 / 0)
    logger.record("a", 1)
    logger.dump(1)

    assert values(memory) == [{"a": 1}]
    assert "division by zero" in caplog.text


def test_two_sources_with_one_key_are_told(logger, memory, caplog):
    """The first one's value stays."""
    logger.add_source(lambda: {"a": 1})
    logger.add_source(lambda: {"a": 2})
    logger.dump(1)

    assert values(memory) == [{"a": 1}]
    assert "another source gives 'a', too" in caplog.text


@pytest.mark.parametrize("source", ["ray_gpu", {"a": 1}, None, 7, dict])
@pytest.mark.parametrize(
    "way", [Logger.add_source, lambda logger, source: Sampled(source)], ids=["add", "Sampled"]
)
def test_what_is_no_source_is_an_error_at_once(logger, source, way):
    """The programmer can mend it."""
    with pytest.raises(TypeError, match=r"a source is a callable that gives metrics by name(, not|; did)"):
        way(logger, source)


def test_source_with_an_interval_is_asked_aside(logger, memory):
    """It is one that asks the network, or the system."""

    class Slow:
        every_s, name = LONG_S, "slow"
        thread = None

        def __call__(self) -> dict[str, int]:
            Slow.thread = threading.current_thread()
            return {"a": 1}

    logger.add_source(Slow())
    wait_until(lambda: Slow.thread is not None, LONG_S)
    assert Slow.thread is not threading.main_thread()

    def has_it() -> bool:
        logger.dump(1)
        return any(each.get("a") == 1 and "slow/sample_age_s" in each for each in values(memory))

    wait_until(has_it, LONG_S)


def test_no_dump_and_no_close_waits_for_a_node_that_never_answers(tmp_path, memory):
    """Its limit is half a minute; a hundred dumps and the end of the run take less."""
    with nodes(never) as (mute,):
        cluster = RayCluster("gpu", timeout_s=LONG_S, keep_s=LONG_S)

        def source():
            cluster._scraper.silent.clear()
            return cluster.ask([mute.named("mute")]).values

        logger = Logger(str(tmp_path), [memory])
        logger.add_source(Sampled(source, 0.01))
        wait_until(lambda: len(mute.requests) == 1, LONG_S)

        began = time.monotonic()
        for step in range(100):
            logger.record("a", step)
            logger.dump(step)
        logger.close()

        assert time.monotonic() - began < LONG_S / 3
        assert [each["a"] for each in values(memory)] == list(range(100))
        assert mute.connections == 1  # it is held up still


def test_close_ends_the_threads_of_the_sources(tmp_path, memory):
    """A notebook that makes a hundred loggers has not a hundred threads."""
    logger = Logger(str(tmp_path), [memory])
    sampled = Sampled(lambda: {"a": 1}, 0.01)
    logger.add_source(sampled)
    thread = sampled._thread
    assert thread is not None
    logger.close()

    thread.join(LONG_S)
    assert not thread.is_alive()


def test_source_of_a_closed_logger_can_be_the_next_ones(tmp_path):
    """A notebook's cell runs again."""
    sampled = Sampled(lambda: {"a": 1}, 0.01)
    for number in range(2):
        memory = MemoryOutputFormat()
        with Logger(str(tmp_path / str(number)), [memory]) as logger:
            logger.add_source(sampled)
            logger.dump(1)

        assert values(memory)[0]["a"] == 1


def test_axis_of_a_sources_values_can_be_another(logger, memory):
    """As that of all metrics."""
    logger.define_metric("gpu/*", "gpu/seconds")
    logger.add_source(lambda: {"gpu/util": 50, "gpu/seconds": 7})
    logger.record("a", 1)
    logger.dump(1)

    assert [(record.axis, record.step, dict(record.values)) for record in memory.records] == [
        ("", 1, {"a": 1}),
        ("gpu/seconds", 7, {"gpu/util": 50, "gpu/seconds": 7}),
    ]


# By name


def test_configure_takes_sources_by_name_with_their_arguments(tmp_path):
    """As it takes outputs."""

    def plain() -> dict[str, int]:
        return {"a": 1}

    with configure(
        tmp_path, [], sources=["system", plain], system={"every_s": 60, "prefix": "host"}
    ) as logger:
        (sampled, asker) = [source for source, _ in logger._sources._sources]

        assert (sampled.every_s, sampled.source.prefix, asker.name) == (60, "host", "plain")


WRONG = [
    (
        {"sources": ["ray_gpus"]},
        ValueError,
        "unknown source 'ray_gpus'; did you mean 'ray_gpu'[?] allowed are",
    ),
    ({"sources": [7]}, ValueError, "unknown source 7; allowed are"),
    ({"sources": "system"}, TypeError, r"sources is a list: \['system'\], not 'system'"),
    ({"sources": None}, TypeError, r"sources is a list: \[None\], not None"),
    ({"sources": [{"a": 1}]}, ValueError, "unknown source {'a': 1}; allowed are"),
    ({"sources": ["csv"]}, ValueError, "unknown source 'csv'"),
    ({"sources": [dict]}, TypeError, r"did you mean dict\(\)\?"),
    (
        {"format_strings": ["system"]},
        ValueError,
        r"'system' is a source, not an output: configure\(…, sources=",
    ),
    ({"sources": ["system", "system"]}, ValueError, "source 'system' is given twice"),
    (
        {"system": {}},
        ValueError,
        "system={} is for a source that is not asked for; add 'system' to the sources",
    ),
    (
        {"sources": ["system"], "system": {"gpu": 1}},
        TypeError,
        "source 'system': .*'gpu'; its arguments are prefix",
    ),
    ({"sources": ["system"], "system": 7}, TypeError, "system= takes a mapping"),
    ({"sources": ["prometheus"]}, TypeError, "source 'prometheus': missing a required argument: 'url'"),
    (
        {"sources": ["ray_gpu"], "ray_gpu": {"detail": "all"}},
        ValueError,
        "detail is one of 'auto', 'gpu'.*not 'all'",
    ),
    (
        {"sources": ["ray_gpu"], "ray_gpu": {"naming": "x"}},
        ValueError,
        "naming is one of 'name', 'place', not 'x'",
    ),
    (
        {"sources": ["ray_gpu"], "ray_gpu": {"timeout_s": 0}},
        ValueError,
        "timeout_s is a number of seconds above 0",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_wrong_sources_are_an_error_before_anything_is_made(tmp_path, arguments, error, message):
    """It names the value and what is allowed."""
    with pytest.raises(error, match=message):
        configure(tmp_path / "run", **{"format_strings": [], **arguments})

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("ray_gpu", "ray", "ray"),
        ("ray_gpu", "prometheus_client", "ray"),
        ("nvml", "pynvml", "system"),
        ("system", "psutil", "system"),
    ],
)
def test_missing_package_is_named_with_the_extra_that_brings_it(tmp_path, monkeypatch, name, package, extra):
    """Before anything is made."""
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(
        MissingBackendError, match=rf"{name} is not installed; pip install 'rl_logging\[{extra}\]'"
    ):
        configure(tmp_path / "run", [], sources=[name])

    assert not (tmp_path / "run").exists()
