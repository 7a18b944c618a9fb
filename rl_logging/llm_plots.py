"""Figures for the reinforcement learning of language models.

A figure is matplotlib's, which ``logger.log_figure`` takes; there is none where there is nothing
to draw, and a warning says why. Arrays of numpy, tensors of torch on any device, and lists will
do. What the figures show is in :mod:`rl_logging.llm_stats` as numbers.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_logging.formats import check_installed
from rl_logging.histograms import bins_of, stats_of
from rl_logging.llm_stats import Timelines, numbers_of, reward_levels, timelines, worst_sample
from rl_logging.texttable import keep_both_ends, visible
from rl_logging.values import to_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEGEND = 12  # workers; more are light lines without one
_MARKED_POINTS = 60  # a curve of more is a plain line
_COLOURS = 10  # that matplotlib's lines take turns with
_NAME_CELLS, _LABEL_CELLS, _WORKER_CELLS = 50, 30, 24
_LEGEND_CELLS = 105  # which a line of the legend has room for
_LABELS = 50  # characters below the bars that need no turning
_log = logging.getLogger("rl_logging")


def token_error_figure(data: Mapping[str, Any]) -> "Figure | None":
    """Draw the log-probabilities of the worst sample's generated tokens, and how far they are apart.

    The worst sample is that with the largest multiplicative error: the mean of
    ``exp(|generation - prev|)`` over its mask. Where its log-probabilities are furthest apart,
    and where its probabilities are in parts of the generating engine's, it is marked.

    :param data: ``token_mask``, ``generation_logprobs`` (of the engine that generated) and
        ``prev_logprobs`` (of the policy), batch x length; ``sample_mask``, and ``prompt_lengths`` and
        ``full_lengths`` in tokens, batch
    :return: None where there is nothing to draw; a warning says why
    :raises TypeError: the data are no mapping
    :raises ValueError: one of them is missing, or their shapes do not fit
    :raises MissingBackendError: matplotlib is not installed
    """
    worst = worst_sample(data)
    if worst is None:
        return None
    broken = int(np.count_nonzero(~np.isfinite(worst.difference)))
    told = f" ({broken} of {_counted(len(worst.positions), 'token')} not finite)" if broken else ""
    title = f"Sample {worst.sample}: multiplicative probability error {worst.error:.4g}{told}"
    figure, (upper, lower) = _figure(title, ["log-probability", "difference"], heights=[2, 1])
    x, look = worst.positions, _look(len(worst.positions))
    upper.plot(x, worst.generation, label="generation", color="C0", **look)
    upper.plot(x, worst.previous, label="policy", color="C1", linestyle="--", **look)
    lower.plot(x, worst.difference, label="difference", color="C3", **look)
    _mark(lower, x, worst.difference, worst.difference, "v", "largest difference")
    _mark(upper, x, worst.relative, worst.generation, "s", "largest relative error")
    lower.set_xlabel("token, counted from the beginning of the prompt")
    margin = max(1, 0.02 * len(x))
    lower.set_xlim(x[0] - margin, x[-1] + margin)
    _whole_numbers(lower.xaxis)
    _legend(figure)
    return figure


def worker_timeline_figures(
    metrics: Mapping[Any, Sequence[float]], name: str, interval_s: float
) -> "tuple[Figure, Figure] | None":
    """Draw a metric of several workers over time: each worker, and their average.

    :param metrics: each worker's values, one every ``interval_s``, of any length
    :param name: what the metric is called
    :param interval_s: seconds from one value to the next
    :return: None where no worker has a value; a warning says so
    :raises TypeError: the metrics are no mapping
    :raises ValueError: ``interval_s`` is not above 0, or a worker's values are no list of numbers
    :raises MissingBackendError: matplotlib is not installed
    """
    if not 0 < interval_s < math.inf:
        raise ValueError(f"the interval of a timeline is a number of seconds above 0, not {interval_s!r}")
    lines, name = timelines(metrics), _shown(name, _NAME_CELLS)
    if not np.isfinite(lines.average).any():
        _log.warning("no timeline of %s to draw: none of %d workers has a value", name, len(lines.workers))
        return None
    return _each_worker(lines, name, interval_s), _average(lines, name, interval_s)


def reward_figure(rewards: Any, step: int) -> "Figure | None":
    """Draw how often each reward was given in a step: a bar for each, or a histogram where they are many.

    :param rewards: of all samples, of any shape
    :param step: the training step, for the title
    :return: None where no reward is a finite number; a warning says so
    :raises ValueError: they are no numbers
    :raises MissingBackendError: matplotlib is not installed
    """
    values = numbers_of(rewards, "rewards")
    stats = stats_of(values)
    if stats["count"] == stats["not_finite"]:
        _log.warning("no rewards of step %s to draw: %d samples, none has a number", step, values.size)
        return None
    told = f" ({stats['not_finite']:g} not finite)" if stats["not_finite"] else ""
    title = f"Rewards of step {step}: mean {stats['mean']:.4g} of {_counted(values.size, 'sample')}{told}"
    figure, (axes,) = _figure(title, ["samples"])
    axes.set_xlabel("reward")
    levels = reward_levels(values)
    if levels is None:
        counts, edges = bins_of(values)
        axes.stairs(counts, edges, fill=True)
        axes.axvline(stats["mean"], color="C1", linestyle="--", label=f"mean {stats['mean']:.4g}")
        _legend(figure)
    else:
        _bars(axes, levels)
    _whole_numbers(axes.yaxis)
    return figure


def _each_worker(lines: Timelines, name: str, interval_s: float) -> "Figure":
    figure, (axes,) = _figure(f"{name}: {_counted(len(lines.workers), 'worker')}", [name])
    many = len(lines.workers) > _LEGEND
    names = _told_apart([visible(to_text(worker)) for worker in lines.workers])
    for number, (name_, values) in enumerate(zip(names, lines.workers.values(), strict=True)):
        look = {"color": "C0", "linewidth": 0.8, "alpha": 0.3} if many else _look(len(values))
        if number >= _COLOURS and not many:
            look["linestyle"] = "--"
        axes.plot(_times(values, interval_s), values, label=f"worker {name_}", **look)
    axes.set_xlabel("time (s)")
    if not many:
        _legend(figure)
    return figure


def _average(lines: Timelines, name: str, interval_s: float) -> "Figure":
    figure, (axes,) = _figure(f"{name}: average of {_counted(len(lines.workers), 'worker')}", [name])
    times = _times(lines.average, interval_s)
    axes.plot(times, lines.average, label="average", **_look(len(times)))
    axes.set_xlabel("time (s)")
    if len(lines.workers) > 1:
        axes.fill_between(
            times, lines.lowest, lines.highest, alpha=0.2, linewidth=0, label="lowest to highest"
        )
        _legend(figure)
    return figure


def _bars(axes: Any, levels: Mapping[str, int]) -> None:
    """A bar for each level, beside each other: to scale, some would be too thin to be seen."""
    axes.bar_label(axes.bar(range(len(levels)), list(levels.values()), width=0.6))
    axes.set_xticks(range(len(levels)), list(levels), rotation=30 if sum(map(len, levels)) > _LABELS else 0)
    middle, half = (len(levels) - 1) / 2, max(len(levels), 4) / 2
    axes.set_xlim(middle - half, middle + half)


def _figure(title: str, y: Sequence[str], heights: Sequence[float] = (1,)) -> "tuple[Figure, list[Any]]":
    """A figure of its own, which pyplot does not know and need not close, and its axes, one below the other.

    :param y: what each axis shows
    :param heights: of the axes, in proportion
    """
    check_installed("plot", "matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    grid: Any = figure.subplots(len(y), sharex=True, squeeze=False, height_ratios=heights)
    axes = list(grid[:, 0])
    axes[0].set_title(title, parse_math=False, fontsize="medium")  # a name may hold "$", and is no formula
    for each, label in zip(axes, y, strict=True):
        each.set_ylabel(keep_both_ends(label, _LABEL_CELLS), parse_math=False)
        each.grid(alpha=0.3)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(figure: "Figure") -> None:
    """Below the axes: among many curves there is no place that is free."""
    labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    columns = max(1, min(3, _LEGEND_CELLS // (max(map(len, labels)) + 6)))
    legend: Any = figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize="small")
    for text in legend.get_texts():
        text.set_parse_math(False)


def _mark(axes: Any, x: np.ndarray, sizes: np.ndarray, y: np.ndarray, marker: str, label: str) -> None:
    """Mark the token with the largest finite size, if there is one."""
    finite = np.flatnonzero(np.isfinite(sizes))
    if finite.size:
        at = finite[np.argmax(sizes[finite])]
        told = f"{label}: {sizes[at]:.4g} at token {x[at]}"
        axes.plot(x[[at]], y[[at]], marker, color="black", fillstyle="none", clip_on=False, label=told)


def _look(points: int) -> dict[str, Any]:
    return {"marker": "o" if points <= _MARKED_POINTS else None, "markersize": 3, "linewidth": 1.2}


def _times(values: np.ndarray, interval_s: float) -> np.ndarray:
    return np.arange(len(values)) * interval_s


def _whole_numbers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _told_apart(names: list[str]) -> list[str]:
    """Names, where they are long without what all of them begin and end with."""
    if max(map(len, names), default=0) > _WORKER_CELLS and len(names) > 1:
        start = _alike(names)
        names = [f"…{name[start:]}" if start else name for name in names]
        end = _alike([name[:0:-1] for name in names])
        names = [f"{name[:-end]}…" if end else name for name in names]
    return [keep_both_ends(name, _WORKER_CELLS) for name in names]


def _alike(names: list[str]) -> int:
    """How many letters all names begin with."""
    return sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False)))


def _shown(name: Any, cells: int) -> str:
    return keep_both_ends(visible(to_text(name)), cells)
