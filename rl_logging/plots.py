"""Pictures of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_logging.formats import check_installed
from rl_logging.formats.base import History

_MARKED_POINTS = 50  # a curve of more is a plain line


def learning_curve(
    history: History, path: str | Path, labels: Mapping[str, str], title: str, unit: str = "return"
) -> Path:
    """Draw curves over the training step into a picture.

    :param history: points by key, as an output's ``history()`` gives them
    :param path: the picture, whose ending says its format
    :param labels: the keys to draw, and how to call them; one that is not there is left out
    :param title: what stands above
    :param unit: what stands beside the values
    :raises MissingBackendError: matplotlib is not installed
    """
    check_installed("plot", "matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes: Any = figure.add_subplot()
    for key, label in labels.items():
        if points := history.get(key):
            steps, values = zip(*points, strict=True)
            marker = "o" if len(points) <= _MARKED_POINTS else None
            axes.plot(steps, values, label=label, marker=marker, markersize=4)
    axes.set(title=title, xlabel="step", ylabel=unit)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False)
    figure.savefig(path)
    return Path(path)
