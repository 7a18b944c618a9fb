"""NeMo-RL's functions beside its loggers."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from rl_logging.run_folders import next_run_folder
from rl_logging.samples import choose, to_samples
from rl_logging.samples_view import print_samples

_log = logging.getLogger("rl_logging")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_rich_logging_configured = False


def flatten_dict(d: Mapping[str, Any], sep: str = ".") -> dict[str, Any]:
    """Nested values by their joined keys; of a list, each item by its number.

    :param sep: what stands between two keys
    """
    flat: dict[str, Any] = {}
    for key, value in d.items():
        flat.update(_flattened(str(key), value, sep))
    return flat


def _flattened(key: str, value: Any, sep: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        parts: Mapping[Any, Any] = value
    elif isinstance(value, list):
        parts = dict(enumerate(value))
    else:
        return {key: value}
    return {f"{key}{sep}{inner}": leaf for inner, leaf in flatten_dict(parts, sep).items()}


def configure_rich_logging(level: str = "INFO", show_time: bool = True, show_path: bool = True) -> None:
    """Show Python's log messages by rich, from now on; a second call does nothing.

    :param level: the least that is shown
    :raises ValueError: an unknown level
    """
    global _rich_logging_configured
    if level.upper() not in _LEVELS:
        raise ValueError(f"level is one of {', '.join(_LEVELS)}, not {level!r}")
    if _rich_logging_configured:
        return
    from rich.logging import RichHandler

    # Without markup: a message may hold what a model said.
    handler = RichHandler(rich_tracebacks=True, show_time=show_time, show_path=show_path, markup=False)
    logging.basicConfig(level=level.upper(), format="%(message)s", datefmt="[%X]", handlers=[handler])
    _rich_logging_configured = True


def print_message_log_samples(
    message_logs: Sequence[Any], rewards: Sequence[float], num_samples: int = 5, step: int = 0
) -> None:
    """Show some conversations on the console: the best, the worst, and one between.

    :param message_logs: conversations, each a list of messages with ``role`` and ``content``
    :param rewards: one for each
    """
    try:
        samples = to_samples(message_logs, rewards)
    except ValueError as error:
        _log.error("no samples are shown: %s", error)
        return
    if num_samples > 0:
        print_samples(choose(samples, num_samples), [sample.reward for sample in samples], step)


def get_next_experiment_dir(base_log_dir: str) -> str:
    """Make the next folder ``exp_001``, ``exp_002``, …; no two processes get the same.

    :raises OSError: it cannot be made
    """
    return str(next_run_folder(base_log_dir, "exp"))
