"""Nodes that serve metrics pages on loopback, well or badly."""

import contextlib
import gzip
import socket
import threading
from collections.abc import Callable, Iterator

from rl_logging.sources.ray_names import Named

LINES = (
    'ray_node_cpu_utilization{{ip="{ip}"}} {cpu}\n'
    'ray_node_gpus_utilization{{GpuDeviceName="T4",GpuIndex="0",GpuUuid="GPU-{ip}"}} {util}\n'
)


class MetricsNode:
    """One node; every connection is answered in turn, as Ray's exporter does.

    :param answer: gets each connection's socket after the request was read
    :param address: an address of this machine; each of 127.0.0.0/8 is one
    """

    def __init__(self, answer: Callable[[socket.socket], None], address: str = "127.0.0.1") -> None:
        self.requests: list[bytes] = []
        self.connections = 0  # now open
        self.most_connections = 0
        self._answer = answer
        self._lock = threading.Lock()
        self._listener = socket.create_server((address, 0), backlog=64)
        self.address, self.port = self._listener.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def target(self) -> tuple[str, int]:
        return self.address, self.port

    def named(self, name: str) -> Named:
        return Named(name, self.address, self.port)

    def close(self) -> None:
        """Refuse connections from now on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            self.most_connections = max(self.connections, self.most_connections)
        with connection, contextlib.suppress(OSError):  # the other side has gone
            self.requests.append(connection.recv(1 << 16))
            self._answer(connection)
        with self._lock:
            self.connections -= 1


def page(cpu: float = 50.0, util: float = 25.0, ip: str = "127.0.0.1") -> bytes:
    """A small page of a node with one GPU."""
    return LINES.format(cpu=cpu, util=util, ip=ip).encode()


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def sends(*parts: bytes) -> Callable[[socket.socket], None]:
    """Answers so, whoever asks."""

    def answer(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)

    return answer


def packed(body: bytes) -> bytes:
    """The answer of an exporter that compresses."""
    return http(gzip.compress(body), headers="Content-Encoding: gzip\r\n")


def never(connection: socket.socket) -> None:
    """Holds the connection until the other side gives up."""
    while connection.recv(1 << 16):
        continue


def endless(connection: socket.socket) -> None:
    """Sends as long as somebody reads."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * (1 << 16))


def drips(connection: socket.socket) -> None:
    """Sends a byte each 20 ms, and never ends."""
    connection.settimeout(0.02)
    for byte in b"HTTP/1.1 200 OK\r\n" + b"x-header: y\r\n" * 10_000:
        connection.sendall(bytes([byte]))
        with contextlib.suppress(TimeoutError):
            if not connection.recv(1):
                return


@contextlib.contextmanager
def nodes(*answers: Callable[[socket.socket], None]) -> Iterator[list[MetricsNode]]:
    """Nodes with addresses of their own."""
    started = [MetricsNode(answer, f"127.0.1.{number}") for number, answer in enumerate(answers, 1)]
    try:
        yield started
    finally:
        for node in started:
            node.close()
