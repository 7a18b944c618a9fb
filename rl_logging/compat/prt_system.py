"""System metrics for prt_rl's MLFlowLogger: this machine's CPU, memory and GPUs, on a clock of their own."""

import logging
from importlib.util import find_spec
from typing import Any

from rl_logging.logger import Logger
from rl_logging.sources.nvml import NvmlSource
from rl_logging.sources.ray_monitor import RayGpuMonitor
from rl_logging.sources.system import SystemSource
from rl_logging.values import is_number

_log = logging.getLogger("rl_logging")


class Machine:
    """Ask this machine and, where there are any, its GPUs.

    :raises MissingBackendError: psutil is not installed
    """

    name = "system"

    def __init__(self) -> None:
        self._system = SystemSource("")
        self._gpus = NvmlSource("") if find_spec("pynvml") else None

    def __call__(self) -> dict[str, Any]:
        return {**self._system(), **self._of_gpus()}

    def _of_gpus(self) -> dict[str, Any]:
        if self._gpus is None:
            return {}
        try:
            return {key: value for key, value in self._gpus().items() if is_number(value)}
        except OSError as error:  # most machines have none
            _log.info("system metrics: no GPUs: %s", error)
            self._gpus = None
            return {}


def monitor(core: Logger, machine: Machine) -> None:
    """Log what a machine does, each ten seconds, against the seconds since the run began, until it ends."""
    RayGpuMonitor(core, metric_prefix="system", step_metric="system/seconds", source=machine).start()
