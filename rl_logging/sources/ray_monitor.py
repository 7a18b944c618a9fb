"""RayGpuMonitor: NeMo-RL's way to log GPUs, on a clock and an axis of their own."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from rl_logging.errors import Trouble
from rl_logging.journal import last_record
from rl_logging.sources.ray_gpu import RayGpuSource
from rl_logging.sources.sampled import Source, check_callable, check_seconds, close
from rl_logging.values import describe

_STOP_S = 5.0  # for a sample that is under way when the monitor stops


class _Logger(Protocol):
    def get_dir(self) -> str | None: ...

    def call_before_close(self, callback: Callable[[], object]) -> None: ...

    def log_metrics(
        self,
        metrics: dict[str, Any],
        step: int,
        prefix: str = "",
        step_metric: str | None = None,
        *,
        exclude: str | tuple[str, ...] | None = None,
    ) -> None: ...


class RayGpuMonitor:
    """Sample a Ray cluster on a clock of its own, and log each sample against that clock.

    The axis counts seconds since the run's first monitor was started; a resumed run goes on
    where it ended. ::

        with RayGpuMonitor(logger):
            train()

    It also stops when the logger is closed.

    :param logger: a logger of this package
    :param collection_interval: seconds between two samples
    :param flush_interval: seconds between two times when samples are logged
    :param metric_prefix: stands before each name, and a slash between
    :param step_metric: the name of the axis
    :param source: what is sampled; by default a :class:`RayGpuSource` without a prefix, whose
        nodes have NeMo-RL's positional names
    :param exclude: outputs that shall not get the samples; by default the console
    :raises MissingBackendError: Ray or prometheus-client is not installed
    :raises TypeError: what is no logger of this package, or no source
    :raises ValueError: an interval that is not above 0
    """

    def __init__(
        self,
        logger: _Logger,
        collection_interval: float = 10.0,
        flush_interval: float = 10.0,
        metric_prefix: str = "ray",
        step_metric: str = "ray/ray_step",
        source: Source | None = None,
        exclude: str | tuple[str, ...] | None = "stdout",
    ) -> None:
        if not hasattr(logger, "call_before_close"):
            raise TypeError(f"logger is a logger of this package, not {logger!r}")
        if source is not None:
            check_callable(source)
        self._logger, self._exclude = logger, exclude
        self._collection_s = check_seconds("collection_interval", collection_interval)
        self._flush_s = check_seconds("flush_interval", flush_interval)
        self._prefix, self._axis = metric_prefix, step_metric
        self._source = source or RayGpuSource("", "place", "gpu", every_s=self._collection_s)
        self._trouble = Trouble()
        self._lock = threading.Lock()
        self._samples: list[dict[str, Any]] = []  # that are not logged yet, each with its place on the axis
        self._texts: dict[str, str] = {}  # of the last sample
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to sample; while it does, a second call does nothing."""
        if self._thread is not None:
            return
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._stopping, self._last_s()), name="RayGpuMonitor", daemon=True
        )
        self._thread.start()
        self._logger.call_before_close(self._end)

    def __enter__(self) -> "RayGpuMonitor":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Sample no more, and log what was sampled; it takes five seconds at most."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping.set()
        thread.join(_STOP_S)
        if thread.is_alive():
            self._trouble.tell("stop", "RayGpuMonitor: the last sample was under way and is not logged")
        self.flush()

    def _end(self) -> None:
        """As :meth:`stop`, but without waiting for a sample that is under way."""
        self._stopping.set()
        self._thread = None
        self.flush()

    def waiting(self) -> list[tuple[int, dict[str, Any]]]:
        """The samples that are not logged yet: their places on the axis, their values."""
        with self._lock:
            return [
                (sample[self._axis], {key: value for key, value in sample.items() if key != self._axis})
                for sample in self._samples
            ]

    def flush(self) -> None:
        """Log what was sampled until now. Each sample is handed over once, whatever becomes of it."""
        with self._lock:
            samples, self._samples = self._samples, []
        for sample in samples:
            step = sample[self._axis]
            self._logger.log_metrics(sample, step, self._prefix, self._axis, exclude=self._exclude)

    def _run(self, stopping: threading.Event, earlier_s: float) -> None:
        began = time.monotonic()
        next_sample = next_flush = began
        while True:
            self._sample(stopping, began, earlier_s)
            now = time.monotonic()
            if now >= next_flush:
                self.flush()
                next_flush = now + self._flush_s
            next_sample = max(next_sample + self._collection_s, now)
            if stopping.wait(next_sample - now):
                break
        close(self._source, self._trouble)

    def _sample(self, stopping: threading.Event, began: float, earlier_s: float) -> None:
        try:
            values = dict(self._source())
        except (Exception, SystemExit) as error:  # the source is the user's code, or asks the network
            told = f"RayGpuMonitor: no sample, because: {describe(error)}. It goes on"
            self._trouble.tell("sample", told, error)
            return
        if values and not stopping.is_set():
            texts = {key: value for key, value in values.items() if isinstance(value, str)}
            for key in texts.keys() & self._texts.keys():
                if texts[key] == self._texts[key]:  # such as a GPU's type: said once
                    del values[key]
            self._texts = texts
            with self._lock:
                values[self._axis] = int(earlier_s + time.monotonic() - began)
                self._samples.append(values)

    def _last_s(self) -> float:
        """Where the axis ended in this run, in seconds."""
        folder = self._logger.get_dir()
        journal = Path(folder or "", "journal.jsonl")
        record = last_record(journal, self._axis) if folder and journal.exists() else None
        return 0.0 if record is None else record.step
