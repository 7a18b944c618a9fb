"""From the pages of a cluster's nodes to metrics, as many as are asked for."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rl_logging.sources.ray_page import Labels, Page

DETAILS = ("auto", "gpu", "node", "cluster")
SMALL = 16  # GPUs, or nodes; beyond, "auto" gives the cluster's figures alone
_NAMED = ("util", "temp_c")  # whose extremes say which GPU it is


class Reading(NamedTuple):
    """The last page of one node.

    :param node: the node's name
    """

    node: str
    address: str
    page: Page


class Gpu(NamedTuple):
    """One GPU, counted once, and its name ``<node>.gpu.<index>``."""

    name: str
    labels: Labels
    values: Mapping[str, float]


def gpus_of(readings: Iterable[Reading]) -> list[Gpu]:
    """The GPUs of a cluster. Where two nodes are on one host, the first one has its GPUs."""
    found: dict[tuple[str, str], Gpu] = {}
    for node, address, page in readings:
        for labels, values in page.gpus.items():
            name = f"{node}.gpu.{labels.number}"
            found.setdefault((address, labels.uuid or str(labels.number)), Gpu(name, labels, values))
    return list(found.values())


def metrics(readings: Sequence[Reading], detail: str) -> dict[str, Any]:
    """The metrics of a cluster.

    :param detail: ``"cluster"``, ``"node"`` for each node's too, ``"gpu"`` for each GPU's too
    """
    gpus = gpus_of(readings)
    found: dict[str, Any] = _of_hosts(readings)
    found["gpus"] = len(gpus)
    for field in ("util", "mem_gb", "power_w", "temp_c"):
        found.update(_spread(f"gpu.{field}", field, gpus))
    if detail in ("node", "gpu"):
        for reading in readings:
            found.update({f"node.{reading.node}.{key}": value for key, value in reading.page.node.items()})
    if detail == "gpu":
        for gpu in gpus:
            found.update({f"node.{gpu.name}.{key}": value for key, value in gpu.values.items()})
            if gpu.labels.model:
                found[f"node.{gpu.name}.type"] = gpu.labels.model
    return found


def _spread(name: str, field: str, gpus: Sequence[Gpu]) -> dict[str, Any]:
    values = {gpu.name: gpu.values[field] for gpu in gpus if field in gpu.values}
    if not values:
        return {}
    coldest, hottest = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    found: dict[str, Any] = {
        f"{name}_mean": sum(values.values()) / len(values),
        f"{name}_min": values[coldest],
        f"{name}_max": values[hottest],
    }
    if field in _NAMED:
        found.update({f"{name}_coldest": coldest, f"{name}_hottest": hottest})
    return found


def _of_hosts(readings: Iterable[Reading]) -> dict[str, float]:
    """CPU and memory of the whole cluster, each host counted once."""
    hosts = list({reading.address: reading.page.node for reading in readings}.values())
    found = {}
    if loads := [host["cpu_util"] for host in hosts if "cpu_util" in host]:
        found["cpu_util"] = sum(loads) / len(loads)
    for key in ("mem_gb", "mem_total_gb"):
        if sizes := [host[key] for host in hosts if key in host]:
            found[key] = sum(sizes)
    return found
