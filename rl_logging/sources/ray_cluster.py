"""RayCluster: asks a Ray cluster's nodes, and keeps what each said last. It needs no Ray."""

import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rl_logging.sources.ray_metrics import SMALL, Reading, gpus_of, metrics
from rl_logging.sources.ray_names import Named
from rl_logging.sources.ray_page import Page, PageParser
from rl_logging.sources.scrape import Scraper, Target

# So long after its start a node's disk and network rates are none: Ray takes them over the last 35
# s, and begins with zeros. Its first CPU utilisation is always 0, too.
_YOUNG_S = 35.0
_RATES = ("disk_read_mb_s", "disk_write_mb_s", "net_in_mb_s", "net_out_mb_s")


class Snapshot(NamedTuple):
    """What one round gave.

    :param values: metrics, without a prefix
    :param notes: what to tell the user, by topic
    """

    values: dict[str, Any]
    notes: dict[str, str]


class RayCluster:
    """The nodes of a Ray cluster, and the last page of each.

    :param detail: see :class:`rl_logging.RayGpuSource`
    :param timeout_s: for one node's page
    :param keep_s: so long a page counts when no newer one comes
    """

    def __init__(self, detail: str, timeout_s: float, keep_s: float) -> None:
        self._detail, self._keep_s = detail, keep_s
        self._scraper = Scraper(self._take, timeout_s)
        self._parsers: dict[Target, PageParser] = {}
        self._seen_at: dict[Target, float] = {}  # first
        self._pages: dict[Target, tuple[float, Page]] = {}
        self._empty: Counter[Target] = Counter()  # rounds in which a node answered without values

    def ask(self, nodes: Sequence[Named]) -> Snapshot:
        """Ask the nodes, and give what is known of them now.

        :param nodes: all that are alive, in an order that stays
        """
        names: dict[Target, str] = {}
        for name, address, port in nodes:
            if port > 0:
                names.setdefault((address, port), name)
        self._forget(self._parsers.keys() - names.keys())
        for target in names:
            self._parsers.setdefault(target, PageParser())
            self._seen_at.setdefault(target, time.monotonic())
        silent_before = set(self._scraper.silent)
        self._scraper.ask(names)
        oldest = time.monotonic() - self._keep_s
        readings = [
            Reading(name, target[0], self._trusted(target))
            for target, name in names.items()
            if target in self._pages and self._pages[target][0] >= oldest
        ]
        without = sum(node.port <= 0 for node in nodes)
        counts = {"nodes_alive": len(nodes), "nodes_silent": len(self._scraper.silent) + without}
        values = {**counts, **metrics(readings, self._choose_detail(readings))} if nodes else {}
        return Snapshot(values, self._notes(names, silent_before, without))

    def _forget(self, gone: Iterable[Target]) -> None:
        for target in gone:
            del self._parsers[target], self._seen_at[target]
            self._pages.pop(target, None)
            del self._empty[target]

    def _take(self, target: Target, pieces: Iterator[bytes]) -> None:
        page = self._parsers[target].parse(pieces)
        if page is None:
            self._empty[target] += 1
        else:
            del self._empty[target]
            self._pages[target] = (time.monotonic(), page)

    def _trusted(self, target: Target) -> Page:
        """The last page of a node, without what cannot be right yet."""
        _, page = self._pages[target]
        if time.monotonic() - self._seen_at[target] > _YOUNG_S:
            return page
        node = {key: value for key, value in page.node.items() if key not in _RATES}
        if node.get("cpu_util") == 0:
            del node["cpu_util"]
        return Page(node, page.gpus)

    def _choose_detail(self, readings: Sequence[Reading]) -> str:
        if self._detail == "auto" and (len(readings) > SMALL or len(gpus_of(readings)) > SMALL):
            self._detail = "cluster"  # for good: curves that come and go are of no use
        return "gpu" if self._detail == "auto" else self._detail

    def _notes(self, names: Mapping[Target, str], before: Container[Target], without: int) -> dict[str, str]:
        """What to tell; a node that has just started may give nothing yet, and one may be late once."""
        notes = {}
        if silent := [(node, why) for node, why in self._scraper.silent.items() if node in before]:
            (address, port), why = silent[0]
            others = f", nor do {len(silent) - 1} more" if len(silent) > 1 else ""
            notes["silent"] = (
                f"node {names[address, port]} ({address}:{port}) gives no metrics: {why}{others}. "
                "It is asked again each time"
            )
        if without:
            notes["without metrics"] = (
                f"{without} Ray nodes export no metrics: pip install 'ray[default]' there, and start them "
                "without RAY_enable_metrics_collection=0"
            )
        if empty := [node for node, rounds in self._empty.items() if node in self._pages or rounds > 2]:
            notes["empty"] = (
                f"node {names[empty[0]]} answers without its values. Ray 2.52 to 2.56 gives each "
                "value to the first who asks, and the cluster's Prometheus or another run has asked; what is "
                "known stands for a while. Start Ray with RAY_enable_open_telemetry=0, or use Ray 2.57"
            )
        return notes
