"""NvmlSource: the GPUs of this machine, asked through NVIDIA's library."""

import contextlib
import errno
from importlib.util import find_spec
from typing import Any

from rl_logging.errors import MissingBackendError
from rl_logging.sources.sampled import check_seconds

_GB = 2.0**30


class NvmlSource:
    """Utilisation, memory, power and temperature of each NVIDIA GPU of this machine.

    What a GPU does not tell, as parts of one (MIG) do not tell their utilisation, is left out.

    :param prefix: stands before each name, and a slash between
    :param every_s: how often the GPUs are asked, in seconds
    :raises MissingBackendError: nvidia-ml-py is not installed
    :raises ValueError: an interval that is not above 0
    """

    name = "nvml"

    def __init__(self, prefix: str = "nvml", every_s: float = 10.0) -> None:
        if find_spec("pynvml") is None:
            raise MissingBackendError("nvml", extra="system")
        self.prefix, self.every_s = prefix, check_seconds("every_s", every_s)
        self._library: Any = None

    def __call__(self) -> dict[str, Any]:
        """Ask each GPU.

        :raises OSError: there is no NVIDIA driver, or it does not answer
        """
        import pynvml

        try:
            if self._library is None:
                pynvml.nvmlInit()
                self._library = pynvml
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            self.close()
            raise OSError(errno.ENODEV, f"NVIDIA's library gives no GPUs: {error}") from error
        start = f"{self.prefix}/" if self.prefix else ""
        return {
            f"{start}gpu.{index}.{key}": value
            for index in range(count)
            for key, value in _gpu(pynvml, index).items()
        }

    def close(self) -> None:
        """Let go of the library."""
        library, self._library = self._library, None
        if library is not None:
            with contextlib.suppress(library.NVMLError):
                library.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    questions = (
        lambda gpu: {"util": nvml.nvmlDeviceGetUtilizationRates(gpu).gpu},
        lambda gpu: _memory(nvml.nvmlDeviceGetMemoryInfo(gpu)),
        lambda gpu: {"power_w": nvml.nvmlDeviceGetPowerUsage(gpu) / 1000},
        lambda gpu: {"temp_c": nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)},
        lambda gpu: {"type": _text(nvml.nvmlDeviceGetName(gpu))},
    )
    for question in questions:
        with contextlib.suppress(nvml.NVMLError):  # it does not tell that, or is lost
            found.update(question(nvml.nvmlDeviceGetHandleByIndex(index)))
    return found


def _memory(info: Any) -> dict[str, float]:
    return {"mem_gb": info.used / _GB, "mem_total_gb": info.total / _GB}


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
