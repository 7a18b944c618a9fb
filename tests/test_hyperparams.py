"""Hyperparameters of any depth and type become plain values, and come back from their file."""

import argparse
import collections
import dataclasses
import enum
import fractions
import functools
import math
import pathlib
import subprocess
import sys
import types
from typing import Any, NamedTuple

import attrs
import numpy as np
import omegaconf
import pydantic
import pytest
import torch
from awkward import FalseClass, Hostile, HostileText, RaisesHostile
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from rl_logging.hyperparams import flatten, load, merge, save, to_nested


class Colour(enum.Enum):
    RED = "red"
    BOTH = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: float
    y: float


@dataclasses.dataclass
class Net:
    width: int = 64
    _private: str = "kept"
    made: int = dataclasses.field(init=False, default=3)
    unset: int = dataclasses.field(init=False)


@attrs.define
class Replay:
    size: int = 10
    net: Net = attrs.Factory(Net)


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str = "ppo"
    key: pydantic.SecretStr = pydantic.SecretStr("planted")
    path: pathlib.Path = pathlib.Path("/a/b")


class Thing:
    pass


class Named:
    def __repr__(self) -> str:
        return "Named(1)"


def halved(x: float) -> float:
    return x / 2


HERE = __name__
NET = {"width": 64, "_private": "kept", "made": 3}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (True, True),
        (3, 3),
        (0.5, 0.5),
        (None, None),
        ("text", "text"),
        ("\ud800!", "\\ud800!"),
        ("<Thing object at 0x7f00>", "<Thing object at 0x7f00>"),
        (10**5000, f"<integer of {(10**5000).bit_length()} bits>"),
        (Colour.RED, "red"),
        (Colour.BOTH, "BOTH"),
        (Level.HIGH, 3),
        (pathlib.Path("a") / "b", "a/b"),
        (fractions.Fraction(1, 4), 0.25),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.arange(3), [0, 1, 2]),
        (np.zeros((2, 2)), [[0.0, 0.0], [0.0, 0.0]]),
        (np.zeros((84, 84), np.uint8), "<array 84x84 uint8>"),
        (np.array(["a", None], dtype=object), ["a", None]),
        (np.full(1000, Thing(), dtype=object), "<array 1000 object>"),
        (torch.tensor([1.0, 2.0]), [1.0, 2.0]),
        (torch.float32, "torch.float32"),
        (torch.device("cpu"), "cpu"),
        (torch.nn.ReLU, "torch.nn.modules.activation.ReLU"),
        (torch.nn.ReLU(), "ReLU()"),
        (np.float32, "numpy.float32"),
        (np.dtype("float32"), "float32"),
        (int, "int"),
        (len, "len"),
        (halved, f"{HERE}.halved"),
        (lambda x: x, f"{HERE}.<lambda>"),
        (Thing(), f"{HERE}.Thing"),
        (Named(), "Named(1)"),
        (functools.partial(halved), f"{HERE}.halved"),
        (functools.partial(halved, x=2), {"function": f"{HERE}.halved", "keywords": {"x": 2}}),
        (functools.partial(halved, Thing), {"function": f"{HERE}.halved", "args": [f"{HERE}.Thing"]}),
        (LinearSchedule(1, 0.5, 0.25), "LinearSchedule(start=1, end=0.5, end_fraction=0.25)"),
        (FloatSchedule(3e-4), f"FloatSchedule({ConstantSchedule(3e-4)})"),
        (FloatSchedule(halved), "FloatSchedule(halved)"),
        (FloatSchedule(Thing.__call__), "stable_baselines3.common.utils.FloatSchedule"),
        (Point(1, 2), {"x": 1, "y": 2}),
        (Net(), NET),
        (Net, f"{HERE}.Net"),
        (Replay(), {"size": 10, "net": NET}),
        (Model(more=1), {"name": "ppo", "key": "**********", "path": "/a/b", "more": 1}),
        (argparse.Namespace(lr=1, net=Net()), {"lr": 1, "net": NET}),
        (types.SimpleNamespace(a=[1]), {"a": [1]}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.deque([1]), [1]),
        ((1, [2, (3,)]), [1, [2, [3]]]),
        ({10, 9, 1}, [1, 9, 10]),
        (frozenset({"b", 1, "a"}), [1, "a", "b"]),
        ({1: "a", "1": "b", (1, 2): "c", None: "d", Colour.RED: "e", Thing: "f"},) * 2,
        (b"raw", "b'raw'"),
        (range(3), "range(0, 3)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_becomes_plain(value, plain):
    """What a run was made with must be readable long after the classes that held it are gone."""
    if value is plain and isinstance(value, dict):
        plain = {"1": "a", "1_": "b", "(1, 2)": "c", "None": "d", "red": "e", f"{HERE}.Thing": "f"}

    assert repr(to_nested({"a": value})) == repr({"a": plain})


def test_value_without_names_gets_one():
    """Every tracker wants a mapping."""
    assert to_nested([1, 2]) == {"value": [1, 2]}


def test_omegaconf_is_resolved_where_it_can_be(monkeypatch):
    """One value that is not set yet must not cost the others."""
    monkeypatch.setenv("LR", "0.5")
    config = omegaconf.OmegaConf.create(
        {
            "lr": "${oc.decode:${oc.env:LR}}",
            "net": {"width": 64, "depth": "${.width}", "same": "${lr}"},
            "copy": "${net}",
            "list": [1, "${lr}", {"a": "???"}],
            "missing": "???",
            "broken": "${nowhere}",
            "unknown": "${no_such_resolver:1}",
            "loop": "${loop}",
            "none": None,
            "colour": Colour.RED,
        }
    )
    net = {"width": 64, "depth": 64, "same": 0.5}

    assert to_nested(config) == {
        "lr": 0.5,
        "net": net,
        "copy": net,
        "list": [1, 0.5, {"a": "???"}],
        "missing": "???",
        "broken": "${nowhere}",
        "unknown": "${no_such_resolver:1}",
        "loop": "${loop}",
        "none": None,
        "colour": "red",
    }
    assert to_nested(omegaconf.OmegaConf.structured(Net))["width"] == 64
    assert to_nested(omegaconf.OmegaConf.create([1])) == {"value": [1]}


@pytest.mark.parametrize("kind", [Hostile, FalseClass, RaisesHostile])
def test_hostile_object_becomes_a_text(kind):
    """Its neighbours are logged all the same."""
    nested = to_nested({"a": kind(), "b": [kind(), 1], 1: 2})

    assert f"<{kind.__name__} whose text failed" in nested["a"]
    assert (nested["b"][1], nested["1"]) == (1, 2)


def test_text_of_ones_own_kind_is_the_text():
    """A subclass of str may override what every writer calls."""
    assert to_nested({"a": HostileText("kept")}) == {"a": "kept"}


def test_mapping_that_raises_becomes_a_text():
    """A lazy configuration may fail when it is read."""

    class Lazy(dict):
        def items(self) -> Any:
            raise RuntimeError("no")

    assert to_nested({"a": Lazy(b=1), "c": 2}) == {"a": "{'b': 1}", "c": 2}


def test_cycle_and_depth_end_without_what_is_in_them():
    """The text of what is cut off would hold secrets without the names by which they are known."""
    itself: dict[str, object] = {"password": "planted"}
    itself["me"] = [itself, itself]
    deep: dict[str, object] = {"password": "planted"}
    for _ in range(100):
        deep = {"a": deep}

    assert to_nested(itself) == {"password": "planted", "me": ["<dict that holds itself>"] * 2}
    assert "planted" not in repr(to_nested(deep))
    assert "<dict that is nested too deeply>" in repr(to_nested(deep))


def test_no_library_is_imported_for_its_types():
    """A run without torch must not wait for it."""
    code = (
        "import sys; from pathlib import Path; from rl_logging import hyperparams as h\n"
        "h.to_nested({'a': [1, {2}, Path('a'), print]}); h.flatten({'a': 1})\n"
        "print([n for n in ('torch', 'omegaconf', 'pydantic', 'attr', 'yaml') if n in sys.modules])"
    )

    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout == "[]\n"


def test_flatten():
    """Trackers that know no nesting show one row a value."""
    nested = {
        "lr": 0.5,
        "net": {"arch": [64, 64], "layers": [{"width": 1}, [2]], "none": None, "empty": {}, "list": []},
        "a/b": 1,
        "a": {"b": 2},
        "names": ["ü", True, None],
    }

    assert flatten(nested) == {
        "lr": 0.5,
        "net/arch": "[64, 64]",
        "net/layers": '[{"width": 1}, [2]]',
        "net/none": None,
        "net/empty": "{}",
        "net/list": "[]",
        "a/b": 1,
        "a/b_": 2,
        "names": '["ü", true, null]',
    }
    assert flatten({"a": {"b": 1}}, sep=".") == {"a.b": 1}


def test_merge_keeps_what_is_not_named_again():
    """Hyperparameters come in several calls: the user's own, the model's."""
    old = {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}, "f": 1}

    assert merge(old, {"a": {"c": [3]}, "d": 2, "f": {"g": 3}}) == {
        "a": {"b": 1, "c": [3]},
        "d": 2,
        "f": {"g": 3},
    }
    assert old == {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}, "f": 1}


