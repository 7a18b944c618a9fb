"""What a ClearML task shows at a step besides numbers and lines of text.

Histograms, tables and figures are plots; images and videos are debug samples; what is
neither, or too large for an event, is an artifact.
"""

import base64
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rl_logging.contents import FIGURE, IMAGE, TABLE, VIDEO, kind_of_value
from rl_logging.formats.clearml_files import add_parameters, folder_name, upload
from rl_logging.formats.clearml_session import KIND
from rl_logging.media_files import Counted, file_of, histogram_of, table_of
from rl_logging.values import Value, short_text

Report = Callable[[Any], None]
"""Hands an event to a task's logger, which ClearML writes later."""

_MEASURED = "Metrics"  # the section for what stands beside parameters in SB3's HParam
_PLOT_BYTES = 1 << 20  # of what a plot is made of; a browser gets all plots of a task at once
_LARGEST_EXACT = 1 << 53  # of the integers that a browser can tell apart


def prepare(task: Any, values: Mapping[str, Value], step: int) -> tuple[list[Report], dict[str, str]]:
    """Make rich values ready to be shown. What may fail is done here, before anything is shown.

    :param values: by title and series, with a slash between
    :return: what shows them, and words for those that cannot be shown; what is in neither is an
        artifact or a parameter by now
    :raises OSError: a file cannot be encoded or kept
    :raises RuntimeError: ClearML has not taken a file
    """
    reports, words = [], {}
    for name, value in values.items():
        try:
            shown = _prepared(task, name, value, step)
        except (ValueError, KeyError, TypeError, EOFError):  # its file, or what is said of it, is damaged
            shown = short_text(value)
        if isinstance(shown, str):
            words[name] = shown
        elif shown is not None:
            reports.append(shown)
    return reports, words


def _prepared(task: Any, name: str, value: Value, step: int) -> Report | str | None:
    title, _, series = name.partition("/")
    at: dict[str, Any] = {"title": title, "series": series, "iteration": step}
    counted = histogram_of(value)
    if counted is not None:
        return lambda logger: logger.report_histogram(**at, **_bars(counted, series))
    if value.kind == "hparam":
        add_parameters(task, value.about["hparams"])
        add_parameters(task, value.about["metrics"], _MEASURED)
        return None
    path = file_of(value)
    if path is None:
        return short_text(value)
    if value.kind == TABLE and value.about["bytes"] <= _PLOT_BYTES:
        columns, rows = table_of(value)
        cells = [columns, *([_cell(cell) for cell in row] for row in rows)]
        return lambda logger: logger.report_table(**at, table_plot=cells)
    if value.kind == FIGURE and path.stat().st_size <= _PLOT_BYTES:
        plot = _picture(path.read_bytes())
        return lambda logger: logger.report_plotly(**at, figure=plot)
    if value.kind in (IMAGE, VIDEO) and path.suffix != ".npy":
        at |= {"title": folder_name(title), "series": folder_name(series), "local_path": str(path)}
        # ClearML numbers its files anew in each process, and would write over those of an earlier one.
        at |= {"max_history": 1, "file_extension": f".{path.name}"}
        return lambda logger: logger.report_media(**at, delete_after_upload=False)
    version = f"step_{step}" if value.kind == TABLE else path.stem  # a table's file is one for all its steps
    facts = {KIND: kind_of_value(value), "name": name, "step": step}
    upload(task, folder_name(f"{name}/{version}"), path, facts)
    return None


def _bars(counted: Counted, series: str) -> dict[str, Any]:
    """The arguments that draw a histogram, each bar from its bin's one edge to the other."""
    with np.errstate(over="ignore"):
        widths = np.minimum(np.diff(counted.edges), np.finfo(np.float64).max)
    return {
        "values": counted.counts,
        "xlabels": counted.edges[:-1].tolist(),
        "labels": [series],
        "data_args": {"width": widths.tolist(), "offset": 0},
    }


def _picture(png: bytes) -> dict[str, Any]:
    """A plot that shows an image. It holds the image, and so cannot stand there without it."""
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    place = {"xref": "x", "yref": "y", "x": 0, "y": height, "sizex": width, "sizey": height}
    layout = {
        "xaxis": {"visible": False, "range": [0, width]},
        "yaxis": {"visible": False, "range": [0, height], "scaleanchor": "x"},
        "images": [{**place, "source": source, "sizing": "contain", "layer": "below"}],
    }
    return {"data": [], "layout": layout}


def _cell(value: Value) -> Value:
    """A table's cell as JSON can hold it and a browser shows it right."""
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value) if isinstance(value, int) and abs(value) > _LARGEST_EXACT else value
