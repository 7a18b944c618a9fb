"""The servers that other tests are run against: they must misbehave as said, and in no other way."""

import http.client
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from faulty_proxy import FaultyProxy
from waiting import wait_until

from rl_logging.mlflow_server import MLflowServer


class Target(ThreadingHTTPServer):
    """A server that keeps what it is sent, and sends it back in capitals."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Keep)
        self.bodies: list[bytes] = []


class _Keep(BaseHTTPRequestHandler):
    server: Target

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        self.send_response(201)
        self.send_header("X-Path", self.path)
        self.end_headers()
        self.wfile.write(body.upper())

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def target() -> Iterator[Target]:
    with Target() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.fixture
def proxy(target: Target) -> Iterator[FaultyProxy]:
    with FaultyProxy(target.server_address[1]) as proxy:
        yield proxy


class Client(http.client.HTTPConnection):
    """A client that would keep its connection, if it could."""

    def __init__(self, proxy: FaultyProxy, timeout_s: float = 30) -> None:
        super().__init__("127.0.0.1", proxy.port, timeout=timeout_s)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def post(self, body: Any, path: str = "/a/b?c=d") -> tuple[int, str | None, bytes]:
        """The status, the path that the server saw, and the body of the answer."""
        self.request("POST", path, body)
        answer = self.getresponse()
        return answer.status, answer.getheader("X-Path"), answer.read()


def post(proxy: FaultyProxy, body: Any) -> tuple[int, str | None, bytes]:
    with Client(proxy) as client:
        return client.post(body)


def test_pass_changes_nothing(target: Target, proxy: FaultyProxy) -> None:
    """What is seen through the proxy must come from the server, empty and streamed bodies too."""
    answers = [post(proxy, body) for body in (b"hello", b"x" * 3_000_000, b"", iter([b"in ", b"parts"]))]

    assert answers == [(201, "/a/b?c=d", body) for body in (b"HELLO", b"X" * 3_000_000, b"", b"IN PARTS")]
    assert target.bodies == [b"hello", b"x" * 3_000_000, b"", b"in parts"]
    assert proxy.requests == [("POST", "/a/b")] * 4


def test_a_server_that_is_down_answers_nothing(proxy: FaultyProxy) -> None:
    """A proxy that made up an answer would hide what the client does without one."""
    proxy.target_port = 9

    with pytest.raises(http.client.RemoteDisconnected):
        post(proxy, b"hello")


def test_refuse_is_a_port_where_nobody_listens(target: Target, proxy: FaultyProxy) -> None:
    """As while a server is started again; it must come back where its clients look for it."""
    for _ in range(2):
        proxy.mode = "refuse"
        with pytest.raises(ConnectionRefusedError):
            post(proxy, b"lost")
        proxy.mode = "pass"
        assert post(proxy, b"hello")[0] == 201

    assert target.bodies == [b"hello"] * 2
    assert len(proxy.requests) == 2


@pytest.mark.parametrize("status", [500, 429, 400, 401])
def test_status_answers_without_the_server(status: int, target: Target, proxy: FaultyProxy) -> None:
    """A client tells by the status alone whether it helps to try again."""
    proxy.mode = f"status {status}"

    assert post(proxy, b"hello") == (status, None, f"status {status}, says the proxy".encode())
    assert target.bodies == []
    assert proxy.requests == [("POST", "/a/b")]


def test_hang_answers_nobody(target: Target, proxy: FaultyProxy) -> None:
    """The failure that costs a client most: only its own patience ends it."""
    proxy.mode = "hang"

    with Client(proxy, timeout_s=0.2) as client, pytest.raises(TimeoutError):
        client.post(b"hello")
    wait_until(lambda: proxy.requests == [("POST", "/a/b")], timeout_s=10)
    assert target.bodies == []


def test_slow_answers_late(target: Target, proxy: FaultyProxy) -> None:
    """The server is quick and the network is not."""
    proxy.mode = "slow 0.3"
    begin = time.monotonic()

    assert post(proxy, b"hello") == (201, "/a/b?c=d", b"HELLO")
    assert time.monotonic() - begin >= 0.3


def test_cut_takes_effect_without_an_answer(target: Target, proxy: FaultyProxy) -> None:
    """A client that tries again without a thought writes twice."""
    proxy.mode = "cut"

    with pytest.raises(http.client.RemoteDisconnected):
        post(proxy, b"hello")
    assert target.bodies == [b"hello"]


def test_each_request_sees_the_present_mode(target: Target, proxy: FaultyProxy) -> None:
    """A connection kept open would stay in the mode in which it was opened."""
    statuses = []
    with Client(proxy) as client:
        for mode in ("pass", "status 500", "slow 0.01", "status 429", "pass"):
            proxy.mode = mode
            statuses.append(client.post(b"hello")[0])

    assert statuses == [201, 500, 201, 429, 201]


@pytest.mark.parametrize("end", ["pass", "refuse", "close"])
def test_a_change_ends_what_hangs(end: str, target: Target, proxy: FaultyProxy) -> None:
    """A test that goes on to the next failure is not held up by the one before."""
    proxy.mode = "hang"
    with Client(proxy) as client, socket.create_connection(("127.0.0.1", proxy.port), 30) as idle:
        client.request("POST", "/", b"hello")
        wait_until(lambda: len(proxy.requests) == 1, timeout_s=10)
        if end == "close":
            proxy.close()
        else:
            proxy.mode = end

        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            client.getresponse()
        assert idle.recv(1) == b""
    assert target.bodies == []


@pytest.mark.parametrize("mode", ["", "pas", "pass 1", "status", "slow", "status many"])
def test_a_mode_that_there_is_not_is_told(mode: str, proxy: FaultyProxy) -> None:
    """A misspelt failure is one that is not tested."""
    with pytest.raises(ValueError, match=f"no mode {mode!r}: pass, refuse"):
        proxy.mode = mode
    assert proxy.mode == "pass"


def test_close_leaves_no_thread_and_no_port(target: Target) -> None:
    """A hundred tests must not end with a hundred proxies."""
    before = set(threading.enumerate())
    proxy = FaultyProxy(target.server_address[1])
    proxy.mode = "hang"
    with Client(proxy) as client:
        client.request("POST", "/", b"hello")
        wait_until(lambda: len(proxy.requests) == 1, timeout_s=10)
        proxy.close()
        proxy.close()

    wait_until(lambda: set(threading.enumerate()) <= before, timeout_s=10)
    with pytest.raises(ConnectionRefusedError):
        post(proxy, b"hello")


def test_a_killed_server_comes_back_as_it_was(tmp_path: Path) -> None:
    """Its clients find the same address and the same runs, and nothing of it lives on between."""
    from mlflow import MlflowClient

    with MLflowServer(tmp_path) as server, FaultyProxy(server.port) as proxy:
        identity = MlflowClient(proxy.url).create_experiment("before")
        server.kill()
        left = _processes_of(tmp_path)
        with pytest.raises(http.client.RemoteDisconnected):
            post(proxy, b"hello")
        server.start()
        name = MlflowClient(proxy.url).get_experiment(identity).name

    assert left == []
    assert name == "before"
    assert ("POST", "/api/2.0/mlflow/experiments/create") in proxy.requests
    assert server.answered("experiments/create") == 1
    assert _processes_of(tmp_path) == []


def _processes_of(folder: Path) -> list[str]:
    """The command lines of the processes that work in a folder."""
    environment = {**os.environ, "COLUMNS": "10000"}
    text = subprocess.run(
        ["ps", "-A", "-ww", "-o", "args="], check=True, capture_output=True, text=True, env=environment
    ).stdout
    return [line for line in text.splitlines() if str(folder) in line]