def test_file_is_added_to_and_people_can_read_it(tmp_path):
    """A resumed run adds to what it was started with."""
    save(tmp_path / "run", {"lr": 1e-4, "net": {"arch": [64, 64]}})
    path = save(tmp_path / "run", {"net": {"act": torch.nn.Tanh}, "name": "Größe"})

    assert path == tmp_path / "run/hyperparams.yaml"
    assert path.read_text("utf-8") == (
        "lr: 0.0001\nnet:\n  arch:\n  - 64\n  - 64\n  act: torch.nn.modules.activation.Tanh\nname: Größe\n"
    )
    assert [file.name for file in path.parent.iterdir()] == ["hyperparams.yaml"]


def test_nothing_is_loaded_where_nothing_is(tmp_path):
    """The first call of a run has nothing to add to, and an emptied file holds nothing."""
    assert load(tmp_path) == {}

    (tmp_path / "hyperparams.yaml").touch()

    assert load(tmp_path) == {}


def test_file_that_is_no_yaml_is_kept(tmp_path):
    """Somebody's edit went wrong; overwriting it would lose what the run was made with."""
    (tmp_path / "hyperparams.yaml").write_text("a: [1")

    with pytest.raises(ValueError, match="mend it or move it away"):
        save(tmp_path, {"b": 2})

    assert (tmp_path / "hyperparams.yaml").read_text() == "a: [1"


