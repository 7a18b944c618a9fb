"""Every documented name of NeMo-RL's logger is there, and can be called as it is documented."""

import inspect
import re
import typing
from pathlib import Path
from typing import Any

import pytest

from rl_logging.compat import nemo_rl

LINES = [
    line
    for line in (Path(__file__).parent / "data" / "nemo_rl_names.txt").read_text().splitlines()
    if not line.startswith("#")
]
FIELDS = [line for line in LINES if ": " in line]
CALLABLES = [line for line in LINES if "(" in line]


def resolved(name: str) -> Any:
    """What a dotted name stands for in the module."""
    found: Any = nemo_rl
    for part in name.split("."):
        found = getattr(found, part)
    return found


def test_the_list_is_read() -> None:
    """A pattern that finds nothing would pass."""
    assert len(FIELDS) + len(CALLABLES) == len(LINES) == 47


@pytest.mark.parametrize("line", FIELDS)
def test_configurations_have_the_documented_keys(line: str) -> None:
    """They are typed dictionaries, for editors and type checkers."""
    name, _, keys = line.partition(": ")

    assert set(keys.split()) <= typing.get_type_hints(resolved(name)).keys()


@pytest.mark.parametrize("line", CALLABLES)
def test_callables_take_the_documented_arguments(line: str) -> None:
    """By position and by name; more may be there if nobody has to give it."""
    name, given, mark = re.fullmatch(r"([\w.]+)\((.*?)\)( abstract)?", line).groups()
    documented = inspect.signature(eval(f"lambda {given}: None")).parameters.values()
    ours = list(inspect.signature(resolved(name)).parameters.values())
    ours = [parameter for parameter in ours if parameter.name != "self"]
    same, more = ours[: len(documented)], ours[len(documented) :]

    assert [(p.name, p.default, p.kind) for p in same] == [(p.name, p.default, p.kind) for p in documented]
    assert all(p.default is not p.empty for p in more)
    assert getattr(resolved(name), "__isabstractmethod__", False) == bool(mark)


def test_the_public_names_are_these() -> None:
    """And no others: the rest is this package's own surface."""
    documented = {re.match(r"\w+", line)[0] for line in LINES}

    assert sorted(nemo_rl.__all__) == nemo_rl.__all__
    assert set(nemo_rl.__all__) - documented == {"ClearMLConfig", "ClearMLLogger"}
    assert documented <= set(nemo_rl.__all__)
