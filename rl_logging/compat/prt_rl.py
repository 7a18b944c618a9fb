"""prt_rl's loggers: ``from rl_logging.compat.prt_rl import MLFlowLogger``.

Values without an iteration are counted, one count a logger: a name gets the current iteration;
when it comes round again, the next one begins. ::

    for _ in range(1000):
        logger.log_scalar("loss/train", loss)      # 0, 1, 2, ...
        logger.log_scalar("reward/mean", reward)   # 0, 1, 2, ...

Where they write, the run's journal is too: ``output_dir``, or a new folder in ``runs``. No method
that logs raises, but for a name that leads out of the folder.
"""

import contextlib
from os import PathLike
from pathlib import Path
from typing import Any

from rl_logging.compat.prt_base import Logger
from rl_logging.compat.prt_files import PrtFiles, copy_file, place_of, set_aside
from rl_logging.compat.prt_system import Machine, monitor
from rl_logging.compose import configure
from rl_logging.formats import check_names
from rl_logging.formats.trackers import ClearMLOutputFormat, MLflowOutputFormat
from rl_logging.logger import Logger as CoreLogger
from rl_logging.run_folders import next_run_folder
from rl_logging.values import describe, to_text

__all__ = ["ClearMLLogger", "FileLogger", "Logger", "MLFlowLogger"]

_OPEN_S = 30.0  # for a tracker's run to be opened


class FileLogger(Logger):
    """``parameters.json`` and ``scalars.json`` in a folder; a folder that has them is continued.

    :param output_dir: the run folder; it is made if missing
    :raises RunInUseError: another process writes it
    :raises ValueError: a wrong ``logging_freq``, or one of the two files there is not of this kind
    :raises OSError: the folder cannot be written
    """

    core: CoreLogger

    def __init__(self, output_dir: str | PathLike[str], logging_freq: int = 1) -> None:
        super().__init__(logging_freq)
        self.output_dir = str(output_dir)
        folder = Path(output_dir).absolute()  # the program may go elsewhere
        set_aside(folder)
        with contextlib.ExitStack() as undo:
            self.core = configure(folder, [])
            undo.callback(self.core.close)
            files = PrtFiles(folder)  # only now: nobody else writes the journal that it reads
            if self.core.resumed_from is not None:
                files.rewrite()
            undo.pop_all()
        self.core.output_formats.append(files)
        self.iteration, self._folder = files.next_iteration, folder

    def log_file(self, path: str | PathLike[str], name: str, move: bool = False) -> None:
        """Keep a file as ``output_dir/name/`` and its own name, in place of one that is there.

        :param move: whether to remove it where it was, once there is a copy
        :raises ValueError: that would not be in ``output_dir``, or among the run's own files
        """
        try:
            if copy_file(Path(path), place_of(self._folder, name, Path(path).name)) and move:
                Path(path).unlink()
        except (OSError, TypeError) as error:
            self._tell("log_file", f"{to_text(path)!r}: {describe(error)}")


class MLFlowLogger(Logger):
    """MLflow, through a process of its own: a server that is away holds nothing up.

    :param tracking_uri: by default ``$MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the current
        folder, which ``mlflow ui`` shows when it is started there
    :param run_name: by default MLflow makes one up
    :param log_system_metrics: whether to log CPU, memory and GPUs of this machine every ten seconds
    :raises MissingBackendError: mlflow is not installed; or psutil, for system metrics
    :raises ValueError: an empty name, a wrong ``logging_freq``, or a URI that MLflow refuses
    :raises OSError: the run folder, a new one in ``runs``, cannot be made
    """

    core: CoreLogger

    def __init__(
        self,
        experiment_name: str,
        *,
        tracking_uri: str | None = None,
        run_name: str | None = None,
        log_system_metrics: bool = False,
        logging_freq: int = 1,
    ) -> None:
        super().__init__(logging_freq)
        self.experiment_name, self.run_name = _text("experiment_name", experiment_name), run_name
        self._output = MLflowOutputFormat(
            experiment_name=experiment_name,
            run_name=run_name,
            tracking_uri=tracking_uri,
            folder=Path.cwd(),
        )
        self.tracking_uri = self._output.address
        machine = Machine() if log_system_metrics else None
        self.core = configure(next_run_folder(Path.cwd() / "runs", experiment_name), [self._output])
        if machine is not None:
            monitor(self.core, machine)

    @property
    def run(self) -> Any:
        """The ``mlflow.entities.Run`` as the store has it now; it waits until the run is open.

        :raises RuntimeError: it is not open after 30 s
        """
        self.core.flush(_OPEN_S)
        self.core.urls()  # whereby the output learns where its run is
        if not self._output.located:
            raise RuntimeError(f"the MLflow run is not open: {self.core.health()['mlflow'].last_error}")
        return self._output.client.get_run(self._output.located["run_id"])


class ClearMLLogger(Logger):
    """ClearML, from a thread of this process; offline where there are no credentials.

    ``loss/train`` is the series ``train`` of the title ``loss``; a name without a slash has the
    title ``metrics``.

    :raises MissingBackendError: clearml is not installed
    :raises ValueError: an empty name, or a wrong ``logging_freq``
    :raises OSError: the run folder, a new one in ``runs``, cannot be made
    """

    core: CoreLogger

    def __init__(self, project_name: str, task_name: str, logging_freq: int = 1) -> None:
        super().__init__(logging_freq)
        self.project_name, self.task_name = _text("project_name", project_name), _text("task_name", task_name)
        check_names(["clearml"])
        folder = next_run_folder(Path.cwd() / "runs", task_name)
        self._output = ClearMLOutputFormat(
            project_name=project_name, task_name=task_name, folder=folder / "clearml"
        )
        self._task: Any = None
        self.core = configure(folder, [self._output], delivery="thread")

    @property
    def task(self) -> Any:
        """The ``clearml.Task``; it waits until the task is open.

        :raises RuntimeError: it is not open after 30 s
        """
        if self._task is None:
            self.core.flush(_OPEN_S)
            if not self._output.is_open:  # to open it here as well would make a second one
                raise RuntimeError(
                    f"the ClearML task is not open: {self.core.health()['clearml'].last_error}"
                )
            self._task = self._output.run
        return self._task


def _text(name: str, given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise ValueError(f"{name} is a text that is not empty, not {given!r}")
    return given
