"""The trackers' senders as outputs for SB3's logger.

Two classes an output, because the sender must work without SB3 (which brings torch), and
SB3's logger calls nothing but subclasses of its own writers.
"""

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from stable_baselines3.common import logger as sb3

from rl_logging.formats.clearml import ClearMLSender
from rl_logging.formats.mlflow import MLflowSender
from rl_logging.formats.sb3 import OutputFormat, secrets
from rl_logging.formats.swanlab import SwanLabSender
from rl_logging.formats.tensorboard import TensorBoardSender
from rl_logging.formats.wandb import WandBSender
from rl_logging.inline import InlineDelivery
from rl_logging.media import MediaWriter
from rl_logging.record import Record, make_record, message_record, to_step
from rl_logging.values import to_text


class TrackerOutput(OutputFormat):
    """A tracker's sender that SB3's own logger calls in line, and that never stops it."""

    _inline: InlineDelivery | None = None
    _media: MediaWriter | None = None

    def write(self, key_values: Mapping[str, Any], key_excluded: Mapping[str, Any], step: int = 0) -> None:
        if self._media is None:
            self._media = MediaWriter(tempfile.mkdtemp(prefix="rl_logging-"), secrets().nested)
        self._deliver(make_record(key_values, key_excluded, to_step(step), self._media.keep))

    def write_sequence(self, sequence: Iterable[Any]) -> None:
        message = secrets().text(" ".join(map(to_text, sequence)))
        self._deliver(message_record(message, "info", step=0))

    def _deliver(self, record: Record) -> None:
        if self._inline is None:
            self._inline = InlineDelivery(self)
        self._inline.deliver(record)

    def close(self) -> None:
        super().close()
        if self._media is not None:
            shutil.rmtree(self._media.folder, ignore_errors=True)


class TensorBoardOutputFormat(TrackerOutput, TensorBoardSender, sb3.TensorBoardOutputFormat):
    """TensorBoard, with SB3's ``writer`` for what users write themselves."""

    _is_closed = False  # SB3's; ours is the tracker's
    _writer: Any = None

    @property
    def writer(self) -> Any:  # type: ignore[override]
        """A torch ``SummaryWriter`` on the same folder, opened on first use."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.local_folder))
        return self._writer

    def close(self) -> None:
        super().close()
        if self._writer is not None:
            self._writer.close()


class MLflowOutputFormat(TrackerOutput, MLflowSender):
    """MLflow, in a local store or on a server."""


MLFlowOutputFormat = MLflowOutputFormat


class WandBOutputFormat(TrackerOutput, WandBSender):
    """Weights & Biases, offline or online."""


class ClearMLOutputFormat(TrackerOutput, ClearMLSender):
    """ClearML, offline or online."""


class SwanLabOutputFormat(TrackerOutput, SwanLabSender):
    """SwanLab, offline, local or online."""
