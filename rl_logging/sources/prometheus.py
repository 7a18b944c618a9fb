"""PrometheusSource: what a Prometheus server knows, asked by its query API."""

import json
import string
import urllib.parse
from collections.abc import Mapping
from typing import Any

from rl_logging.sources.ray_names import clean
from rl_logging.sources.sampled import check_seconds
from rl_logging.sources.scrape import fetch

_MAX_BYTES = 8 << 20


class PrometheusSource:
    """Ask a Prometheus server, such as the one that watches a Ray cluster already.

    ::

        PrometheusSource(
            "http://127.0.0.1:9090",
            {
                "gpu.util_mean": "avg(ray_node_gpus_utilization)",
                "node.{ip}.gpu.{GpuIndex}.util": "ray_node_gpus_utilization",
            },
        )

    :param url: the server's address: ``http://``, a host, a port, and a path where it has one
    :param queries: queries in PromQL by metric name; a name holds labels in braces where a
        query gives more than one value
    :param prefix: stands before each name, and a slash between
    :param every_s: how often the server is asked, in seconds
    :param timeout_s: for the answer to one query, in seconds
    :raises ValueError: an address or an interval that is none, or no queries
    """

    name = "prometheus"

    def __init__(
        self,
        url: str,
        queries: Mapping[str, str],
        prefix: str = "prometheus",
        every_s: float = 10.0,
        timeout_s: float = 5.0,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(
                f"url is the address of a Prometheus server, such as http://127.0.0.1:9090, not {url!r}"
            )
        if not isinstance(queries, Mapping) or not queries:
            raise ValueError(f"queries are PromQL by metric name, not {queries!r}")
        self.prefix, self.every_s = prefix, check_seconds("every_s", every_s)
        self._timeout_s = check_seconds("timeout_s", timeout_s)
        self._host, self._port = parts.hostname, parts.port or 80
        self._path = parts.path.rstrip("/") + "/api/v1/query?"
        self._queries = dict(queries)

    def __call__(self) -> dict[str, float]:
        """Ask each query.

        :raises OSError: the server does not answer
        :raises ValueError: it does not understand a query, or one gives several values under one name
        """
        start = f"{self.prefix}/" if self.prefix else ""
        return {
            start + name: value
            for pattern, query in self._queries.items()
            for name, value in self._ask(pattern, query).items()
        }

    def _ask(self, pattern: str, query: str) -> dict[str, float]:
        path = self._path + urllib.parse.urlencode({"query": query})
        answer = json.loads(fetch(self._host, self._port, self._timeout_s, _MAX_BYTES, path))["data"]
        if answer["resultType"] == "scalar":
            return {pattern: float(answer["result"][1])}
        found: dict[str, float] = {}
        for series in answer["result"]:
            name = _named(pattern, series["metric"])
            if name in found:
                raise ValueError(
                    f"{query!r} gives several values named {name!r}; name it by labels: {_labels(answer)}"
                )
            found[name] = float(series["value"][1])
        return found


def _named(pattern: str, labels: Mapping[str, str]) -> str:
    """A name with a series' labels in place of those in braces."""
    parts = string.Formatter().parse(pattern)
    return "".join(
        text + ("" if field is None else clean(labels.get(field, "none"))) for text, field, _, _ in parts
    )


def _labels(answer: Any) -> str:
    """The labels by which the series of an answer differ, each in braces."""
    labels = [series["metric"] for series in answer["result"]]
    names = sorted({name for each in labels for name in each})
    return ", ".join(f"{{{name}}}" for name in names if len({each.get(name) for each in labels}) > 1)
