"""A run's line on TensorBoard's page of hyperparameters."""

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rl_logging.formats.tensorboard_values import FIRST, event
from rl_logging.values import Value, number_text

_EXACT = 1 << 53  # a float holds no greater integer exactly
_LENGTH = 500  # of a text on the page; the whole is among the texts
_TAGS = {
    "experiment": "_hparams_/experiment",
    "session_start_info": "_hparams_/session_start_info",
    "session_end_info": "_hparams_/session_end_info",
}


class Page:
    """The hyperparameters of a run, in a file of events of their own.

    TensorBoard goes by what it reads first of them, and takes no notice of what follows. So
    this file is read before all others, and replaced as a whole.

    :param folder: the run's folder of events
    :param ending: how the names of our files end
    """

    def __init__(self, folder: Path, ending: str) -> None:
        self._path = folder / f"events.out.tfevents.0000000000.hyperparameters{ending}"

    def add(self, flat: Mapping[str, Value], metrics: Iterable[str], time_s: float) -> list[Any]:
        """Show hyperparameters, beside those that are there.

        :param flat: plain values by name
        :param metrics: tags of numbers to show with them; where none is ever named, all are
        :return: the whole, for a TensorBoard that has read the file and does not look again
        :raises OSError: the file cannot be written
        """
        from tensorboard.plugins.hparams.api_pb2 import MetricInfo, MetricName, Status

        parts = self._read()
        start, experiment = parts["session_start_info"], parts["experiment"]
        for name, value in flat.items():
            _set(start.hparams[name], value)
        start.start_time_secs = start.start_time_secs or time_s
        known = {info.name.tag for info in experiment.metric_infos}
        new = [MetricInfo(name=MetricName(tag=tag)) for tag in metrics if tag not in known]
        experiment.metric_infos.extend(new)
        parts["session_end_info"].Clear()
        parts["session_end_info"].status = Status.Value("STATUS_RUNNING")
        return self._write(parts)

    def end(self, is_success: bool, time_s: float) -> None:
        """Say how the run went, where the page has a line for it.

        :raises OSError: the file cannot be written
        """
        from tensorboard.plugins.hparams.api_pb2 import Status

        if self._path.is_file():
            parts = self._read()
            status = "STATUS_SUCCESS" if is_success else "STATUS_FAILURE"
            parts["session_end_info"].status = Status.Value(status)
            parts["session_end_info"].end_time_secs = time_s
            self._write(parts)

    def names(self) -> list[str]:
        """The names of the hyperparameters."""
        return list(self._read()["session_start_info"].hparams)

    def _read(self) -> dict[str, Any]:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        found = {part: HParamsPluginData() for part in _TAGS}
        for record in _records(self._path.read_bytes() if self._path.is_file() else b""):
            for value in Event.FromString(record).summary.value:
                part = value.tag.removeprefix("_hparams_/")
                found[part].ParseFromString(value.metadata.plugin_data.content)
        return {part: getattr(data, part) for part, data in found.items()}

    def _write(self, parts: Mapping[str, Any]) -> list[Any]:
        from tensorboard.plugins.hparams.api_pb2 import HParamInfo

        start, experiment = parts["session_start_info"], parts["experiment"]
        del experiment.hparam_infos[:]
        experiment.hparam_infos.extend(
            HParamInfo(name=name, type=_type(value)) for name, value in sorted(start.hparams.items())
        )
        # Without an experiment, TensorBoard makes one of all runs that it shows, and of all numbers.
        left_out = () if experiment.metric_infos else ("experiment",)
        values = [_value(part, data) for part, data in parts.items() if part not in left_out]
        draft = self._path.with_name("hyperparameters.new")
        draft.parent.mkdir(parents=True, exist_ok=True)
        time_s = start.start_time_secs
        draft.write_bytes(event(time_s, **FIRST) + event(time_s, summary={"value": values}))
        os.replace(draft, self._path)
        return values


def _records(data: bytes) -> Iterator[bytes]:
    """The records in a file: each after its length and a checksum, and before one. A torn one is left out."""
    while len(data) >= 16:
        (size,) = struct.unpack_from("<Q", data)
        record, data = data[12 : 12 + size], data[16 + size :]
        if len(record) == size:
            yield record


def _value(part: str, data: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.metadata import NULL_TENSOR, create_summary_metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    metadata = create_summary_metadata(HParamsPluginData(**{part: data}))
    return Summary.Value(tag=_TAGS[part], metadata=metadata, tensor=NULL_TENSOR)


def _set(target: Any, value: Value) -> None:
    """Set a protocol buffer's value, whose numbers are floats, and finite."""
    if isinstance(value, bool):
        target.bool_value = value
    elif _is_exact(value):
        target.number_value = value
    else:
        text = number_text(value, 17) if isinstance(value, (int, float)) else str(value)
        target.string_value = text if len(text) <= _LENGTH else f"{text[:_LENGTH]} …"


def _is_exact(value: Value) -> bool:
    if isinstance(value, int):
        return -_EXACT <= value <= _EXACT
    return isinstance(value, float) and float("-inf") < value < float("inf")


def _type(value: Any) -> str:
    kinds = {"bool_value": "DATA_TYPE_BOOL", "number_value": "DATA_TYPE_FLOAT64"}
    return kinds.get(value.WhichOneof("kind"), "DATA_TYPE_STRING")
