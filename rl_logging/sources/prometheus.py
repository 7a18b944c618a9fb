"""PrometheusSource: what a Prometheus server knows, asked by its query API."""

import contextlib
import http.client
import json
import re
import string
import urllib.parse
from collections.abc import Mapping
from typing import Any

from rl_logging.sources.ray_names import clean
from rl_logging.sources.sampled import check_seconds

_MAX_BYTES = 8 << 20
_SHOWN = 200  # bytes of an answer that is none
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")  # Prometheus' rule for their names

_Name = list[tuple[str, str | None]]  # texts, each with the label that stands behind it


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
    :param timeout_s: how long the server may say nothing, in seconds
    :raises ValueError: an address, an interval or a name that is none, or no queries
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
        self._queries = [(_parsed(name), _checked(query)) for name, query in queries.items()]

    def __call__(self) -> dict[str, float]:
        """Ask each query.

        :raises OSError: the server does not answer
        :raises http.client.HTTPException: it does not answer in HTTP
        :raises ValueError: it is no Prometheus server, it refuses a query, or one gives several
            values under one name
        """
        start = f"{self.prefix}/" if self.prefix else ""
        return {
            start + key: value
            for name, query in self._queries
            for key, value in _values(name, query, _answer(*self._ask(query))).items()
        }

    def _ask(self, query: str) -> tuple[int, bytes]:
        """The status and the text of the server's answer, in the plain: its errors' texts are needed, too."""
        path = self._path + urllib.parse.urlencode({"query": query})
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Connection": "close"})
            with connection.getresponse() as response:
                return response.status, response.read(_MAX_BYTES + 1)


def _answer(status: int, text: bytes) -> dict[str, Any]:
    """What a Prometheus server says.

    :raises ValueError: it is none
    """
    if len(text) > _MAX_BYTES:
        raise ValueError(f"its answer is longer than {_MAX_BYTES >> 20} MiB")
    with contextlib.suppress(ValueError):
        answer = json.loads(text)
        if isinstance(answer, dict) and answer.get("status") in ("success", "error"):
            return answer
    raise ValueError(f"it is no Prometheus server: it answers {status}: {text[:_SHOWN]!r}")


def _values(name: _Name, query: str, answer: dict[str, Any]) -> dict[str, float]:
    if answer["status"] == "error":
        raise ValueError(f"{query!r}: {answer.get('error')}")
    kind, result = answer["data"]["resultType"], answer["data"]["result"]
    if kind == "scalar":
        return {_named(name, {}): float(result[1])}
    if kind != "vector":
        raise ValueError(f"{query!r} gives a {kind}, not a number or one for each series")
    found: dict[str, float] = {}
    for series in result:
        key = _named(name, series["metric"])
        if key in found:
            labels = _labels([each["metric"] for each in result])
            raise ValueError(f"{query!r} gives several values named {key!r}; name it by labels: {labels}")
        found[key] = float(series["value"][1])
    return found


def _parsed(name: Any) -> _Name:
    """The parts of a metric's name.

    :raises ValueError: it is none
    """
    try:
        parts = list(string.Formatter().parse(name))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name!r} is no name of a metric: {error}") from None
    for _, label, format_, conversion in parts:
        if label is not None and (format_ or conversion or not _LABEL.fullmatch(label)):
            raise ValueError(f"{name!r} is no name of a metric: in braces stand names of labels")
    return [(text, label) for text, label, _, _ in parts]


def _checked(query: Any) -> str:
    """A query.

    :raises ValueError: it is none
    """
    if not isinstance(query, str) or not query.strip():
        raise ValueError(f"queries are PromQL by metric name, and {query!r} is no query")
    return query


def _named(name: _Name, labels: Mapping[str, str]) -> str:
    """A name with a series' labels in place of those in braces."""
    return "".join(text + ("" if label is None else clean(labels.get(label, "none"))) for text, label in name)


def _labels(series: list[Mapping[str, str]]) -> str:
    """The labels by which series differ, each in braces."""
    names = sorted({name for labels in series for name in labels})
    return ", ".join(f"{{{name}}}" for name in names if len({labels.get(name) for labels in series}) > 1)
