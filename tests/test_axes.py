"""Curves against other axes than the training step."""

import math

import pytest

from rl_logging import MemoryOutputFormat, configure
from rl_logging.axes import Axes
from rl_logging.journal import read


def axes(*rules: tuple[str, str]) -> Axes:
    made = Axes()
    for rule in rules:
        made.define(*rule)
    return made


def test_without_rules_a_dump_is_one_record() -> None:
    """Nearly every run has one axis."""
    assert Axes().split({"a": 1}, 5) == [("", 5, {"a": 1})]


def test_what_has_another_axis_is_a_record_of_its_own() -> None:
    """Trackers with one axis can draw it right then."""
    values = {"loss": 0.5, "ray/step": 40, "ray/util": 0.9}

    assert axes(("ray/*", "ray/step")).split(values, 5) == [
        ("", 5, {"loss": 0.5}),
        ("ray/step", 40, {"ray/step": 40, "ray/util": 0.9}),
    ]


def test_an_axis_stays_where_it_was_until_it_moves() -> None:
    """It is not logged at every dump."""
    made = axes(("a", "x"))
    made.split({"x": 7}, 1)

    assert made.split({"a": 1}, 2) == [("x", 7, {"a": 1})]


@pytest.mark.parametrize("value", [math.nan, "seven", None, [1]])
def test_a_bad_value_does_not_move_an_axis(value: object) -> None:
    """A step is a whole number; the value itself is logged all the same."""
    made = axes(("a", "x"))
    made.split({"x": 7}, 1)

    assert made.split({"a": 1, "x": value}, 2) == [("x", 7, {"a": 1, "x": value})]


def test_the_training_step_stands_in_for_an_axis_without_a_value() -> None:
    """The first points must not be lost."""
    assert axes(("a", "x")).split({"a": 1}, 3) == [("", 3, {"a": 1})]


def test_the_last_rule_that_fits_counts() -> None:
    """A general rule first, exceptions after it."""
    made = axes(("*", "x"), ("b*", "y"))

    parts = made.split({"x": 1, "y": 2, "a": 0, "b": 0}, 3)

    assert {axis: set(part) for axis, _, part in parts} == {"x": {"x", "a"}, "y": {"y", "b"}}


def test_a_key_that_is_no_text_has_the_training_step() -> None:
    """SB3 takes any key."""
    assert axes(("*", "x")).split({1: 2}, 3) == [("", 3, {1: 2})]


@pytest.mark.parametrize("names", [("", "x"), ("a", ""), (1, "x"), ("a", None)])
def test_a_name_that_is_none_is_refused_at_once(tmp_path, names) -> None:
    """Its author can mend it there."""
    with configure(tmp_path, []) as logger, pytest.raises(ValueError, match="define_metric takes two names"):
        logger.define_metric(*names)


def test_axes_stand_in_the_journal(tmp_path) -> None:
    """Whoever delivers later knows them too."""
    memory = MemoryOutputFormat()
    with configure(tmp_path, [memory]) as logger:
        logger.define_metric("ray/*", "ray/step")
        for step in (1, 2):
            logger.record("loss", 0.5)
            logger.record("ray/step", 10 * step)
            logger.record("ray/util", 0.9)
            logger.dump(step)

    found = [(r.axis, r.step, set(r.values)) for r in read(tmp_path / "journal.jsonl") if r.kind == "metrics"]
    assert found == [
        ("", 1, {"loss"}),
        ("ray/step", 10, {"ray/step", "ray/util"}),
        ("", 2, {"loss"}),
        ("ray/step", 20, {"ray/step", "ray/util"}),
    ]
    assert [r.axis for r in memory.records if r.kind == "metrics"] == ["", "ray/step"] * 2
