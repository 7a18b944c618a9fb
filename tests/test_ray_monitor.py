"""RayGpuMonitor: samples on a clock and an axis of their own."""

import itertools
import math
import threading
import time

import pytest
from waiting import wait_until

from rl_logging import Logger, MemoryOutputFormat, RayGpuMonitor, RayGpuSource, configure
from rl_logging.formats.csv import CSVOutputFormat
from rl_logging.journal import read

LONG_S = 30.0


def samples(folder):
    """What the journal has on the monitor's axis: steps and values."""
    return [
        (record.step, dict(record.values))
        for record in read(folder / "journal.jsonl")
        if record.axis == "ray/ray_step"
    ]


def counting():
    """A source whose values tell one sample from another."""
    counts = itertools.count()
    return lambda: {"node.0.gpu.0.util": next(counts)}


def test_samples_are_logged_against_their_own_clock(tmp_path):
    """Beside the training's steps, which they do not disturb."""
    with configure(tmp_path, ["csv"]) as logger:
        monitor = RayGpuMonitor(logger, 0.01, 0.05, source=counting())
        monitor.start()
        wait_until(lambda: len(samples(tmp_path)) >= 5, LONG_S)
        logger.record("a", 1)
        logger.dump(7)
        monitor.stop()

    found = samples(tmp_path)
    assert [values["ray/node.0.gpu.0.util"] for _, values in found] == list(range(len(found)))
    assert all(values["ray/ray_step"] == step for step, values in found)
    steps = [step for step, _ in found]
    assert steps == sorted(steps)
    (own,) = [record for record in read(tmp_path / "journal.jsonl") if "a" in record.values]
    assert (own.step, own.axis, dict(own.values)) == (7, "", {"a": 1})


def test_a_text_is_logged_when_it_is_new(tmp_path):
    """A GPU's type stays what it is for the whole run."""
    types = iter(["A100", "A100", "H100", *["H100"] * 1000])
    counts = itertools.count()
    with configure(tmp_path, []) as logger:
        monitor = RayGpuMonitor(
            logger, 0.01, 0.01, source=lambda: {"gpu.0.type": next(types), "gpu.0.util": next(counts)}
        )
        monitor.start()
        wait_until(lambda: len(samples(tmp_path)) >= 5, LONG_S)
        monitor.stop()

    found = [values.get("ray/gpu.0.type") for _, values in samples(tmp_path)]
    assert found[:3] == ["A100", None, "H100"]
    assert set(found[3:]) == {None}


def test_last_samples_are_logged_when_it_stops(tmp_path):
    """However far the next flush is."""
    source = counting()
    with configure(tmp_path, []) as logger:
        monitor = RayGpuMonitor(logger, 0.01, LONG_S, source=source)
        monitor.start()
        wait_until(lambda: len(monitor._samples) >= 3, LONG_S)
        monitor.stop()
        monitor.stop()
        seen = next(v for v in source().values())

        assert len(samples(tmp_path)) == seen


def test_monitor_of_a_logger_that_is_closed_has_logged_its_samples(tmp_path):
    """Who forgets to stop it, or fails in training, loses nothing; nothing is waited for."""
    source = counting()
    with configure(tmp_path, []) as logger:
        monitor = RayGpuMonitor(logger, 0.01, LONG_S, source=source)
        monitor.start()
        wait_until(lambda: len(monitor._samples) >= 3, LONG_S)
    monitor.stop()
    found = [values["ray/node.0.gpu.0.util"] for _, values in samples(tmp_path)]

    assert len(found) >= 4
    assert found == list(range(len(found)))


def test_monitor_is_a_context(tmp_path):
    """It stops whatever happens in it."""
    with configure(tmp_path, []) as logger:
        monitor = RayGpuMonitor(logger, 0.01, LONG_S, source=counting())
        with pytest.raises(ZeroDivisionError), monitor:
            _ = wait_until(lambda: len(monitor._samples) >= 3, LONG_S) or 1 / 0

        assert len(samples(tmp_path)) >= 3


def test_samples_are_not_for_the_console_unless_asked(tmp_path, capsys):
    """A table a second would be all that is seen of the training."""
    for number, options in enumerate([{}, {"exclude": None}]):
        with configure(tmp_path / str(number), ["stdout", "csv"]) as logger:
            monitor = RayGpuMonitor(logger, LONG_S, LONG_S, source=counting(), **options)
            monitor.start()
            wait_until(lambda monitor=monitor, number=number: samples(tmp_path / str(number)), LONG_S)

        assert ("node.0.gpu.0.util" in capsys.readouterr().out) == bool(number)
        assert "node.0.gpu.0.util" in (tmp_path / str(number) / "progress.csv").read_text()


