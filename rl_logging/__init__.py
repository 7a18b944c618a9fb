"""One logger for reinforcement learning: SB3's, with a journal and many outputs.

Names are loaded on first use: importing this package loads neither torch nor SB3 nor any
tracker.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stable_baselines3.common.logger import (
        DEBUG,
        DISABLED,
        ERROR,
        INFO,
        WARN,
        Figure,
        FormatUnsupportedError,
        HParam,
        Image,
        KVWriter,
        SeqWriter,
        Video,
    )

    from rl_logging.compose import configure, make_output_format
    from rl_logging.distributed.handle import Handle
    from rl_logging.distributed.parts import Part
    from rl_logging.distributed.ray_reducer import RayReducer
    from rl_logging.distributed.recorder import Recorder
    from rl_logging.distributed.reducer import Reducer
    from rl_logging.distributed.torch_reducer import TorchReducer
    from rl_logging.errors import JournalError, MissingBackendError, MissingRanksError
    from rl_logging.formats.csv import CSVOutputFormat
    from rl_logging.formats.human import FixedHumanOutputFormat
    from rl_logging.formats.journal import JournalOutputFormat
    from rl_logging.formats.json import JSONOutputFormat
    from rl_logging.formats.memory import MemoryOutputFormat
    from rl_logging.formats.sb3 import OutputFormat
    from rl_logging.formats.trackers import (
        ClearMLOutputFormat,
        MLFlowOutputFormat,
        MLflowOutputFormat,
        SwanLabOutputFormat,
        TensorBoardOutputFormat,
        WandBOutputFormat,
    )
    from rl_logging.journal import Journal
    from rl_logging.llm_plots import reward_figure, token_error_figure, worker_timeline_figures
    from rl_logging.logger import Logger
    from rl_logging.record import Record
    from rl_logging.rich import Histogram, Table
    from rl_logging.run_folders import next_run_folder
    from rl_logging.samples_view import print_samples
    from rl_logging.sources.nvml import NvmlSource
    from rl_logging.sources.prometheus import PrometheusSource
    from rl_logging.sources.ray_gpu import RayGpuSource
    from rl_logging.sources.ray_monitor import RayGpuMonitor
    from rl_logging.sources.sampled import Sampled, Source
    from rl_logging.sources.system import SystemSource

__version__ = "0.1.0"

_MODULES = {
    "rl_logging.compose": "configure make_output_format",
    "rl_logging.distributed.handle": "Handle",
    "rl_logging.distributed.parts": "Part",
    "rl_logging.distributed.ray_reducer": "RayReducer",
    "rl_logging.distributed.recorder": "Recorder",
    "rl_logging.distributed.reducer": "Reducer",
    "rl_logging.distributed.torch_reducer": "TorchReducer",
    "rl_logging.errors": "JournalError MissingBackendError MissingRanksError",
    "rl_logging.formats.csv": "CSVOutputFormat",
    "rl_logging.formats.human": "FixedHumanOutputFormat",
    "rl_logging.formats.journal": "JournalOutputFormat",
    "rl_logging.formats.json": "JSONOutputFormat",
    "rl_logging.formats.memory": "MemoryOutputFormat",
    "rl_logging.formats.sb3": "OutputFormat",
    "rl_logging.formats.trackers": """ClearMLOutputFormat MLFlowOutputFormat MLflowOutputFormat
        SwanLabOutputFormat TensorBoardOutputFormat WandBOutputFormat""",
    "rl_logging.journal": "Journal",
    "rl_logging.llm_plots": "reward_figure token_error_figure worker_timeline_figures",
    "rl_logging.logger": "Logger",
    "rl_logging.record": "Record",
    "rl_logging.rich": "Histogram Table",
    "rl_logging.run_folders": "next_run_folder",
    "rl_logging.samples_view": "print_samples",
    "rl_logging.sources.nvml": "NvmlSource",
    "rl_logging.sources.prometheus": "PrometheusSource",
    "rl_logging.sources.ray_gpu": "RayGpuSource",
    "rl_logging.sources.ray_monitor": "RayGpuMonitor",
    "rl_logging.sources.sampled": "Sampled Source",
    "rl_logging.sources.system": "SystemSource",
    "stable_baselines3.common.logger": """DEBUG DISABLED ERROR INFO WARN Figure FormatUnsupportedError
        HParam Image KVWriter SeqWriter Video""",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "DEBUG",
    "DISABLED",
    "ERROR",
    "INFO",
    "WARN",
    "CSVOutputFormat",
    "ClearMLOutputFormat",
    "Figure",
    "FixedHumanOutputFormat",
    "FormatUnsupportedError",
    "HParam",
    "Handle",
    "Histogram",
    "Image",
    "JSONOutputFormat",
    "Journal",
    "JournalError",
    "JournalOutputFormat",
    "KVWriter",
    "Logger",
    "MLFlowOutputFormat",
    "MLflowOutputFormat",
    "MemoryOutputFormat",
    "MissingBackendError",
    "MissingRanksError",
    "NvmlSource",
    "OutputFormat",
    "Part",
    "PrometheusSource",
    "RayGpuMonitor",
    "RayGpuSource",
    "RayReducer",
    "Record",
    "Recorder",
    "Reducer",
    "Sampled",
    "SeqWriter",
    "Source",
    "SwanLabOutputFormat",
    "SystemSource",
    "Table",
    "TensorBoardOutputFormat",
    "TorchReducer",
    "Video",
    "WandBOutputFormat",
    "configure",
    "make_output_format",
    "next_run_folder",
    "print_samples",
    "reward_figure",
    "token_error_figure",
    "worker_timeline_figures",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
