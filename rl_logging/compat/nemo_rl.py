"""NVIDIA NeMo-RL's ``nemo_rl.utils.logger`` over this package: change the import, and no more. ::

    from rl_logging.compat.nemo_rl import Logger

    logger = Logger({"mlflow_enabled": True, "mlflow": {"experiment_name": "grpo"}})
    logger.log_metrics({"loss": 0.123}, step=10, prefix="train")

Where it differs, the wiki says so, page From-NeMo-RL.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_logging.compat.nemo_backends import (
    Backend,
    ClearMLLogger,
    LoggerInterface,
    MLflowLogger,
    SwanlabLogger,
    TensorboardLogger,
    WandbLogger,
    make_core,
)
from rl_logging.compat.nemo_config import (
    ClearMLConfig,
    GPUMonitoringConfig,
    LoggerConfig,
    MLflowConfig,
    SwanlabConfig,
    TensorboardConfig,
    WandbConfig,
    enabled,
    output_arguments,
    read_config,
)
from rl_logging.compat.nemo_functions import (
    configure_rich_logging,
    flatten_dict,
    get_next_experiment_dir,
    print_message_log_samples,
)
from rl_logging.compat.nemo_gpu import GpuMetricSnapshot, RayGpuMonitorLogger
from rl_logging.errors import Trouble
from rl_logging.formats import check_installed, make_output
from rl_logging.llm_plots import token_error_figure, worker_timeline_figures
from rl_logging.values import describe

__all__ = [
    "ClearMLConfig",
    "ClearMLLogger",
    "GPUMonitoringConfig",
    "GpuMetricSnapshot",
    "Logger",
    "LoggerConfig",
    "LoggerInterface",
    "MLflowConfig",
    "MLflowLogger",
    "RayGpuMonitorLogger",
    "SwanlabConfig",
    "SwanlabLogger",
    "TensorboardConfig",
    "TensorboardLogger",
    "WandbConfig",
    "WandbLogger",
    "configure_rich_logging",
    "flatten_dict",
    "get_next_experiment_dir",
    "print_message_log_samples",
]


class Logger(Backend):
    """One logger for all trackers that a configuration enables.

    None of its ``log_*`` raises, but for a file's name that leads elsewhere.

    ``loggers`` takes loggers of your own, which get all that this one does; an error of theirs
    is said and stops nothing. ``core`` is this package's logger, with all else that it can.

    :param cfg: see :class:`LoggerConfig`; also one of OmegaConf, or the path of a YAML file.
        Without a ``log_dir``, the next numbered folder in ``logs``
    :raises ValueError: an unknown key, a section that is missing, or a value that is not allowed
    :raises TypeError: a value of another type, or an argument that a tracker does not have
    :raises MissingBackendError: the package of a tracker that is enabled, or Ray's, is not installed
    :raises OSError: the folder cannot be written
    """

    def __init__(self, cfg: LoggerConfig | Mapping[str, Any] | str | Path) -> None:
        config = read_config(cfg)
        names = enabled(config)
        for name in names:  # which makes no folder: what is refused leaves none
            make_output(name, "logs", **output_arguments(name, config[name], Path("logs")))
        for package in ("ray", "prometheus_client") if config.get("monitor_gpus") else ():
            check_installed("ray", package)
        self.base_log_dir = str(config.get("log_dir") or get_next_experiment_dir("logs"))
        self.num_val_samples_to_print: int = config["num_val_samples_to_print"]
        self.loggers: list[LoggerInterface] = []
        self.gpu_monitor: RayGpuMonitorLogger | None = None
        self._trouble = Trouble()
        folder = Path(self.base_log_dir)
        arguments = {name: output_arguments(name, config[name], folder, name) for name in names}
        super().__init__(make_core(names, folder, arguments))
        if config.get("monitor_gpus"):
            self.gpu_monitor = RayGpuMonitorLogger(
                **config["gpu_monitoring"],
                metric_prefix="ray",
                step_metric="ray/ray_step",
                parent_logger=self,
            )
            self.gpu_monitor.start()

    def log_metrics(
        self,
        metrics: dict[str, Any],
        step: int,
        prefix: str | None = "",
        step_metric: str | None = None,
        step_finished: bool = False,
    ) -> None:
        super().log_metrics(metrics, step, prefix, step_metric)
        axis = {} if step_metric is None else {"step_metric": step_metric}  # which not every logger knows
        self._others(lambda other: other.log_metrics(metrics, step, prefix, **axis))

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        super().log_hyperparams(params)
        self._others(lambda other: other.log_hyperparams(params))

    def log_histogram(self, histogram: Sequence[Any], step: int, name: str) -> None:
        super().log_histogram(histogram, step, name)
        self._others(lambda other: other.log_histogram(histogram, step, name))

    def log_plot(self, figure: Any, step: int, name: str) -> None:
        super().log_plot(figure, step, name)
        self._others(lambda other: other.log_plot(figure, step, name))

    def log_plot_token_mult_prob_error(self, data: Mapping[str, Any], step: int, name: str) -> None:
        """Draw the log-probabilities of the sample whose tokens' probabilities differ most.

        :param data: see :func:`rl_logging.llm_plots.token_error_figure`
        """
        figure = self._drawn(name, lambda: token_error_figure(data))
        if figure is not None:
            self.log_plot(figure, step, name)

    def log_plot_per_worker_timeline_metrics(
        self,
        metrics: Mapping[Any, Sequence[Any]],
        step: int,
        prefix: str,
        name: str,
        timeline_interval: float,
    ) -> None:
        """Draw what each worker measured over time, and their average.

        :param metrics: a worker's values, by its name
        :param timeline_interval: seconds between two values
        """
        figures = self._drawn(name, lambda: worker_timeline_figures(metrics, name, timeline_interval))
        if figures is not None:
            self.log_plot(figures[0], step, f"{prefix}/per_worker_{name}")
            self.log_plot(figures[1], step, f"{prefix}/average_{name}")

    def log_batched_dict_as_jsonl(self, to_log: Mapping[str, Any], filename: str) -> None:
        """Write a batch into a file of ``log_dir``, a row as one JSON object, in place of what was there.

        :param to_log: columns of equal length, by name
        :param filename: from ``log_dir`` on
        :raises ValueError: the file is not in ``log_dir``, or one of the run's own
        """
        self.core.log_batch(to_log, filename)

    def log_string_list_as_jsonl(self, to_log: Iterable[str], filename: str) -> None:
        """Append texts to a file of ``log_dir``, a line each; what is no JSON becomes a JSON text.

        :param filename: from ``log_dir`` on
        :raises ValueError: the file is not in ``log_dir``, or one of the run's own
        """
        self.core.log_lines(to_log, filename)

    def log_samples(
        self,
        message_logs: Sequence[Any],
        rewards: Sequence[float],
        step: int,
        references: Sequence[Any] | None = None,
    ) -> None:
        """Show ``num_val_samples_to_print`` validation samples, and log them to every tracker.

        :param message_logs: conversations, each a list of messages with ``role`` and ``content``
        :param references: the right answers
        """
        self.core.log_samples(
            message_logs, rewards, step, references=references, num_samples=self.num_val_samples_to_print
        )

    def close(self) -> None:
        """Finish the run; a second call does nothing. Loggers of your own are yours to finish."""
        super().close()
        self.loggers = []

    finish = close

    def _others(self, log: Callable[[LoggerInterface], None]) -> None:
        for other in self.loggers:
            try:
                log(other)
            except Exception as error:  # it is the user's code, and must not stop training
                name = type(other).__name__
                self._trouble.tell(name, f"{name} failed: {describe(error)}. Training goes on.", error)

    def _drawn(self, name: str, draw: Callable[[], Any]) -> Any:
        try:
            return draw()
        except Exception as error:  # of data that nobody has thought of
            self._trouble.tell(
                f"plot {name}", f"{name!r} is not drawn: {describe(error)}. Training goes on.", error
            )
            return None
