"""A proxy that does to the clients of a server on loopback what networks and servers do."""

import contextlib
import http.client
import re
import socket
import socketserver
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler
from typing import Any

_HOST = "127.0.0.1"


class FaultyProxy:
    """Stands before a server on loopback, and does to its clients what ``mode`` says.

    ===========  =====================================================================
    pass         forward; where the server is down, close the connection
    refuse       nobody listens on the port
    status 500   answer with that status, whichever it is; the server hears nothing
    hang         read the request, and never answer it
    slow 0.3     forward, and answer that many seconds after the server
    cut          forward, wait until the server has answered, and close the connection
    ===========  =====================================================================

    A change of mode cuts the connections that there are. One request is one connection,
    and the mode that counts is the one in which the request was read to its end.

    :param target_port: the server's port
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self._lock = threading.Lock()
        self._requests: list[tuple[str, str]] = []
        self._mode = _Mode("pass")
        self._listener = _Listener(self, 0)
        self.port: int = self._listener.server_address[1]
        self.url = f"http://{_HOST}:{self.port}"
        self._listener.listen()

    @property
    def mode(self) -> str:
        """What is done to the clients; may be set at any time, by one thread."""
        return self._mode.name

    @mode.setter
    def mode(self, name: str) -> None:
        former, self._mode = self._mode, _Mode(name)
        former.left.set()
        self._listener.cut()
        if name == "refuse" and self._listener.listens:
            self._listener.close()
            # One that is bound and does not listen refuses, and keeps the port from others.
            self._listener = _Listener(self, self.port)
        elif name != "refuse" and not self._listener.listens:
            self._listener.listen()

    @property
    def requests(self) -> list[tuple[str, str]]:
        """The method and path, without its query, of each request that was read so far."""
        with self._lock:
            return list(self._requests)

    def took(self, method: str, path: str) -> "_Mode":
        """Count a request, and say what to do with it."""
        with self._lock:
            self._requests.append((method, path.partition("?")[0]))
        return self._mode

    def close(self) -> None:
        self._mode.left.set()
        self._listener.close()

    def __enter__(self) -> "FaultyProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Mode:
    """What to do with a request, and whether this is still the mode."""

    def __init__(self, name: str) -> None:
        kinds = r"pass|refuse|hang|cut|status (?P<status>[1-5]\d\d)|slow (?P<delay_s>\d+(\.\d+)?)"
        found = re.fullmatch(kinds, name)
        if found is None:
            raise ValueError(f"no mode {name!r}: pass, refuse, status 500, hang, slow 0.3 or cut")
        self.name = name
        self.kind = name.partition(" ")[0]
        self.status = int(found["status"] or 0)
        self.delay_s = float(found["delay_s"] or 0)
        self.left = threading.Event()


class _Listener(socketserver.ThreadingTCPServer):
    """A port, bound at once, and the connections that were made to it."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, proxy: FaultyProxy, port: int) -> None:
        super().__init__((_HOST, port), _Handler, bind_and_activate=False)
        self.proxy = proxy
        self._open: set[Any] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.02,), name="faulty proxy", daemon=True
        )
        self.server_bind()

    @property
    def listens(self) -> bool:
        return self._thread.is_alive()

    def listen(self) -> None:
        self.server_activate()
        self._thread.start()

    def close(self) -> None:
        if self.listens:
            self.shutdown()
            self._thread.join(10)
        self.server_close()
        self.cut()

    def cut(self) -> None:
        """End every connection, whatever its thread is doing."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
            super().shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    """One connection, for one request."""

    protocol_version = "HTTP/1.1"
    server: _Listener

    def handle(self) -> None:
        # Either side may be gone at any moment: that is what this is for.
        with contextlib.suppress(OSError, http.client.HTTPException):
            super().handle()

    def answer(self) -> None:
        self.close_connection = True
        body = self._body()
        mode = self.server.proxy.took(self.command, self.path)
        if mode.kind == "hang":
            mode.left.wait()
        elif mode.kind == "status":
            text = f"{mode.name}, says the proxy".encode()
            self._reply(mode.status, {"Content-Type": "text/plain", "Content-Length": str(len(text))}, text)
        elif mode.kind in ("pass", "slow", "cut"):
            answer = self._forward(body)
            mode.left.wait(mode.delay_s)
            if mode.kind != "cut":
                self._reply(*answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def _body(self) -> bytes:
        """All of it, or nothing is forwarded."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self._read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self._line(), 16):
            chunks.append(self._read(size))
            self._line()
        self._line()
        return b"".join(chunks)

    def _read(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionError("the client left within its request")
        return data

    def _line(self) -> bytes:
        line = self.rfile.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the client left within its request")
        return line

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        server = http.client.HTTPConnection(_HOST, self.server.proxy.target_port, timeout=60)
        with contextlib.closing(server):
            server.request(self.command, self.path, body or None, _end_to_end(self.headers))
            answer = server.getresponse()
            return answer.status, _end_to_end(answer.headers), answer.read()

    def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _end_to_end(headers: Message) -> dict[str, str]:
    """Those that are not about one connection alone."""
    hop = ("connection", "keep-alive", "transfer-encoding", "expect")
    return {name: value for name, value in headers.items() if name.lower() not in hop}
