"""What the figures for the reinforcement learning of language models show, as numbers.

Arrays of numpy, tensors of torch on any device, and nested lists will do.
"""

import logging
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from rl_logging.values import is_array, to_float, to_numpy, to_text

TOKEN_KEYS = ("token_mask", "generation_logprobs", "prev_logprobs")  # batch x length
SAMPLE_KEYS = ("sample_mask", "prompt_lengths", "full_lengths")  # batch
_LEVELS = 12  # rewards of more different sizes are a histogram
_log = logging.getLogger("rl_logging")


class WorstSample(NamedTuple):
    """The sample of a batch whose tokens' probabilities are furthest apart, and its generated tokens.

    :param sample: its index in the batch
    :param error: its multiplicative error: the mean of ``exp(|generation - prev|)`` over its mask
    :param positions: of the tokens, from the beginning of the prompt on
    :param generation: log-probabilities, by the engine that generated
    :param previous: log-probabilities, by the policy
    :param difference: how far they are apart, ``|generation - prev|``
    :param relative: how far the probabilities are apart, in parts of the generating engine's
    """

    sample: int
    error: float
    positions: np.ndarray
    generation: np.ndarray
    previous: np.ndarray
    difference: np.ndarray
    relative: np.ndarray


def worst_sample(data: Mapping[str, Any]) -> WorstSample | None:
    """Find the sample with the largest multiplicative error of its tokens' probabilities.

    The log-probability at a position is that of its token, so the first one, which nothing precedes,
    does not count; nor does a sample whose mask is empty. One with a NaN under its mask is the worst.

    :param data: ``token_mask``, ``generation_logprobs`` and ``prev_logprobs``, batch x length;
        ``sample_mask``, ``prompt_lengths`` and ``full_lengths`` in tokens, batch
    :return: None where no token counts, or the worst sample has generated none; a warning says so
    :raises TypeError: the data are no mapping
    :raises ValueError: one of them is missing, or their shapes do not fit
    """
    known = _checked(data)
    mask = known["token_mask"][:, 1:] * known["sample_mask"][:, None]
    generation, previous = known["generation_logprobs"][:, 1:], known["prev_logprobs"][:, 1:]
    counted = np.flatnonzero(mask.sum(axis=1) > 0)
    if not counted.size:
        _log.warning("no error of tokens to draw: the masks of all %d samples are empty", len(mask))
        return None
    errors = [_multiplicative_error(generation[i], previous[i], mask[i]) for i in counted]
    at = int(np.argmax(errors))  # the first NaN, where there is one
    sample = int(counted[at])
    start = _clipped(known["prompt_lengths"][sample] - 1, 0, mask.shape[1])
    end = _clipped(known["full_lengths"][sample] - 1, start, mask.shape[1])
    if start == end:
        _log.warning("no error of tokens to draw: sample %d, the worst, has no generated token", sample)
        return None
    ours, theirs = generation[sample, start:end], previous[sample, start:end]
    with np.errstate(over="ignore", invalid="ignore"):
        difference, relative = np.abs(ours - theirs), np.abs(np.expm1(theirs - ours))
    positions = np.arange(start, end) + 1
    return WorstSample(sample, errors[at], positions, ours, theirs, difference, relative)


class Timelines(NamedTuple):
    """A metric of several workers over time; NaN where there is no value.

    :param workers: each worker's values, the workers in order
    :param average: at each time, of the workers that have a value then; as many as the longest has
    :param lowest: of the same workers
    :param highest: of the same workers
    """

    workers: dict[Any, np.ndarray]
    average: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray


def timelines(metrics: Mapping[Any, Any]) -> Timelines:
    """Put workers' timelines together, however long each is.

    :param metrics: each worker's values; None and what is not finite is none
    :raises TypeError: they are no mapping
    :raises ValueError: a worker's values are no list of numbers
    """
    series = _series(metrics)
    table = np.full((len(series), max(map(len, series.values()), default=0)), np.nan)
    for row, values in zip(table, series.values(), strict=True):
        row[: len(values)] = values
    there = np.isfinite(table)
    counts, some = there.sum(axis=0), there.any(axis=0)
    sums = np.where(there, table, 0.0).sum(axis=0)
    average = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=some)
    lowest = np.where(there, table, np.inf).min(axis=0, initial=np.inf)
    highest = np.where(there, table, -np.inf).max(axis=0, initial=-np.inf)
    return Timelines(series, average, np.where(some, lowest, np.nan), np.where(some, highest, np.nan))


