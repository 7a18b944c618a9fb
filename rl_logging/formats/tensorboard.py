"""TensorBoard: event files, one event a dump, written without torch."""

import io
import itertools
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rl_logging.appendfile import AppendFile
from rl_logging.formats.base import History, Sender
from rl_logging.formats.tracker import Tracker, message_line
from rl_logging.record import Record
from rl_logging.values import Described, to_float

_BINS = 30
_OURS = ".rl_logging"  # at the end of the name of each file that is ours
_numbers = itertools.count()  # two files of one process and second


class TensorBoardSender(Tracker):
    """Write records to a TensorBoard event file.

    Numbers are float32, as TensorBoard's own server reads no others. Texts are shown as
    they are, not as markdown. Arrays are histograms of their finite values.

    :param folder: the folder for the event file; one that has some gets another beside
    :param name: what ``exclude`` calls this output
    :raises MissingBackendError: tensorboard is not installed
    """

    name = "tensorboard"
    package = "tensorboard"

    def __init__(self, folder: str | Path | None = None, *, name: str | None = None) -> None:
        super().__init__(folder=folder, name=name)

    @classmethod
    def in_folder(cls, folder: Path, **arguments: Any) -> Sender:
        return cls(**{"folder": folder / "tb", **arguments})

    def open(self) -> Any:
        from tensorboard.compat.proto.event_pb2 import Event

        # TensorBoard's own writer hands each event to a thread, which dies with its first error.
        self._cut_back()
        now, number = int(time.time()), next(_numbers)
        name = f"events.out.tfevents.{now:010}.{socket.gethostname()}.{os.getpid()}.{number}{_OURS}"
        file = AppendFile(self.local_folder / name)
        _append(file, Event(wall_time=now, file_version="brain.Event:2"))
        return file

    def emit(self, record: Record) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=key, simple_value=value) for key, value in self.taken(record).items()]
        for key, value in record.values.items():
            if isinstance(value, np.ndarray):
                values += _histogram(self.rename(key), value)
        shown = {value.tag for value in values}
        # Of what is drawn, by the process that has it, a journal has but a word.
        words = [key for key, value in record.values.items() if not isinstance(value, Described)]
        texts = self.texts(replace(record, values={key: record.values[key] for key in words}))
        values += [_text(key, text) for key, text in texts.items() if key not in shown]
        self._write(record, values)

    def emit_text(self, record: Record) -> None:
        self._write(record, [_text("messages", message_line(record))])

    def held(self, value: float, step: int) -> float:
        with np.errstate(over="ignore"):  # beyond float32's range is infinite, as TensorBoard has it
            return float(np.float32(to_float(value)))

    def finish(self, run: Any, status: str) -> None:
        run.close()

    def reference(self) -> dict[str, Any]:
        return {} if self._run is None else {"file": self._run.path.name, "size": self._run.size}

    def url(self) -> str:
        return str(self.local_folder)

    def start_over(self) -> None:
        for file in self.local_folder.glob(f"*tfevents*{_OURS}"):
            file.rename(file.with_name(file.name.replace("tfevents", "superseded")))

    def destination(self) -> str:
        return f"event files in {self.local_folder}"

    def viewer(self) -> str:
        return f"tensorboard --logdir {self.local_folder}"

    def read_back(self, reference: Mapping[str, Any]) -> History:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

        events = EventAccumulator(str(self.local_folder), size_guidance={SCALARS: 0}).Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()[SCALARS]}

    def _cut_back(self) -> None:
        """Take back what an earlier process wrote and could not say: it is delivered again."""
        path = self.local_folder / str(self.located.get("file"))
        if self.located and path.is_file() and path.stat().st_size > self.located["size"]:
            os.truncate(path, self.located["size"])

    def _write(self, record: Record, values: list[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if values:
            summary = Summary(value=values)
            _append(self.run, Event(wall_time=record.time, step=record.step, summary=summary))


def _append(file: AppendFile, event: Any) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    framed = io.BytesIO()
    RecordWriter(framed).write(event.SerializeToString())
    file.append(framed.getvalue())


def _text(key: str, text: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    # Four spaces before each line: the text plugin shows markdown, and a text is not ours to trust.
    literal = "    " + text.replace("\n", "\n    ")
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[literal.encode()], tensor_shape=shape)
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    return Summary.Value(tag=f"{key}/text_summary", metadata=metadata, tensor=tensor)


def _histogram(key: str, array: np.ndarray) -> list[Any]:
    """A histogram of the array's finite values; none if it has none."""
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

    finite = array.astype(np.float64)[np.isfinite(array)]
    if not finite.size:
        return []
    counts, edges = np.histogram(finite, bins=_BINS)
    histogram = HistogramProto(
        min=finite.min(),
        max=finite.max(),
        num=finite.size,
        sum=finite.sum(),
        sum_squares=np.square(finite).sum(),
        bucket_limit=edges.tolist(),
        bucket=[0, *counts.tolist()],  # nothing lies below the first edge
    )
    return [Summary.Value(tag=key, histo=histogram)]
