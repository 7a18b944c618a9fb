"""Sampled: a source on a thread of its own, from which a dump takes what is there."""

import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from rl_logging import Sampled
from rl_logging.sources.sampled import _Window

LONG_S = 30.0


class Steps:
    """A source that gives one answer a turn, and waits for the next turn."""

    def __init__(self, *answers: object) -> None:
        self.name = self.prefix = "steps"
        self.asked = 0
        self._answers = list(answers)
        self._turns = threading.Semaphore(0)

    def __call__(self) -> object:
        self.asked += 1
        self._turns.acquire()
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def turn(self, count: int = 1) -> None:
        """Give answers, and wait until they are taken."""
        asked = self.asked + count
        self._turns.release(count)
        wait_until(lambda: self.asked >= asked, LONG_S)


@contextmanager
def sampling(*answers: object, every_s: float = 0.01) -> Iterator[tuple[Sampled, Steps]]:
    """A source that is being sampled."""
    source = Steps(*answers)
    sampled = Sampled(source, every_s)
    sampled.start()
    wait_until(lambda: source.asked == 1, LONG_S)
    yield sampled, source
    sampled.stop()


def taken(sampled: Sampled) -> dict[str, object]:
    """What a dump gets, apart from the age."""
    values = sampled()
    values.pop("steps/sample_age_s", None)
    return values


def test_numbers_are_means_of_what_came_since_the_last_dump():
    """Ten samples between two dumps are ten measurements, not one."""
    with sampling({"a": 1.0}, {"a": 2}, {"a": 6}, {"a": 10}) as (sampled, source):
        assert sampled() == {}
        source.turn(3)
        assert taken(sampled) == {"a": 3.0}

        source.turn()
        assert taken(sampled) == {"a": 10.0}


def test_utilisation_has_its_maximum_and_extremes_stay_extremes():
    """A mean hides that the GPU was full for a moment."""
    first = {"gpu.0.util": 20.0, "x_max": 5.0, "x_min": 5.0}
    second = {"gpu.0.util": 80.0, "x_max": 7.0, "x_min": 7.0}
    with sampling(first, second) as (sampled, source):
        source.turn(2)

        assert taken(sampled) == {"gpu.0.util": 50.0, "gpu.0.util_max": 80.0, "x_max": 7.0, "x_min": 5.0}


def test_text_comes_when_it_is_new():
    """A GPU's model at each dump would fill the trackers with one word."""
    with sampling(*({"type": word, "a": 1.0} for word in ("T4", "T4", "A100"))) as (sampled, source):
        source.turn()
        assert taken(sampled) == {"type": "T4", "a": 1.0}
        source.turn()
        assert taken(sampled) == {"a": 1.0}
        source.turn()
        assert taken(sampled) == {"type": "A100", "a": 1.0}


def test_latest_value_stands_for_three_intervals_with_its_age():
    """A dump between two samples has no gap; one long after them has no invention."""
    with sampling({"a": 1.0}, {"a": 3.0}, every_s=0.5) as (sampled, source):
        source.turn(2)
        seen = [sampled()]
        while values := sampled():
            seen.append(values)

    ages = [values["steps/sample_age_s"] for values in seen]
    assert [values["a"] for values in seen] == [2.0, *[3.0] * (len(seen) - 1)]
    assert len(seen) > 1
    assert ages == sorted(ages)
    assert ages[-1] <= 1.5


def test_dump_does_not_wait_for_a_source_that_hangs_and_says_so(caplog):
    """Once, then at growing intervals; training goes on."""
    with sampling() as (sampled, _):
        wait_until(lambda: time.monotonic() - (sampled._asked_at or math.inf) > 0.1, LONG_S)
        for _ in range(10):
            assert sampled() == {}

    (message,) = [record.message for record in caplog.records]
    assert re.match(r"source 'steps' has not answered for \d+ s\. Training goes on", message)


def test_source_that_raises_is_named_once_and_asked_again(caplog):
    """Its trouble is told, its next values count."""
    with sampling(ValueError("no such node"), ValueError("no such node"), {"a": 1.0}) as (sampled, source):
        source.turn(3)
        assert taken(sampled) == {"a": 1.0}

    told = [record.message.splitlines()[0] for record in caplog.records if "failed" in record.message]
    assert told == ["source 'steps' failed: ValueError: no such node. Training goes on; it is asked again."]


@pytest.mark.parametrize("answer", [None, 7, [("a", 1)], {}])
def test_answer_without_metrics_gives_none(answer, caplog):
    """Nothing is new, and nothing breaks."""
    with sampling({"a": 1.0}, answer, every_s=LONG_S / 1000) as (sampled, source):
        source.turn(2)

        assert taken(sampled)["a"] == 1.0


def test_stop_waits_for_nothing_and_ends_the_thread():
    """A question that is open when the run ends."""
    source = Steps({"a": 1.0})
    closed = threading.Event()
    source.close = closed.set  # type: ignore[attr-defined]
    sampled = Sampled(source, 0.01)
    sampled.start()
    sampled.start()
    wait_until(lambda: source.asked == 1, LONG_S)

    sampled.stop()

    assert not closed.is_set()
    source._turns.release()
    assert closed.wait(LONG_S)
    assert source.asked == 1


def test_own_interval_of_the_source_counts():
    """A source knows how often there is something new."""
    source = Steps()
    source.every_s = 7.0  # type: ignore[attr-defined]

    assert (Sampled(source).every_s, Sampled(source, 3).every_s, Sampled(Steps()).every_s) == (7.0, 3.0, 10.0)


@pytest.mark.parametrize("every_s", [0, -1, math.nan, math.inf, "10", None, True])
def test_bad_interval_is_an_error_at_once(every_s):
    """It names the value and what is allowed."""
    source = Steps()
    source.every_s = every_s  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="every_s is a number of seconds above 0, not"):
        Sampled(source)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["a", "b_max", "c_min", "util"]), st.floats(-1e6, 1e6)), min_size=1
    )
)
def test_window_is_what_numpy_would_say_of_all_samples(samples):
    """In memory that does not grow with their number."""
    window = _Window()
    for sample in samples:
        window.add(sample)
    found = window.reduced()

    for key in {key for sample in samples for key in sample}:
        values = [sample[key] for sample in samples if key in sample]
        if key.endswith(("_max", "_min")):
            assert found[key] == (max if key.endswith("_max") else min)(values)
        else:
            assert found[key] == pytest.approx(math.fsum(values) / len(values), abs=1e-6)
        if key == "util":
            assert found["util_max"] == max(values)
