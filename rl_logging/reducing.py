"""The part of the logger that makes one value of many."""

from collections.abc import Callable, Iterable
from typing import Any

from stable_baselines3.common import logger as sb3

from rl_logging.distributed.buffer import Buffer
from rl_logging.distributed.parts import part_of, reduced
from rl_logging.record import key_name
from rl_logging.recording import RecordingLogger, Taken

Exclude = str | tuple[str, ...] | None


class ReducingLogger(RecordingLogger):
    """``record_*``: methods for values that come several times between two dumps.

    ``exclude`` is that of :meth:`record`. A value that cannot be reduced, such as a text, is
    kept beside the others, under the key and the value's type: ``loss (str)``.
    """

    def __init__(
        self, folder: str | None, output_formats: list[sb3.KVWriter], secret_names: Iterable[str] = ()
    ) -> None:
        super().__init__(folder, output_formats, secret_names)
        self._buffer = Buffer()

    def record_sum(self, key: str, value: Any, exclude: Exclude = None) -> None:
        """As :meth:`record`, but of several values under one key, the sum."""
        self._reduce(self._buffer.sum, key, value, exclude)

    def record_min(self, key: str, value: Any, exclude: Exclude = None) -> None:
        """As :meth:`record`, but of several values under one key, the least; NaN if one is NaN."""
        self._reduce(self._buffer.min, key, value, exclude)

    def record_max(self, key: str, value: Any, exclude: Exclude = None) -> None:
        """As :meth:`record`, but of several values under one key, the greatest; NaN if one is NaN."""
        self._reduce(self._buffer.max, key, value, exclude)

    def record_stats(self, key: str, values: Any, exclude: Exclude = None) -> None:
        """Record how many numbers are spread.

        The next dump has, under the key and an ending, ``_mean``, ``_std`` (of all of them, as
        numpy's), ``_min``, ``_max``, ``_p50``, ``_p90`` and ``_count``. Percentiles of up to 64
        numbers are numpy's; of more, at most 1 % of their size beside a number of that rank
        (DDSketch, Masson, Rim and Lee, 2019).

        :param values: numbers in an array or tensor of any shape, a list, or one number
        """
        self._reduce(self._buffer.stats, key, values, exclude)

    def record_window(self, key: str, value: Any, exclude: Exclude = None, *, window: int = 100) -> None:
        """Record the mean of the last values, however many dumps they are old.

        :param window: how many values
        """
        size = window if isinstance(window, int) and window > 0 else 100
        if size != window:
            self._trouble.tell(
                "window", f"record_window: window={window!r} is no number of values; taken as 100"
            )
        self._reduce(self._buffer.window, key, value, exclude, size)

    def record_ema(self, key: str, value: Any, exclude: Exclude = None, *, coefficient: float = 0.01) -> None:
        """Record the exponentially weighted mean of all values.

        Each new value has the weight ``coefficient``, those before it share the rest; the first
        value counts in full (as in Adam's bias correction, Kingma and Ba, 2015).

        :param coefficient: above 0, at most 1
        """
        share = coefficient if isinstance(coefficient, (int, float)) and 0 < coefficient <= 1 else 0.01
        if share != coefficient:
            told = f"record_ema: coefficient={coefficient!r} is not above 0 and at most 1; taken as 0.01"
            self._trouble.tell("coefficient", told)
        self._reduce(self._buffer.ema, key, value, exclude, share)

    def record_rate(self, key: str, amount: Any = 1, exclude: Exclude = None) -> None:
        """Record how much there was a second, since the last dump.

        :param amount: how much now, such as a number of environment steps
        """
        self._reduce(self._buffer.rate, key, amount, exclude)

    def _reduce(self, add: Callable[..., None], key: Any, value: Any, exclude: Any, *arguments: Any) -> None:
        name = key if type(key) is str else key_name(key)
        with self._lock:
            try:
                add(name, value, *arguments)
            except Exception as error:  # what has no such reduction; its own code may raise anything
                self._keep_aside(f"{name} ({type(value).__name__})", value, exclude, error)
                return
            self.name_to_excluded[name] = self.to_tuple(exclude)

    def _take(self) -> Taken:
        with self._lock:
            counts = dict(self.name_to_count)
            values, excluded = super()._take()
            states = self._buffer.take()
        if not states:
            return values, excluded
        for key in {key for key, _ in states} & values.keys():  # recorded in another way, too
            value, count = values.pop(key), counts.get(key)
            states[(key, "mean") if count else (key, "last")] = (
                (value * count, count) if count else (0, 0, value)
            )
        limited = {key: excluded[key] for key, _ in states if excluded.get(key, ("",)) != ("",)}
        found = reduced(part_of(0, 0, states, limited))
        for topic, told in found.told.items():
            self._trouble.tell(topic, told)
        for key in found.values.keys() & values.keys():  # such as loss_mean, beside the stats of loss
            found.values[f"{key} (reduced)"] = found.values.pop(key)
            self._trouble.tell(f"twice {key}", f"{key!r} was recorded, too; the other is '{key} (reduced)'")
        return {**values, **found.values}, {**excluded, **found.excluded}

    # For a checkpoint

    def state_dict(self) -> dict[str, Any]:
        """What goes on beyond a dump: windows, weighted means, and the time since the last dump.

        Plain values, for a checkpoint; what waits for the next dump is not among them.
        """
        with self._lock:
            return {"reductions": self._buffer.state_dict(), "step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave.

        :raises ValueError: it is none
        """
        try:
            step, reductions = int(state["step"]), dict(state["reductions"])
            with self._lock:
                self._buffer.load_state_dict(reductions)
                self._step = step
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no state of a logger: {error!r}") from error
