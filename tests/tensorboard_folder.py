"""Records of every kind, delivered into a TensorBoard folder and read back by its own reader."""

from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Image

from rl_logging.formats.tensorboard import TensorBoardSender
from rl_logging.media import MediaWriter
from rl_logging.record import Record, make_record
from rl_logging.rich import Table

NUMBER, ARRAY = 2.5, np.array([1.0, 2.0])
KINDS = {
    "number": NUMBER,
    "histogram": ARRAY,
    "image": Image(np.zeros((4, 4), np.uint8), "HW"),
    "text": "a word",
    "table": Table(["column"], [["cell"]]),
}


def metrics(folder: Path, values: dict[Any, Any], step: int = 1) -> Record:
    return make_record(values, {}, step, MediaWriter(folder).keep)


def about(kind: str, values: dict[str, Any], step: int = 1) -> Record:
    return Record(step, 1e9, values, kind=kind)


def deliver(folder: Path, *records: Record) -> TensorBoardSender:
    """Deliver records to a sender on ``folder/tb``, and close it."""
    sender = TensorBoardSender(folder / "tb")
    for record in records:
        sender.handle(record)
    sender.close()
    return sender


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    kinds = ("scalars", "images", "histograms", "tensors")
    return EventAccumulator(str(folder / "tb"), size_guidance=dict.fromkeys(kinds, 0)).Reload()


def text(folder: Path, key: str) -> str:
    data: bytes = events(folder).Tensors(f"{key}/text_summary")[-1].tensor_proto.string_val[0]
    return data.decode()
