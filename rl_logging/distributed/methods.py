"""The methods that make one value of many, for the logger and for those who log from elsewhere."""

import numbers
from collections.abc import Callable
from typing import Any

from rl_logging.distributed.buffer import Buffer
from rl_logging.distributed.timers import Timer, Timers
from rl_logging.errors import Trouble

Exclude = str | tuple[str, ...] | None


class RecordMethods:
    """``record_*``: methods for values that come several times between two dumps.

    ``exclude`` is that of :meth:`record`. A value that cannot be reduced, such as a text, is
    kept beside the others, under the key and the value's type: ``loss (str)``.
    """

    _buffer: Buffer
    _timers: Timers
    _trouble: Trouble

    def _reduce(self, add: Callable[..., None], key: Any, value: Any, exclude: Any, *arguments: Any) -> None:
        """Have the buffer take a value."""
        raise NotImplementedError

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
        size = int(window) if isinstance(window, numbers.Integral) and window > 0 else 100
        if size != window:
            self._trouble.tell(
                "window", f"record_window: window={window!r} is no number of values; taken as 100"
            )
        self._reduce(self._buffer.window, key, value, exclude, size)

    def record_ema(self, key: str, value: Any, exclude: Exclude = None, *, coefficient: float = 0.01) -> None:
        """Record the exponentially weighted mean of all values.

        The last value has the weight ``coefficient``, the one before it ``coefficient`` times
        ``1 - coefficient``, and so on; the sum is divided by that of the weights, so that the first
        value counts in full (as in Adam's bias correction, Kingma and Ba, 2015).

        :param coefficient: above 0, at most 1
        """
        share = float(coefficient) if isinstance(coefficient, numbers.Real) and 0 < coefficient <= 1 else 0.01
        if share != coefficient:
            told = f"record_ema: coefficient={coefficient!r} is not above 0 and at most 1; taken as 0.01"
            self._trouble.tell("coefficient", told)
        self._reduce(self._buffer.ema, key, value, exclude, share)

    def record_rate(self, key: str, amount: Any = 1, exclude: Exclude = None) -> None:
        """Record how much there was a second, since the last dump.

        :param amount: how much now, such as a number of environment steps
        """
        self._reduce(self._buffer.rate, key, amount, exclude)

    def timer(self, name: str, *, cuda: bool = False) -> Timer:
        """Measure a block of code, or each call of a function. ::

            with logger.timer("rollout"):  # time/rollout
                with logger.timer("env"):  # time/rollout/env
                    ...

            @logger.timer("update")
            def update(batch): ...

        The next dump has, under the key, the seconds in all (across ranks, of the slowest), and
        ``_mean`` and ``_count`` of all uses of all ranks. A block may end by an exception, and may
        be asynchronous. One that is still open counts when it ends.

        :param name: its key begins with ``time/`` and the names of the blocks around it
        :param cuda: measure what the current CUDA stream does instead of the host; nothing waits
            for it, and a time may come one dump late
        """
        return self._timers.timer(name, cuda)

    def time_report(self) -> str:
        """Where this process's time went since the logger was made: each timer's share, as a table."""
        return self._timers.report()

    def _states(self) -> dict[tuple[str, str], Any]:
        """What was reduced and timed since the last call."""
        for key, timed in self._timers.take().items():
            self._buffer.time(key, *timed)
        return self._buffer.take()
