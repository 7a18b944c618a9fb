"""NeMo-RL's monitor of a Ray cluster's GPUs, over :class:`rl_logging.RayGpuMonitor`."""

from collections.abc import Callable
from typing import Any, TypedDict

from rl_logging.compat.nemo_backends import LoggerInterface
from rl_logging.sources.ray_monitor import RayGpuMonitor


class GpuMetricSnapshot(TypedDict):
    """What was measured at once.

    :param step: seconds since the monitor was started
    :param metrics: values by name, such as ``node.0.gpu.0.util``
    """

    step: int
    metrics: dict[str, Any]


class RayGpuMonitorLogger:
    """Sample a Ray cluster on a clock of its own; names and units as in the wiki, page Sources.

    As long as Ray is not started, there are no samples.

    :param collection_interval: seconds between two samples
    :param flush_interval: seconds between two times when samples are logged
    :param metric_prefix: stands before each name, and a slash between
    :param step_metric: the name of the axis, in seconds
    :param parent_logger: what samples are logged to; without one they are dropped
    :raises MissingBackendError: Ray or prometheus-client is not installed
    :raises ValueError: an interval that is not above 0
    """

    def __init__(
        self,
        collection_interval: int | float,
        flush_interval: int | float,
        metric_prefix: str,
        step_metric: str,
        parent_logger: LoggerInterface | None = None,
    ) -> None:
        self.collection_interval, self.flush_interval = collection_interval, flush_interval
        self.metric_prefix, self.step_metric = metric_prefix, step_metric
        self.parent_logger = parent_logger
        self._monitor = RayGpuMonitor(
            _Parent(parent_logger), collection_interval, flush_interval, metric_prefix, step_metric
        )

    @property
    def metrics_buffer(self) -> list[GpuMetricSnapshot]:
        """The samples that are not logged yet."""
        return [{"step": step, "metrics": values} for step, values in self._monitor.waiting()]

    def start(self) -> None:
        """Begin to sample; while it does, a second call does nothing."""
        self._monitor.start()

    def stop(self) -> None:
        """Sample no more, and log what was sampled; it takes five seconds at most."""
        self._monitor.stop()

    def flush(self) -> None:
        """Log what was sampled until now."""
        self._monitor.flush()


class _Parent:
    """What the monitor logs to: NeMo-RL's interface, which may be somebody's own class, or nothing."""

    def __init__(self, parent: LoggerInterface | None) -> None:
        self._parent = parent
        self._core = getattr(parent, "core", None)

    def get_dir(self) -> str | None:
        folder: str | None = None if self._core is None else self._core.get_dir()
        return folder

    def call_before_close(self, callback: Callable[[], object]) -> None:
        if self._core is not None:
            self._core.call_before_close(callback)

    def log_metrics(
        self, metrics: dict[str, Any], step: int, prefix: str = "", step_metric: str | None = None, **_: Any
    ) -> None:
        if self._parent is not None:
            self._parent.log_metrics(metrics, step, prefix, step_metric)
