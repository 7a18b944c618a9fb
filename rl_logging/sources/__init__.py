"""The sources, by name."""

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rl_logging.sources.sampled import Source

SOURCES = {
    "ray_gpu": "rl_logging.sources.ray_gpu:RayGpuSource",
    "nvml": "rl_logging.sources.nvml:NvmlSource",
    "system": "rl_logging.sources.system:SystemSource",
    "prometheus": "rl_logging.sources.prometheus:PrometheusSource",
}


def make_source(_name: str, /, **arguments: Any) -> "Source":
    """Build a source that is given by name.

    :param arguments: for its constructor
    :raises ValueError: the name is unknown, or an argument not allowed
    :raises TypeError: an argument that its constructor does not have, or lacks
    :raises MissingBackendError: its package is not installed
    """
    check_source(_name)
    module, _, class_ = SOURCES[_name].partition(":")
    source = getattr(importlib.import_module(module), class_)
    try:
        inspect.signature(source).bind(**arguments)
    except TypeError as error:
        parameters = ", ".join(inspect.signature(source).parameters)
        raise TypeError(f"source {_name!r}: {error}; its arguments are {parameters}") from None
    built: Source = source(**arguments)
    return built


def check_source(name: Any) -> None:
    """Raise for a name that is no source.

    :raises ValueError: it is none
    """
    if not isinstance(name, str) or name not in SOURCES:
        near = difflib.get_close_matches(str(name), SOURCES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown source {name!r}; {hint}allowed are {', '.join(SOURCES)}, or a callable")


def make_sources(
    given: "Iterable[str | Source]", arguments: Mapping[str, Mapping[str, Any]]
) -> "list[Source]":
    """Build the sources that are given by name, among others that are ready.

    :param arguments: for constructors, by name
    :raises TypeError: see :func:`make_source`
    :raises ValueError: an unknown name, one given twice, or arguments for one not given
    :raises MissingBackendError: a package is not installed
    """
    from rl_logging.sources.sampled import check_callable  # it loads numpy, which not all modules here need

    found, names = [], []
    for each in given:
        if callable(each):
            check_callable(each)
            found.append(each)
        else:
            check_source(each)
            if each in names:
                raise ValueError(f"source {each!r} is given twice")
            names.append(each)
            found.append(make_source(each, **arguments.get(each, {})))
    return found
