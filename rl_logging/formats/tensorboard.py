"""TensorBoard: event files, one event a dump, written without torch."""

import itertools
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rl_logging.appendfile import AppendFile
from rl_logging.contents import HYPERPARAMETER, KINDS, TAG, TEXT, kind_of_value
from rl_logging.errors import MissingBackendError
from rl_logging.formats import tensorboard_values as pieces
from rl_logging.formats.base import History, Sender
from rl_logging.formats.tensorboard_page import Page
from rl_logging.formats.tracker import FINISHED, Tracker, message_line
from rl_logging.hyperparams import flatten
from rl_logging.record import Record
from rl_logging.rich import Media
from rl_logging.values import Value, describe, is_rich, to_float

_FOLDER = "tb"  # in the run folder
_OURS = ".rl_logging"  # at the end of the name of each file that is ours
_BAD = (MissingBackendError, ValueError, TypeError, KeyError, EOFError)  # it is not what its kind promises
_numbers = itertools.count()  # two files of one process and second


class EventFile(AppendFile):
    """A file of events that is open for writing.

    :param tags: those of the run that it belongs to
    """

    def __init__(self, path: Path, tags: pieces.Tags) -> None:
        super().__init__(path)
        self.tags = tags


class TensorBoardSender(Tracker):
    """Write records to a TensorBoard event file.

    Numbers are float32, as TensorBoard's own server reads no others. Arrays are histograms of
    their finite values, videos are animated pictures, tables are texts. Texts are shown as they
    are, not as markdown. What TensorBoard has no place for, such as a model, is a text that says
    where its file is in the run folder.

    :param folder: the folder for the event file; one that has some gets another beside
    :param params_sep: what stands between the names of nested hyperparameters
    :param name: what ``exclude`` calls this output
    :raises MissingBackendError: tensorboard is not installed
    """

    name = "tensorboard"
    package = "tensorboard"

    def __init__(
        self, folder: str | Path | None = None, *, params_sep: str = "/", name: str | None = None
    ) -> None:
        super().__init__(folder=folder, name=name)
        self.params_sep = params_sep

    @classmethod
    def in_folder(cls, folder: Path, /, **arguments: Any) -> Sender:
        return cls(**{"folder": folder / _FOLDER, **arguments})

    def open(self) -> Any:
        # TensorBoard's own writer hands each event to a thread, which dies with its first error.
        continued = self._cut_back()
        tags = pieces.Tags(self.located.get("shown", {}), self._fields) if continued else pieces.Tags({})
        # Files are read in the order of their names: not even in one second may two of them share a time.
        earlier = [int(file.name.split(".")[3]) for file in self.local_folder.glob(f"*tfevents.*{_OURS}")]
        now, number = max([int(time.time()), *(time_ + 1 for time_ in earlier)]), next(_numbers)
        name = f"events.out.tfevents.{now:010}.{socket.gethostname()}.{os.getpid()}.{number}{_OURS}"
        file = EventFile(self.local_folder / name, tags)
        file.append(pieces.event(now, **pieces.FIRST))
        return file

    def emit(self, record: Record) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        tags, numbers = self.run.tags, self.taken(record).items()
        values = [Summary.Value(tag=tags.of(key, pieces.NUMBER), simple_value=n) for key, n in numbers]
        values += [pieces.literal(key, text, TEXT) for key, text in self.texts(record).items()]
        for key, value in record.values.items():
            if is_rich(value):
                values += self._rich(key, value, record)
        self._write(record, values)

    def emit_text(self, record: Record) -> None:
        self._write(record, [pieces.literal("messages", message_line(record))])

    def emit_hyperparameters(self, record: Record) -> None:
        self._write(record, self._hyperparameters(record.values, (), record))

    def emit_tags(self, record: Record) -> None:
        self._write(record, [pieces.literal(f"tags/{k}", v, TAG) for k, v in record.values.items()])

    def emit_artifact(self, record: Record) -> None:
        values = []
        for name, value in record.values.items():
            if pieces.is_there(value, value.file):
                about = {"name": name, "file": value.file, **value.about}
                values.append(pieces.as_yaml(f"artifacts/{name}", about, kind_of_value(value)))
            else:
                self.refuse(name, record.step, "its file is not in the run folder any more")
        self._write(record, values)

    def emit_provenance(self, record: Record) -> None:
        words = {name: v.file if isinstance(v, Media) else v for name, v in record.values.items()}
        self._write(record, [pieces.as_yaml("provenance", words)])

    def held(self, value: float, step: int) -> float:
        with np.errstate(over="ignore"):  # beyond float32's range is infinite, as TensorBoard has it
            return float(np.float32(to_float(value)))

    def finish(self, run: Any, status: str) -> None:
        Page(run.path.parent, _OURS).end(status == FINISHED, time.time())
        run.close()

    def reference(self) -> dict[str, Any]:
        if self._run is None:
            return {}
        return {"file": self._run.path.name, "size": self._run.size, "shown": self._run.tags.shown()}

    def url(self) -> str:
        return str(self.local_folder)

    def start_over(self) -> None:
        for file in self.local_folder.glob(f"*tfevents*{_OURS}"):
            file.rename(file.with_name(file.name.replace("tfevents", "superseded")))

    def destination(self) -> str:
        return f"event files in {self.local_folder}"

    def viewer(self) -> str:
        # Of a run that is the given folder itself, TensorBoard's table of hyperparameters finds no metric.
        folder = self.local_folder
        return f"tensorboard --logdir {folder.parent if folder.name == _FOLDER else folder}"

    def read_back(self, reference: Mapping[str, Any]) -> History:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

        events = EventAccumulator(str(self.local_folder), size_guidance={SCALARS: 0}).Reload()
        tags = events.Tags()
        others = {*tags["histograms"], *tags["images"]}
        keys = {tag: pieces.key_of(tag, others) for tag in tags[SCALARS]}
        return {key: [(e.step, e.value) for e in events.Scalars(tag)] for tag, key in keys.items()}

    def contents(self) -> dict[str, int]:
        found = Counter({HYPERPARAMETER: len(Page(self.local_folder, _OURS).names())})
        tags = set()
        for value in self._values():
            kind = value.metadata.summary_description
            if kind == TAG:
                tags.add(value.tag)
            elif kind in KINDS:
                found[kind] += 1
        found[TAG] = len(tags)
        return {kind: count for kind, count in found.items() if count}

    def _values(self) -> Iterator[Any]:
        """All values in the folder's events, by TensorBoard's own reader."""
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

        for file in sorted(self.local_folder.glob("*tfevents*")):
            for event in LegacyEventFileLoader(str(file)).Load():
                yield from event.summary.value

    def _fields(self) -> Iterator[tuple[str, str]]:
        """The tags in the folder's events, and what their values are."""
        return ((value.tag, value.WhichOneof("value")) for value in self._values())

    def _cut_back(self) -> bool:
        """Take back what an earlier process wrote and could not say: it is delivered again.

        :return: whether an earlier process wrote into this folder
        """
        path = self.local_folder / str(self.located.get("file"))
        if not self.located or not path.is_file():
            return False
        if path.stat().st_size > self.located["size"]:
            os.truncate(path, self.located["size"])
        return True

    def _rich(self, key: str, value: Value, record: Record) -> list[Any]:
        """A rich value as its kind is shown here; else a text that says where its file is."""
        name = self.rename(key)
        try:
            if isinstance(value, Media) and value.kind == "hparam":
                return self._hyperparameters(value.about["hparams"], value.about["metrics"], record)
            drawn = pieces.native(name, value)
        except (*_BAD, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # such as a full disk, which is not the value's fault
            reason = describe(error)
            what = f"{self.name}: {key!r} at step {record.step} is shown as a text only: {reason}"
            if not isinstance(value, Media) or value.file:  # else it was said when it was recorded
                self.trouble.tell(reason, what)
            drawn = pieces.literal(name, pieces.word_for(value), kind_of_value(value))
        drawn.tag = self.run.tags.of(drawn.tag, drawn.WhichOneof("value"))
        return [drawn]

    def _hyperparameters(
        self, nested: Mapping[str, Any], metrics: Iterable[str], record: Record
    ) -> list[Any]:
        page = Page(self.run.path.parent, _OURS)
        line = page.add(flatten(nested, self.params_sep), map(self.rename, metrics), record.time)
        return [*line, pieces.as_yaml("hyperparameters", nested)]

    def _write(self, record: Record, values: list[Any]) -> None:
        if values:
            self.run.append(pieces.event(record.time, step=record.step, summary={"value": values}))
