"""NeMo-RL's loggers for one tracker each, over this package's logger."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.text import Text

from rl_logging.axes import items_of
from rl_logging.compat.nemo_config import (
    ClearMLConfig,
    MLflowConfig,
    SwanlabConfig,
    TensorboardConfig,
    WandbConfig,
    output_arguments,
    read_section,
)
from rl_logging.compat.nemo_names import Named
from rl_logging.compose import configure
from rl_logging.formats import make_output
from rl_logging.formats.base import Sender
from rl_logging.logger import Logger as CoreLogger
from rl_logging.run_folders import next_run_folder
from rl_logging.values import is_number, to_plain

_log = logging.getLogger("rl_logging")
_DRAWN = ("wandb",)  # only there does a step metric take the step's place


class LoggerInterface(ABC):
    """What logs somewhere. One of your own may be appended to ``Logger.loggers``."""

    @abstractmethod
    def log_metrics(
        self,
        metrics: dict[str, Any],
        step: int,
        prefix: str | None = "",
        step_metric: str | None = None,
    ) -> None:
        """Log values by name.

        :param prefix: stands before each name, and a slash between
        :param step_metric: the one among them that is to be their axis in W&B
        """

    @abstractmethod
    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Log hyperparameters, nested as they may be."""

    def log_histogram(self, histogram: Sequence[Any], step: int, name: str) -> None:
        """Log the distribution of values; where it is not overridden, nothing is shown."""
        _log.info("%s shows no histograms: %r is left out", type(self).__name__, name)

    def log_plot(self, figure: Any, step: int, name: str) -> None:
        """Log a matplotlib figure; where it is not overridden, nothing is shown."""
        _log.info("%s shows no figures: %r is left out", type(self).__name__, name)


class Backend(LoggerInterface):
    """NeMo-RL's methods over a logger of this package.

    :param core: the logger that does the work: its journal, its outputs
    """

    def __init__(self, core: CoreLogger) -> None:
        self.core = core

    def log_metrics(
        self,
        metrics: dict[str, Any],
        step: int,
        prefix: str | None = "",
        step_metric: str | None = None,
        step_finished: bool = False,
    ) -> None:
        """Log values by name; nested ones under joined names, a list of numbers as a histogram.

        :param prefix: stands before each name, and a slash between
        :param step_metric: the one among them that is to be their axis in W&B
        :param step_finished: makes no difference: a call is a row of its own
        """
        if (given := items_of(metrics)) is None:
            return self.core.log_metrics(metrics, step)  # which says that it is none
        outputs = [output.name for output in self.core.output_formats if isinstance(output, Sender)]
        named = Named(outputs, given, prefix, step_metric)
        others = [output for output in outputs if output not in _DRAWN]
        if step_metric not in named.values or len(others) == len(outputs):
            self.core.log_metrics(named.values, step, exclude=named.excluded.get)
        elif not others or _is(named.values[step_metric], step):
            self.core.log_metrics(named.values, step, "", step_metric, exclude=named.excluded.get)
        else:  # NeMo-RL's other loggers keep the training step
            self.core.log_metrics(named.values, step, exclude=named.without(_DRAWN))
            self.core.log_metrics(named.values, step, "", step_metric, exclude=named.without(others))

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Log hyperparameters, nested as they may be."""
        self.core.log_hyperparams(params)

    def log_histogram(self, histogram: Sequence[Any], step: int, name: str) -> None:
        """Log the distribution of values.

        :param histogram: an array, tensor or list of numbers
        """
        self.core.log_histogram(name, histogram, step)

    def log_plot(self, figure: Any, step: int, name: str) -> None:
        """Log a matplotlib figure, as it looks now."""
        self.core.log_figure(name, figure, step)

    def close(self) -> None:
        """Finish the run; a second call does nothing."""
        self.core.close()

    finish = close

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        self.core.__exit__(*error)
        self.close()


class _Alone(Backend):
    """A logger for one tracker. Its journal is in a numbered folder of its own in ``log_dir``.

    :param cfg: the tracker's section of the configuration
    :param log_dir: where the tracker keeps what is local; by default ``logs``
    :raises MissingBackendError: the tracker's package is not installed
    :raises TypeError: a value of another type, or an argument that the tracker does not have
    :raises ValueError: a key or a value that is not allowed
    :raises OSError: the folder cannot be written
    """

    _output: ClassVar[str]

    def __init__(self, cfg: Any, log_dir: str | None = None) -> None:
        folder, section = Path(log_dir or "logs"), read_section(self._output, cfg)
        arguments = output_arguments(self._output, section, folder)
        make_output(self._output, folder, **arguments)  # which makes no folder: what is refused leaves none
        run_folder = next_run_folder(folder, f"{self._output}_run")
        super().__init__(make_core([self._output], run_folder, {self._output: arguments}))

    @property
    def run(self) -> Any:
        """The tracker's own run.

        :raises RuntimeError: the courier has it open; ``core.urls()`` says where it is
        """
        return self.core.output_formats[0].run  # type: ignore[attr-defined]


class WandbLogger(_Alone):
    """Weights & Biases, offline without an account; the code and its changes are kept, too."""

    _output = "wandb"

    def __init__(self, cfg: WandbConfig, log_dir: str | None = None) -> None:
        super().__init__(cfg, log_dir)

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        """Draw metrics against another one than the training step, from now on.

        :param name: a metric's name, or ``ray/*`` for all that begin so
        :param step_metric: the metric that is to be their axis
        :raises ValueError: a name that is no text, or an empty one
        """
        if step_metric is not None:
            self.core.define_metric(name, step_metric)


class TensorboardLogger(_Alone):
    """TensorBoard's event files, in ``log_dir``."""

    _output = "tensorboard"

    def __init__(self, cfg: TensorboardConfig, log_dir: str | None = None) -> None:
        super().__init__(cfg, log_dir)

    @property
    def writer(self) -> Any:
        """A torch ``SummaryWriter`` on the same folder, opened on first use."""
        return self.core.output_formats[0].writer  # type: ignore[attr-defined]


