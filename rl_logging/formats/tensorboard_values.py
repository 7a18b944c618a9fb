"""What TensorBoard shows of each kind of value: the pieces that an event is made of.

Each piece but a number says in its metadata what kind of value it stands for. Nothing from
outside becomes markup on TensorBoard's pages.
"""

import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from rl_logging.contents import HISTOGRAM, TABLE, kind_of_value
from rl_logging.media_files import Counted, encoded, gif_of, histogram_of, table_of
from rl_logging.rich import Media
from rl_logging.values import Value, short_text

NUMBER, _DRAWN = "simple_value", ("histo", "image")  # fields of an event's value
_ENDINGS = {
    NUMBER: "/scalar_summary",
    "histo": "/histogram_summary",
    "image": "/image_summary",
    "tensor": "/text_summary",
}
_LARGEST = float(np.finfo(np.float32).max)
_LOST = "its file is lost"
_ROWS = 1000  # of a table that are shown: each event holds all of them
_PICTURES = (b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"BM")  # how the files begin that browsers are shown
_LITERAL = frozenset(" .,:;+-=%/")  # without a meaning in markdown, within a table's cell


class Tags:
    """Which field of an event's value each tag fills: TensorBoard drops what comes there in another.

    Numbers, histograms and pictures have their keys as tags. A key whose tag fills another
    field already gets one of its own, such as ``weights/histogram_summary``.

    :param shown: what :meth:`shown` gave in an earlier process of the run
    :param earlier: gives all tags of that process, with their fields; it takes its time, and is
        called only for a histogram or picture whose tag is new
    """

    def __init__(
        self, shown: Mapping[str, str], earlier: Callable[[], Iterable[tuple[str, str]]] = tuple
    ) -> None:
        self._fields = dict(shown)
        self._earlier: Callable[[], Iterable[tuple[str, str]]] | None = earlier

    def of(self, tag: str, field: str) -> str:
        """The tag for a value that is to have this one."""
        if field in _DRAWN and tag not in self._fields and self._earlier is not None:
            self._fields = {**dict(self._earlier()), **self._fields}
            self._earlier = None
        while self._fields.setdefault(tag, field) != field:
            tag += _ENDINGS[field]
        return tag

    def shown(self) -> dict[str, str]:
        """The fields of the tags that stand for histograms and pictures."""
        return {tag: field for tag, field in self._fields.items() if field in _DRAWN}


def key_of(tag: str, drawn: set[str]) -> str:
    """The key of a number's tag.

    :param drawn: the tags of histograms and pictures
    """
    while (key := tag.removesuffix(_ENDINGS[NUMBER])) != tag and key in drawn:
        tag = key
    return tag


# Rich values


def native(key: str, value: Value) -> Any:
    """A rich value as TensorBoard shows its kind.

    :raises MissingBackendError: the encoder is not installed
    :raises ValueError: its file is lost, or it is not what its kind promises
    :raises OSError: its file cannot be read or encoded
    """
    kind = kind_of_value(value)
    if kind == HISTOGRAM:
        return histogram(key, histogram_of(value))
    if kind == TABLE:
        return markdown(key, _table(*table_of(value), value), kind)
    file = gif_of(value) if value.kind == "video" else encoded(value)
    if file is None:
        raise ValueError(_LOST)
    return picture(key, file.read_bytes(), kind)


def word_for(value: Value) -> str:
    """A word for a rich value that cannot be shown, and where its file is, if it has one."""
    if not isinstance(value, Media):
        return short_text(value)
    for file in (value.file, str(value.about.get("raw", ""))):
        if is_there(value, file):
            return f"{value.text}: {file}"
    return value.text


def is_there(media: Media, file: str) -> bool:
    """Whether a file or folder of a run stands where it should."""
    try:
        path = media.beside(file)
    except ValueError:
        return False
    return path is not None and path.exists()


def histogram(tag: str, counted: Counted | None) -> Any:
    """A histogram as it was counted.

    :raises ValueError: there is none, or nothing in it
    """
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

    if counted is None:
        raise ValueError(_LOST)
    if not counted.counts.size:
        raise ValueError("a histogram shows finite values, and it has none")
    limits, counts = _held(counted.edges), counted.counts.tolist()
    histo = HistogramProto(**_figures(counted), bucket_limit=limits.tolist(), bucket=[0, *counts])
    return Summary.Value(tag=tag, metadata=_about("histograms", HISTOGRAM), histo=histo)