any_text = st.text(st.characters()) | st.sampled_from(
    [
        "1",
        "1.5",
        "null",
        "~",
        "yes",
        "1e5",
        "2020-01-01",
        "=",
        "<<",
        "- a",
        "a: b",
        "#",
        "\x00",
        "\r\n",
        "\x85",
        "\ufeff",
        " a ",
        "'",
        '"',
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_text
anything = st.recursive(
    scalars
    | st.integers(4290, 4400).map(lambda digits: 10**digits)
    | st.builds(Thing)
    | st.binary()
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(scalars, inner, max_size=4)
        | st.builds(argparse.Namespace, a=inner)
        | st.sets(scalars, max_size=4)
    ),
)


@given(value=anything)
def test_anything_becomes_plain_and_stays_so(value):
    """Each writer converts what it is given; none may find anything left to do."""
    nested = to_nested(value)

    assert repr(to_nested(nested)) == repr(nested)
    assert {type(leaf) for leaf in flatten(nested).values()} <= {str, int, float, bool, type(None)}


@settings(max_examples=60)
@given(value=st.dictionaries(any_text, anything, max_size=5))
def test_file_gives_back_what_went_in(value, tmp_path_factory):
    """Whatever it holds: YAML reads many texts as something else."""
    folder = tmp_path_factory.mktemp("run")
    nested = to_nested(value)

    save(folder, value)

    assert same(load(folder), nested)


def same(one: Any, other: Any) -> bool:
    """Whether two plain values are the same, type by type; NaN is NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))