class MLflowLogger(_Alone):
    """MLflow; without a ``tracking_uri``, in the file ``mlflow.db`` of the current folder."""

    _output = "mlflow"

    def __init__(self, cfg: MLflowConfig, log_dir: str | None = None) -> None:
        super().__init__(cfg, log_dir)


class SwanlabLogger(_Alone):
    """SwanLab, offline without an account."""

    _output = "swanlab"

    def __init__(self, cfg: SwanlabConfig, log_dir: str | None = None) -> None:
        super().__init__(cfg, log_dir)


class ClearMLLogger(_Alone):
    """ClearML, offline without an account."""

    _output = "clearml"

    def __init__(self, cfg: ClearMLConfig, log_dir: str | None = None) -> None:
        super().__init__(cfg, log_dir)


def _is(value: Any, step: Any) -> bool:
    one, other = to_plain(value), to_plain(step)
    return is_number(one) and is_number(other) and bool(one == other)


def make_core(outputs: list[str], folder: Path, arguments: dict[str, Any]) -> CoreLogger:
    """Make a logger of this package with some trackers; what goes where is said on the console.

    :param arguments: for the outputs' constructors, by output
    """
    core = configure(folder, outputs, provenance="code" if "wandb" in outputs else True, **arguments)
    places = [
        f"{output.name}: {output.where()}" for output in core.output_formats if isinstance(output, Sender)
    ]
    if core.resumed_from is not None:
        say(f"Resuming the run in {folder} after step {core.resumed_from}. A new run needs another log_dir.")
    say(f"Logging to {folder}", *(places or ["no tracker is enabled: the journal alone has it"]))
    return core


def say(*lines: str) -> None:
    """Show lines on the console; there is no markup in them."""
    console = Console(highlight=False)
    for line in lines:
        console.print(Text(line), soft_wrap=True)