def _figures(counted: Counted) -> dict[str, float]:
    stats, counts, edges = counted.stats, counted.counts, _held(counted.edges)
    if stats:
        number, mean, std = stats["count"] - stats["not_finite"], stats["mean"], stats["std"]
        least, greatest = _held(np.array([stats["min"], stats["max"]]))
        sums = {"sum": number * mean, "sum_squares": number * (mean * mean + std * std)}
        return {"min": least, "max": greatest, "num": number, **sums}
    middles = edges[:-1] / 2 + edges[1:] / 2
    sums = {"sum": (counts * middles).sum(), "sum_squares": (counts * middles * middles).sum()}
    return {"min": edges[0], "max": edges[-1], "num": counts.sum(), **sums}


def _held(edges: np.ndarray) -> np.ndarray:
    """Numbers within the range of a float32, in which TensorBoard holds them."""
    return edges.clip(-_LARGEST, _LARGEST)


def picture(tag: str, data: bytes, kind: str) -> Any:
    """A png, gif, jpeg or bmp file.

    :raises ValueError: the data are none of these
    """
    from tensorboard.compat.proto.summary_pb2 import Summary

    if not data.startswith(_PICTURES):
        raise ValueError("TensorBoard shows png, gif, jpeg and bmp, and it is none of these")
    width, height = _size(data)
    image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=data)
    return Summary.Value(tag=tag, metadata=_about("images", kind), image=image)


def _size(data: bytes) -> tuple[int, int]:
    """Width and height, of a png or gif."""
    if data.startswith(b"\x89PNG"):
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data.startswith(b"GIF8"):
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    return 0, 0


# Texts


def literal(key: str, text: str, kind: str = "") -> Any:
    """A text shown as it is."""
    # Four spaces before each line: the text plugin shows markdown, and a text is not ours to trust.
    return markdown(key, "\n".join(f"    {line}" for line in re.split("\r\n|\r|\n", text)), kind)


def markdown(key: str, text: str, kind: str = "") -> Any:
    """A text shown as markdown."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    data = text.encode("utf-8", "backslashreplace")
    tensor = TensorProto(dtype="DT_STRING", string_val=[data], tensor_shape=shape)
    return Summary.Value(tag=f"{key}/text_summary", metadata=_about("text", kind), tensor=tensor)


def as_yaml(key: str, values: Mapping[str, Any], kind: str = "") -> Any:
    """Nested plain values, as YAML."""
    import yaml

    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=1 << 30)
    return literal(key, text, kind)


def _table(columns: list[str], rows: list[list[Any]], media: Media) -> str:
    if not columns:
        raise ValueError(_LOST)
    lines = [_row(columns), "|---" * len(columns) + "|", *map(_row, rows[-_ROWS:])]
    if len(rows) > _ROWS:
        lines = [f"The last {_ROWS} of {len(rows)} rows; all are in {_escaped(media.file)}", "", *lines]
    return "\n".join(lines)


def _row(cells: list[Any]) -> str:
    return "".join(f"| {_escaped('' if cell is None else str(cell))} " for cell in cells) + "|"


def _escaped(text: str) -> str:
    """A text of which markdown takes nothing as its own; a new line stays one."""
    return "<br>".join("".join(map(_escaped_letter, line)) for line in re.split("\r\n|\r|\n", text))


def _escaped_letter(letter: str) -> str:
    if letter.isalnum() or letter in _LITERAL:
        return letter
    return f"&#{ord(letter)};" if letter.isprintable() else "\N{REPLACEMENT CHARACTER}"


# Events


FIRST = {"file_version": "brain.Event:2"}  # what the first event of a file says


def event(time_s: float, **fields: Any) -> bytes:
    """An event as it stands in a file."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    framed = io.BytesIO()
    RecordWriter(framed).write(Event(wall_time=time_s, **fields).SerializeToString())
    return framed.getvalue()


def _about(plugin: str, kind: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import SummaryMetadata

    return SummaryMetadata(
        plugin_data=SummaryMetadata.PluginData(plugin_name=plugin), summary_description=kind
    )
