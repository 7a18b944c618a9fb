"""The outputs, by name. One line here, one file, one test, one line in setup.cfg and the wiki.

Other packages register theirs by the entry point group ``rl_logging.formats``: the
entry's name is the output's, its object a subclass of ``OutputFormat``.
"""

import difflib
import importlib
import inspect
from collections.abc import Iterable
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rl_logging.errors import MissingBackendError

if TYPE_CHECKING:
    from rl_logging.formats.base import Sender
    from rl_logging.formats.sb3 import OutputFormat


class Format(NamedTuple):
    """Where an output's classes are, as ``module:Class``.

    :param output: what SB3's logger calls
    :param sender: the half that needs no SB3, for trackers
    :param requires: the package it cannot do without; its pip extra has the output's name
    """

    output: str
    sender: str | None = None
    requires: str | None = None


FORMATS = {
    "stdout": Format("rl_logging.formats.human:FixedHumanOutputFormat"),
    "log": Format("rl_logging.formats.human:FixedHumanOutputFormat"),
    "csv": Format("rl_logging.formats.csv:CSVOutputFormat"),
    "json": Format("rl_logging.formats.json:JSONOutputFormat"),
    "journal": Format("rl_logging.formats.journal:JournalOutputFormat"),
    "memory": Format("rl_logging.formats.memory:MemoryOutputFormat"),
    "tensorboard": Format(
        "rl_logging.formats.trackers:TensorBoardOutputFormat",
        "rl_logging.formats.tensorboard:TensorBoardSender",
        "tensorboard",
    ),
    "mlflow": Format(
        "rl_logging.formats.trackers:MLflowOutputFormat", "rl_logging.formats.mlflow:MLflowSender", "mlflow"
    ),
    "wandb": Format(
        "rl_logging.formats.trackers:WandBOutputFormat", "rl_logging.formats.wandb:WandBSender", "wandb"
    ),
    "clearml": Format(
        "rl_logging.formats.trackers:ClearMLOutputFormat",
        "rl_logging.formats.clearml:ClearMLSender",
        "clearml",
    ),
    "swanlab": Format(
        "rl_logging.formats.trackers:SwanLabOutputFormat",
        "rl_logging.formats.swanlab:SwanLabSender",
        "swanlab",
    ),
}
MEDIA = Format("rl_logging.formats.media:MediaSender")  # the logger's own; nobody asks for it by name
TRACKERS = ("tensorboard", "mlflow", "wandb", "clearml", "swanlab")


def formats() -> dict[str, Format]:
    """All outputs by name, those that other packages register among them."""
    others = {entry.name: Format(entry.value) for entry in entry_points(group="rl_logging.formats")}
    return {**others, **FORMATS}


def check_names(names: Iterable[str]) -> None:
    """Raise for a name that is no output, stands twice, or whose package is not installed.

    :raises ValueError: an unknown name or one given twice
    :raises MissingBackendError: the output's package is missing (nothing is imported)
    """
    known, seen = formats(), set()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"unknown output {name!r}; {hint}allowed are {', '.join(sorted(known))}")
        if name in seen:
            raise ValueError(
                f"output {name!r} is given twice; a second one of a kind needs a name= of its own"
            )
        seen.add(name)
        check_installed(name, known[name].requires)


def check_installed(name: str, package: str | None) -> None:
    """Raise if an output's package cannot be found; it is not imported.

    :raises MissingBackendError: it is missing
    """
    if package is not None and find_spec(package) is None:
        raise MissingBackendError(name, extra=name)


def kind_of(output: "Sender") -> str | None:
    """The name in the registry of an output's own class, if it has one."""
    path = f"{type(output).__module__}:{type(output).__qualname__}"
    known = {**formats(), "media": MEDIA}
    return next((name for name, entry in known.items() if path in (entry.output, entry.sender)), None)


def make_output(_format: str, folder: str | Path, /, **arguments: Any) -> "OutputFormat":
    """Build an output that keeps what is local in a run folder.

    :param _format: the output's name in the registry
    :param arguments: for the output's constructor
    :raises ValueError: the name is unknown
    :raises MissingBackendError: its package is not installed
    :raises TypeError: an argument that its constructor does not have
    """
    check_names([_format])
    path = formats()[_format].output
    try:
        output = load(path)
    except (ImportError, AttributeError) as error:  # what another package registered may be broken
        raise ImportError(f"output {_format!r} cannot be loaded from {path!r}: {error}") from error
    parameters = inspect.signature(output).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for wrong in arguments.keys() - parameters.keys():
            raise TypeError(f"{_format} has no argument {wrong!r}; it has {', '.join(parameters)}")
    name = arguments.pop("name", None) or _format
    built: OutputFormat = output.in_folder(Path(folder), name=_format, **arguments)
    built.name = name  # only now: where an output writes follows from what it is, not what it is called
    return built


def make_sender(name: str, arguments: dict[str, Any]) -> "Sender":
    """Build again, without SB3, a tracker's sender from ``output.arguments()``."""
    entry = MEDIA if name == "media" else formats()[name]
    built: Sender = load(entry.sender or entry.output)(**arguments)
    return built


def load(path: str) -> Any:
    """The object at ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
