"""What a Ray node's metrics page says of the node and its GPUs.

The page is Prometheus' text, of up to 600 KB; its wanted lines are found by one pattern, and
their labels, which seldom change, are read when they are new: 0.3 ms a page, against 30 to 70
ms for prometheus_client alone, which reads what is not plain.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

_GB, _MB = 2.0**30, 2.0**20
# What each gauge is here, and by how much it is divided. Ray's text says that gram_used is in
# bytes; its code and its values say MiB.
_OF_GPU = {
    b"gpus_utilization": ("util", 1.0),
    b"gram_used": ("mem_gb", 1024.0),
    b"gram_available": ("mem_free_gb", 1024.0),
    b"gpu_power_milliwatts": ("power_w", 1000.0),
    b"gpu_temperature_celsius": ("temp_c", 1.0),
}
_OF_NODE = {
    b"cpu_utilization": ("cpu_util", 1.0),
    b"mem_used": ("mem_gb", _GB),
    b"mem_total": ("mem_total_gb", _GB),
    b"disk_utilization_percentage": ("disk_percent", 1.0),
    b"disk_io_read_speed": ("disk_read_mb_s", _MB),
    b"disk_io_write_speed": ("disk_write_mb_s", _MB),
    b"network_receive_speed": ("net_in_mb_s", _MB),
    b"network_send_speed": ("net_out_mb_s", _MB),
}
# It begins with plain characters, not with "^": so it is looked for ten times as fast.
_LINE = re.compile(
    rb"\nray_node_(%s)\{([^\n]*)\} ([-+.\deE]{1,40})(?: -?\d{1,20})?(?=\n)" % b"|".join([*_OF_GPU, *_OF_NODE])
)
_PLAIN_LABELS = re.compile(rb'(?:[a-zA-Z_]\w*="[^"\\]*"(?:,|$))*')
_PLAIN_LABEL = re.compile(r'(\w+)="([^"]*)"')
_LINE_BYTES = 1 << 16
_GPUS = 1024  # of a node; a page that names more of them lies
_NAME_LENGTH = 120  # of a GPU's model


class Labels(NamedTuple):
    """Which GPU a line is about.

    :param number: Ray's index of it; of a part of one (MIG), 1000 times the GPU's plus its own
    :param uuid: empty where Ray does not say it, as before 2.57
    """

    number: int
    uuid: str
    model: str


@dataclass(frozen=True)
class Page:
    """What a page says.

    :param node: values of the node, by the names in the wiki
    :param gpus: values of each GPU
    """

    node: Mapping[str, float]
    gpus: Mapping[Labels, Mapping[str, float]]


class PageParser:
    """Reads one node's pages, and remembers the labels of the last one."""

    def __init__(self) -> None:
        self._labels: dict[bytes, Labels | None] = {}

    def parse(self, pieces: Iterable[bytes]) -> Page | None:
        """What a page says; None where it has none of the wanted lines.

        A line that is damaged counts for nothing, and so does a value that is no number or
        below 0, which is Ray's word for one that it could not read.

        :param pieces: the page, cut anywhere
        :raises ValueError: nothing of Ray's is on the page
        """
        is_rays = False
        node: dict[str, float] = {}
        gpus: dict[Labels, dict[str, float]] = {}
        known: dict[bytes, Labels | None] = {}
        for block in _blocks(pieces):
            is_rays = is_rays or b"\nray_" in block
            if b"\nray_node_" in block:
                self._read(block, node, gpus, known)
        if not is_rays:
            raise ValueError("what it serves is no page of Ray's")
        self._labels = known
        return _page(node, gpus)

    def _read(
        self,
        block: bytes,
        node: dict[str, float],
        gpus: dict[Labels, dict[str, float]],
        known: dict[bytes, Labels | None],
    ) -> None:
        for name, text, number in _LINE.findall(block):
            value = _number(number)
            if name in _OF_NODE:
                key, unit = _OF_NODE[name]
                if value is not None:
                    node[key] = value / unit
                continue
            if text not in known:
                known[text] = self._labels[text] if text in self._labels else _labels(text)
            labels = known[text]
            if labels is None or (labels not in gpus and len(gpus) == _GPUS):
                continue
            gpu = gpus.setdefault(labels, {})
            key, unit = _OF_GPU[name]
            if value is not None:
                gpu[key] = value / unit


def _page(node: dict[str, float], gpus: dict[Labels, dict[str, float]]) -> Page | None:
    for gpu in gpus.values():
        free_gb = gpu.pop("mem_free_gb", None)
        if free_gb is not None and "mem_gb" in gpu:
            gpu["mem_total_gb"] = gpu["mem_gb"] + free_gb
    return Page(node, gpus) if node or gpus else None


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines, with the end of the line before them."""
    rest = b"\n"
    for piece in pieces:
        text = rest + piece
        end = text.rfind(b"\n")
        if end > 0:
            yield text[: end + 1]
            rest = text[end:]
        else:
            rest = text if len(text) < _LINE_BYTES else b""  # no line of Ray's is that long


def _number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _labels(text: bytes) -> Labels | None:
    """A line's labels; None where they name no GPU."""
    try:
        labels = _read_labels(text)
        index = labels["GpuIndex"]
        if not re.fullmatch(r"[0-9]{1,9}", index):
            return None
        uuid, model = labels.get("GpuUuid", ""), labels.get("GpuDeviceName", "")
        return Labels(int(index), uuid[:_NAME_LENGTH], model[:_NAME_LENGTH])
    except (ValueError, KeyError, IndexError):  # the library's, for what is no Prometheus text
        return None


def _read_labels(text: bytes) -> Mapping[str, str]:
    """Labels by name; those with anything escaped or damaged are left to the format's own library."""
    if _PLAIN_LABELS.fullmatch(text):
        return dict(_PLAIN_LABEL.findall(text.decode()))
    from prometheus_client.parser import text_string_to_metric_families  # of the extra ``ray``

    (family,) = text_string_to_metric_families(f"a{{{text.decode()}}} 0\n")
    labels: dict[str, str] = family.samples[0].labels
    return labels