def test_what_is_no_logger_is_an_error_at_once():
    """The programmer can mend it."""
    with pytest.raises(TypeError, match="a logger of this package, not None"):
        RayGpuMonitor(None, source=counting())


def test_source_by_name_is_an_error_at_once(tmp_path):
    """It takes callables only."""
    with Logger(str(tmp_path), []) as logger, pytest.raises(TypeError, match="not 'ray_gpu'"):
        RayGpuMonitor(logger, source="ray_gpu")


def test_resumed_run_goes_on_where_its_clock_ended(tmp_path):
    """A curve that begins at zero again would run over itself."""
    with configure(tmp_path, []) as logger:
        logger.log_metrics({"node.0.gpu.0.util": 1, "ray/ray_step": 100}, 100, "ray", "ray/ray_step")

    with configure(tmp_path, []) as logger:
        monitor = RayGpuMonitor(logger, 0.01, 0.01, source=counting())
        monitor.start()
        wait_until(lambda: len(samples(tmp_path)) >= 2, LONG_S)
        monitor.stop()

    assert samples(tmp_path)[1][0] >= 100


def test_sample_is_in_the_journal_once_when_an_output_fails(tmp_path):
    """An output's failure is no reason to log a sample again."""

    class Broken(CSVOutputFormat):
        def emit(self, record):
            raise OSError("no")

    memory = MemoryOutputFormat()
    with configure(tmp_path, []) as logger:
        logger.output_formats += [Broken(tmp_path / "broken.csv", name="broken"), memory]
        monitor = RayGpuMonitor(logger, 0.01, 0.01, source=counting())
        monitor.start()
        wait_until(lambda: len(memory.records) >= 5, LONG_S)
        monitor.stop()

    utils = [record.values["ray/node.0.gpu.0.util"] for record in memory.records]
    assert utils == list(range(len(utils)))
    assert len(samples(tmp_path)) == len(utils)


def test_stop_is_bounded_when_a_sample_hangs(tmp_path, caplog):
    """A run must end, whatever the cluster does."""
    asked, go_on = threading.Event(), threading.Event()

    def hanging():
        asked.set()
        go_on.wait()
        return {"a": 1}

    with configure(tmp_path, []) as logger:
        monitor = RayGpuMonitor(logger, 1, 1, source=hanging)
        monitor.start()
        assert asked.wait(LONG_S)
        began = time.monotonic()
        monitor.stop()
        took_s = time.monotonic() - began
        go_on.set()

    assert took_s < LONG_S / 2
    assert "the last sample was under way" in caplog.text


def test_source_that_fails_is_named_and_asked_again(tmp_path, caplog):
    """A cluster that is restarted is no reason to end."""
    answers = iter([ValueError("no"), {"a": 1}])

    def source():
        answer = next(answers, {})
        if isinstance(answer, Exception):
            raise answer
        return answer

    with configure(tmp_path, []) as logger:
        monitor = RayGpuMonitor(logger, 0.01, 0.01, source=source)
        monitor.start()
        wait_until(lambda: len(samples(tmp_path)) == 1, LONG_S)
        monitor.stop()

    assert "RayGpuMonitor: no sample, because: ValueError: no" in caplog.text


def test_monitor_can_be_started_again(tmp_path):
    """Around an evaluation, say; its clock goes on."""
    with configure(tmp_path, []) as logger:
        monitor = RayGpuMonitor(logger, 0.01, 0.01, source=counting())
        for _ in range(2):
            before = len(samples(tmp_path))
            monitor.start()
            monitor.start()
            wait_until(lambda before=before: len(samples(tmp_path)) > before, LONG_S)
            monitor.stop()

    steps = [step for step, _ in samples(tmp_path)]
    assert steps == sorted(steps)


def test_default_source_is_ray_with_places_for_names(tmp_path):
    """NeMo-RL's names."""
    with Logger(str(tmp_path), []) as logger:
        monitor = RayGpuMonitor(logger)

    assert isinstance(monitor._source, RayGpuSource)
    assert (monitor._source.prefix, monitor._source.every_s) == ("", 10.0)


@pytest.mark.parametrize("name", ["collection_interval", "flush_interval"])
@pytest.mark.parametrize("value", [0, -1, math.nan, "10", None])
def test_bad_interval_is_an_error_at_once(tmp_path, name, value):
    """It names the value and what is allowed."""
    with (
        Logger(str(tmp_path), []) as logger,
        pytest.raises(ValueError, match=f"{name} is a number of seconds"),
    ):
        RayGpuMonitor(logger, **{name: value})
