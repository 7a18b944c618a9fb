"""What a Prometheus server knows: a real server, which scrapes a recorded page of a Ray node."""

import contextlib
import http.client
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
from metrics_nodes import endless, never, nodes, sends
from metrics_nodes import http as answer
from waiting import wait_until

from rl_logging import PrometheusSource, configure

PAGE = Path(__file__).parent / "data" / "ray_pages" / "gpu2.txt.gz"
HEADERS = "Content-Type: text/plain; version=0.0.4\r\nContent-Encoding: gzip\r\nConnection: close\r\n"
UTIL = "ray_node_gpus_utilization"  # 42 and 88 on the page
URL = "http://127.0.0.1:9090"


@contextlib.contextmanager
def prometheus(folder: Path, path: str, *scraped: str) -> Iterator[str]:
    """A server of one's own, which has asked each of its targets once.

    :param path: what its address ends with
    """
    program = shutil.which("prometheus", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("there is no Prometheus server; scripts/setup-prometheus gets one")
    targets = [{"job_name": "ray", "static_configs": [{"targets": scraped}]}]
    config, log = folder / "prometheus.yml", folder / "prometheus.log"
    config.write_text(json.dumps({"global": {"scrape_interval": "2s"}, "scrape_configs": targets}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [
        *(program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address={url.removeprefix('http://')}", f"--web.external-url={url}{path}"),
    ]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:

        def has_asked() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                up = json.load(urllib.request.urlopen(f"{url}{path}/api/v1/query?query=up"))
            except OSError:
                return False
            return [series["value"][1] for series in up["data"]["result"]] == ["1"] * len(scraped)

        try:
            wait_until(has_asked, 60)
            yield url + path
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server behind a path, as many are, that knows two GPUs."""
    with nodes(sends(answer(PAGE.read_bytes(), headers=HEADERS))) as (node,):
        target = f"{node.address}:{node.port}"
        with prometheus(tmp_path_factory.mktemp("prometheus"), "/watch", target) as url:
            yield url


@pytest.mark.parametrize("end", ["", "/"])
def test_queries_give_numbers_by_name(server, end):
    """A cluster of any size becomes a few curves: the server does the reckoning."""
    queries = {
        "answer": "6 * 7",
        "gpu.util_mean": f"avg({UTIL})",
        "gpu.mem_gb": "sum(ray_node_gram_used) / 1024",
        "gpus_broken": f"count({UTIL} < 0)",
    }

    values = PrometheusSource(server + end, queries)()

    assert values == {
        "prometheus/answer": 42.0,
        "prometheus/gpu.util_mean": 65.0,
        "prometheus/gpu.mem_gb": (12345 + 2048) / 1024,
    }


def test_labels_in_a_name_tell_series_apart(server):
    """Names are as those of the source that asks Ray's nodes itself, so that charts stay."""
    queries = {
        "node.{ip}.gpu.{GpuIndex}.util": UTIL,
        "{GpuDeviceName}.{rack}": f"max by (GpuDeviceName) ({UTIL})",
        "{{{GpuIndex}}}": f"{UTIL} > 50",
        "of.{ip}": "1",
    }

    values = PrometheusSource(server, queries, prefix="ray")()

    assert values == {
        "ray/node.192.0.2.2.gpu.0.util": 42.0,
        "ray/node.192.0.2.2.gpu.1.util": 88.0,
        "ray/NVIDIA_A100-SXM4-40GB.none": 88.0,
        "ray/{1}": 88.0,
        "ray/of.none": 1.0,
    }


def test_several_values_under_one_name_are_refused(server):
    """One of them would stand for all; the message names what tells them apart."""
    source = PrometheusSource(server, {"node.{ip}.util": UTIL})

    with pytest.raises(ValueError, match=r"name it by labels: \{GpuIndex\}, \{GpuUuid\}$") as refused:
        source()

    assert f"'{UTIL}' gives several values named 'node.192.0.2.2.util'" in str(refused.value)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("avg(", "parse error: unclosed left parenthesis"),
        (f"{UTIL} + on (ip) ray_node_gram_used", "found duplicate series for the match group"),
        (f"{UTIL}[1m]", "gives a matrix, not a number or one for each series"),
        ("'text'", "gives a string, not a number or one for each series"),
    ],
)
def test_query_that_gives_no_numbers_is_told_of_with_the_reason(server, query, reason):
    """Queries are written by hand: what is wrong with one, only the server knows."""
    with pytest.raises(ValueError, match=re.escape(reason)) as refused:
        PrometheusSource(server, {"x": query})()

    assert repr(query) in str(refused.value)


def test_numbers_that_are_none_are_kept(server):
    """A ratio over nothing is no error, and a curve may show it as it likes."""
    values = PrometheusSource(server, {"nan": "0 / 0", "inf": f"-sum({UTIL}) / 0"}, prefix="")()

    assert math.isnan(values["nan"])
    assert values["inf"] == -math.inf


def test_server_that_is_gone_is_an_error_of_the_system(tmp_path):
    """The system's own errors are told in one line, without a traceback through this package."""
    with prometheus(tmp_path, "") as url:
        source = PrometheusSource(url, {"x": "1"}, prefix="")
        before = source()

    with pytest.raises(ConnectionRefusedError):
        source()

    assert before == {"x": 1.0}


@pytest.mark.parametrize(
    ("says", "error", "message"),
    [
        (
            sends(answer(b"<html>Grafana</html>")),
            ValueError,
            r"no Prometheus server: it answers 200: b'<html>",
        ),
        (sends(answer(b"no", "403 Forbidden")), ValueError, r"no Prometheus server: it answers 403: b'no'"),
        (sends(answer(b"[1]")), ValueError, "no Prometheus server"),
        (sends(answer(b'{"status": "UP"}')), ValueError, "no Prometheus server"),
        (sends(answer(b"\xff")), ValueError, "no Prometheus server"),
        (endless, ValueError, "its answer is longer than 8 MiB"),
        (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), http.client.HTTPException, "SSH-2.0"),
        (sends(), OSError, "closed connection|reset"),
        (never, TimeoutError, "timed out"),
    ],
    ids=["html", "403", "list", "another API", "no text", "endless", "ssh", "nothing", "never"],
)
def test_what_is_no_prometheus_is_told_as_such(says, error, message):
    """A port mistaken for another is the first mistake that is made here."""
    with nodes(says) as (node,):
        source = PrometheusSource(f"http://{node.address}:{node.port}", {"x": "1"}, timeout_s=0.5)

        with pytest.raises(error, match=message):
            source()


def test_values_stand_in_the_csv(server, tmp_path):
    """End to end, beside what training records."""
    queries = {"gpu.util": f"avg({UTIL})", "gpu.{GpuIndex}.mem_mib": "ray_node_gram_used"}
    arguments = {"url": server, "queries": queries, "every_s": 0.1}
    logger = configure(tmp_path, ["csv"], sources=["prometheus"], prometheus=arguments)
    last: dict[str, Any] = {}

    def logged() -> bool:
        logger.record("loss", 0.5)
        logger.dump()
        last.update(pandas.read_csv(tmp_path / "progress.csv").iloc[-1])
        return "prometheus/gpu.util" in last

    with contextlib.closing(logger):
        wait_until(logged, 60)

    del last["time"], last["step"], last["prometheus/sample_age_s"]
    assert last == {
        "loss": 0.5,
        "prometheus/gpu.util": 65.0,
        "prometheus/gpu.util_max": 65.0,
        "prometheus/gpu.0.mem_mib": 12345.0,
        "prometheus/gpu.1.mem_mib": 2048.0,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"url": "127.0.0.1:9090"},
            "url is the address of a Prometheus server, such as http://127.0.0.1:9090, not",
        ),
        ({"url": "https://host"}, "url is the address of a Prometheus server"),
        ({"url": "http://:9090"}, "url is the address of a Prometheus server"),
        ({"url": None}, "url is the address of a Prometheus server"),
        ({"url": "http://host:port"}, "[Pp]ort"),
        ({"queries": {}}, "queries are PromQL by metric name, not {}"),
        ({"queries": "up"}, "queries are PromQL by metric name, not 'up'"),
        ({"queries": {"x": " "}}, "and ' ' is no query"),
        ({"queries": {"x": None}}, "and None is no query"),
        ({"queries": {1: "up"}}, "1 is no name of a metric"),
        ({"queries": {"node.{ip": "up"}}, "'node.{ip' is no name of a metric: expected '}'"),
        ({"queries": {"node.{}": "up"}}, "in braces stand names of labels"),
        ({"queries": {"node.{ip!r}": "up"}}, "in braces stand names of labels"),
        ({"queries": {"node.{ip:>9}": "up"}}, "in braces stand names of labels"),
        ({"every_s": 0}, "every_s is a number of seconds above 0, not 0"),
        ({"timeout_s": -1}, "timeout_s is a number of seconds above 0, not -1"),
    ],
)
def test_wrong_argument_is_refused_where_it_was_given(arguments, message):
    """Else it would be told every ten seconds of a run that is on its way."""
    with pytest.raises(ValueError, match=message):
        PrometheusSource(**{"url": URL, "queries": {"x": "up"}, **arguments})