def reward_levels(rewards: Any) -> dict[str, int] | None:
    """How many samples have each reward, as a text of six digits, the least first.

    :param rewards: of any shape; what is not finite does not count
    :return: None where there are more than 12 different ones
    """
    values = numbers_of(rewards, "rewards")
    sizes, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    levels: dict[str, int] = {}
    for size, count in zip(sizes, counts, strict=True):
        text = f"{size + 0.0:.6g}"  # -0.0 is 0
        levels[text] = levels.get(text, 0) + int(count)
        if len(levels) > _LEVELS:
            return None
    return levels


def _checked(data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What :func:`worst_sample` needs, as arrays that fit together."""
    if not isinstance(data, Mapping):
        raise TypeError(f"the data are a mapping of arrays by name, not {type(data).__name__}")
    needed = (*TOKEN_KEYS, *SAMPLE_KEYS)
    if missing := [key for key in needed if key not in data]:
        raise ValueError(f"the data have no {', '.join(missing)}; needed are {', '.join(needed)}")
    known = {key: numbers_of(data[key], key) for key in needed}
    for key in TOKEN_KEYS:
        if not known[key].size:  # an empty list has one dimension, whatever it is a list of
            known[key] = known[key].reshape(len(known[key]), 0)
    shape = known[TOKEN_KEYS[0]].shape
    fits = len(shape) == 2 and all(known[key].shape == shape for key in TOKEN_KEYS)
    if not fits or any(known[key].shape != shape[:1] for key in SAMPLE_KEYS):
        told = ", ".join(f"{key} {known[key].shape}" for key in needed)
        raise ValueError(
            f"{', '.join(TOKEN_KEYS)} are batch x length, {', '.join(SAMPLE_KEYS)} batch; given are {told}"
        )
    return known


def numbers_of(value: Any, name: str) -> np.ndarray:
    """An array, tensor, number or nested list as an array of doubles.

    :raises ValueError: it holds something else, or rows of different lengths
    """
    try:
        array = np.asarray(_without_tensors(value), np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: an array of numbers is needed, not {to_text(value)[:80]}") from error
    return array


def _without_tensors(value: Any) -> Any:
    if is_array(value):
        return to_numpy(value)
    return [_without_tensors(item) for item in value] if isinstance(value, (list, tuple)) else value


def _multiplicative_error(generation: np.ndarray, previous: np.ndarray, mask: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        errors = np.exp(np.abs(generation - previous))
        return float(np.sum(errors[mask > 0] * mask[mask > 0]) / np.sum(mask))


def _clipped(index: float, low: int, high: int) -> int:
    return int(np.clip(np.nan_to_num(index), low, high))


def _series(metrics: Mapping[Any, Any]) -> dict[Any, np.ndarray]:
    """Each worker's values, the workers in order, whatever they are called."""
    if not isinstance(metrics, Mapping):
        raise TypeError(f"timelines are a mapping of values by worker, not {type(metrics).__name__}")
    series = {worker: numbers_of(metrics[worker], f"worker {to_text(worker)}") for worker in metrics}
    for worker, values in series.items():
        if values.ndim != 1:
            raise ValueError(f"worker {to_text(worker)}: a list of numbers is needed, not {values.shape}")
    return dict(sorted(series.items(), key=lambda item: _order(item[0])))


def _order(worker: Any) -> tuple[bool, float, str]:
    size = to_float(worker) if isinstance(worker, Real) else math.inf  # type: ignore[arg-type]
    is_number = math.isfinite(size)
    return not is_number, size if is_number else 0.0, to_text(worker)
