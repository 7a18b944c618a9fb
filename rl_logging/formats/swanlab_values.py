"""What SwanLab gets besides numbers: pictures, charts, texts, and the values of its configuration.

SwanLab keeps one type of value under a key, and one value of it at a step. So each kind
goes under a name of its own, ``eval/return (table)``, which depends on nothing that came
before: a key may hold a number at one step and a picture at another.
"""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rl_logging.contents import FIGURE, HISTOGRAM, IMAGE, KINDS, TABLE, VIDEO, kind_of_value
from rl_logging.media_files import encoded, gif_of, histogram_of, table_of
from rl_logging.rich import Media
from rl_logging.values import Value, describe, number_text

MESSAGES, PROVENANCE = "messages", "provenance"  # keys of our own
ORIGINALS, TAGS, METRICS = "original_keys", "tags", "hparam_metrics"  # in the configuration, with PROVENANCE
NOTE = "file"  # in the name of a text that says where the file is of what SwanLab cannot show
LONGEST_END = f" ({max(KINDS, key=len)} {NOTE})"
_OURS = frozenset({ORIGINALS, TAGS, METRICS, PROVENANCE})
_END = re.compile(rf" \(({'|'.join(KINDS)})(?: {NOTE})?\)$")
_LARGEST = 10 << 20  # bytes; SwanLab leaves out a larger picture, chart or text
_EXACT = 1 << 53  # integers beyond it are rounded by what reads JSON


def title(name: str, kind: str) -> str:
    """The name under which a kind of value is shown: ``train/actions (histogram)``."""
    return f"{name} ({kind})"


def kind_in(name: str) -> str:
    """The kind that :func:`title` put into a name; empty where there is none."""
    found = _END.search(name)
    return found[1] if found else ""


# What is shown


def to_shown_text(text: str) -> Any:
    """A text as SwanLab's own object; of one beyond SwanLab's limit, the beginning."""
    import swanlab

    content = text.encode()
    if len(content) > _LARGEST:
        text = content[: _LARGEST - 4].decode("utf-8", "ignore") + "…"
    return swanlab.Text(text)


def to_shown(value: Value) -> Any:
    """A rich value as SwanLab's own object.

    :raises ValueError: SwanLab cannot show it, or its file is lost
    :raises OSError: a file cannot be read or written now
    """
    ways = {VIDEO: _video, IMAGE: _picture, FIGURE: _picture, HISTOGRAM: _bars, TABLE: _table}
    try:
        shown = ways[kind_of_value(value)](value)
    except Exception as error:  # a file may hold anything, and those who read it raise anything
        if isinstance(error, OSError) and (error.errno is not None or isinstance(error, TimeoutError)):
            raise
        raise ValueError(describe(error)) from error
    if _size(shown) > _LARGEST:
        raise ValueError(f"SwanLab takes {_LARGEST >> 20} MiB at most")
    return shown


def _size(shown: Any) -> int:
    chart = getattr(shown, "json_content", None)
    return int(shown.buffer.getbuffer().nbytes) if chart is None else len(chart.encode())


def _video(media: Media) -> Any:
    import swanlab

    return swanlab.Video(str(_there(gif_of(media))), caption=media.file)


def _picture(media: Media) -> Any:
    import swanlab

    path = str(_there(encoded(media)))
    moves = path.lower().endswith(".gif")
    return (swanlab.Video if moves else swanlab.Image)(path, caption=media.file)


def _bars(value: Value) -> Any:
    import swanlab

    counted = _there(histogram_of(value))
    edges = [f"{edge:.6g}" for edge in counted.edges.tolist()]
    bar = swanlab.echarts.Bar()
    bar.add_xaxis([f"{low} … {high}" for low, high in itertools.pairwise(edges)])
    hidden = swanlab.echarts.options.LabelOpts(is_show=False)
    bar.add_yaxis("count", counted.counts.tolist(), category_gap="2%", label_opts=hidden)
    stats = (f"{name} {number_text(number, 6)}" for name, number in counted.stats.items())
    return swanlab.ECharts(bar, caption=", ".join(stats))


def _table(media: Media) -> Any:
    import swanlab

    columns, rows = table_of(media)
    table = swanlab.echarts.Table()
    table.add(_unlike(_there(columns)), [[_cell(cell) for cell in row] for row in rows])
    return swanlab.ECharts(table, caption=media.file)


def _there(found: Any) -> Any:
    if not found:
        raise ValueError("its file is lost")
    return found


def _unlike(columns: Sequence[str]) -> list[str]:
    """The columns' names, made unlike each other: SwanLab finds cells by them."""
    names: dict[str, None] = {}
    for column in columns:
        name, number = column, 2
        while name in names:
            name, number = f"{column} ({number})", number + 1
        names[name] = None
    return list(names)


def _cell(cell: Value) -> Value:
    is_nested = isinstance(cell, (dict, list))
    return json.dumps(cell, ensure_ascii=False) if is_nested else to_config(cell)


def to_card(name: str, media: Media) -> str:
    """What is known of an artifact, line by line."""
    about = media.about
    lines = {
        "name": name,
        "type": about.get("type", ""),
        "file": media.file,
        "size": f"{about.get('size', 0)} bytes",
        "sha256": about.get("sha256", ""),
        "aliases": ", ".join(about.get("aliases", ())),
        "metadata": json.dumps(about.get("metadata", {}), ensure_ascii=False),
    }
    return "\n".join(f"{label}: {line}" for label, line in lines.items())


def to_listing(nested: Mapping[str, Value]) -> str:
    """Nested values as a text for people."""
    return json.dumps(nested, indent=2, ensure_ascii=False, default=str)


# The configuration


def to_config(value: Value) -> Value:
    """A plain value that keeps what it is in JSON: NaN and integers too long for it become texts."""
    if isinstance(value, Mapping):
        return {str(name): to_config(item) for name, item in value.items()}
    if isinstance(value, list):
        return [to_config(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    is_long = isinstance(value, int) and abs(value) > _EXACT
    return str(value) if is_long else value


def hyperparameters(nested: Mapping[str, Value]) -> dict[str, Value]:
    """Hyperparameters under names that are not ours: ``tags`` becomes ``tags_``."""
    return {f"{name}_" if name.rstrip("_") in _OURS else name: value for name, value in nested.items()}


def is_ours(name: str) -> bool:
    """Whether something in the configuration is no hyperparameter."""
    return name in _OURS


def merged(before: Value, new: Value) -> Value:
    """A nested value with what is new in it; what came before under other names stays."""
    if not isinstance(before, Mapping) or not isinstance(new, Mapping):
        return new
    return {**before, **{name: merged(before.get(name), value) for name, value in new.items()}}
