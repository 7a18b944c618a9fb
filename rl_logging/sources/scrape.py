"""Metrics pages of many nodes, asked for at once, and never waited for.

Ray's exporter serves one connection at a time: so one request a node, closed at once, and no
second one while the first has no answer.
"""

import contextlib
import http.client
import queue
import socket
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

Target = tuple[str, int]
"""A node's address and the port of its metrics."""

Said = TypeVar("Said")
_THREADS = 32
_PATIENCE_S = 0.5  # since the last answer; who has not answered then is published later
_CHUNK = 1 << 16
_SHOWN = 200  # bytes of an answer that is an error
_GZIP = 31  # zlib's word for a gzip header


class Scraper(Generic[Said]):
    """Asks nodes for their pages.

    :param read: called with each page, in a thread of the scraper's, so that no pages pile up; it
        gives what the page says, or raises ValueError if it is none
    :param take: called with what ``read`` gave, in the thread that calls :meth:`ask`
    :param timeout_s: for one node, from its connection to its last byte
    :param max_bytes: of a page; a longer one counts as none
    """

    def __init__(
        self,
        read: Callable[[Target, bytes], Said],
        take: Callable[[Target, Said], object],
        timeout_s: float = 1.0,
        max_bytes: int = 8 << 20,
    ) -> None:
        self.silent: dict[Target, str] = {}
        """The nodes that have not answered when last asked, and why."""
        self._read, self._take = read, take
        self._timeout_s, self._max_bytes = timeout_s, max_bytes
        self._asked: set[Target] = set()  # and no answer yet
        self._answers: queue.SimpleQueue[tuple[Target, Said | Exception]] = queue.SimpleQueue()

    def ask(self, targets: Iterable[Target]) -> None:
        """Ask nodes, and return when all have answered of whom it can be expected.

        A node that was silent before is not waited for, and nobody longer than half a second
        beyond the last answer. What comes later is taken with the next call.
        """
        targets = dict.fromkeys(targets)
        self.silent = {target: why for target, why in self.silent.items() if target in targets}
        trusted_first = sorted(targets, key=self.silent.__contains__)
        todo = deque(target for target in trusted_first if target not in self._asked)
        awaited = {target for target in todo if target not in self.silent}
        self._asked.update(todo)
        for _ in range(min(_THREADS, len(todo))):
            threading.Thread(target=self._work, args=(todo,), name="scrape", daemon=True).start()
        for target, answer in self._answered(todo, awaited):
            self._asked.discard(target)
            awaited.discard(target)
            if isinstance(answer, Exception):
                self.silent[target] = str(answer) or type(answer).__name__
            else:
                self.silent.pop(target, None)
                self._take(target, answer)
        for target in awaited:
            self.silent[target] = "no answer yet"

    def _answered(
        self, todo: "deque[Target]", awaited: set[Target]
    ) -> Iterator[tuple[Target, Said | Exception]]:
        """The answers, until all that are awaited are there or seem to stay away."""
        while True:
            try:
                yield self._answers.get(timeout=_PATIENCE_S if awaited else 0)
            except queue.Empty:
                if not awaited or not todo:
                    return

    def _work(self, todo: "deque[Target]") -> None:
        while True:
            try:
                target = todo.popleft()
            except IndexError:
                return
            try:
                page = fetch(*target, self._timeout_s, self._max_bytes)
                answer: Said | Exception = self._read(target, page)
            except (OSError, ValueError, http.client.HTTPException, zlib.error) as error:
                answer = error
            self._answers.put((target, answer))


def fetch(address: str, port: int, timeout_s: float, max_bytes: int) -> bytes:
    """Get one page, and close the connection.

    Neither a proxy nor a redirection is followed.

    :param timeout_s: for all of it
    :raises OSError: there is no answer in time
    :raises ValueError: the answer is no page, or a longer one than ``max_bytes``
    :raises http.client.HTTPException: the answer is no HTTP
    :raises zlib.error: the page is damaged
    """
    ends = time.monotonic() + timeout_s
    connection = http.client.HTTPConnection(address, port)
    with contextlib.closing(connection):
        connection.sock = _connected(address, port, timeout_s, ends)
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip", "Connection": "close"})
        with connection.getresponse() as response:
            if response.status != http.client.OK:
                raise ValueError(f"it answers {response.status}: {response.read1(_SHOWN)!r}")
            return _body(response, max_bytes)


def _body(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    is_packed = response.headers.get("Content-Encoding", "").lower() == "gzip"
    unpacker = zlib.decompressobj(_GZIP)
    page = bytearray()
    while chunk := response.read1(_CHUNK):
        page += unpacker.decompress(chunk, max_bytes + 1) if is_packed else chunk
        if len(page) > max_bytes:
            raise ValueError(f"its page is longer than {max_bytes >> 20} MiB")
    if (is_packed and not unpacker.eof) or response.length:
        raise ValueError("its page is cut off")
    return bytes(page)


class _TimedSocket(socket.socket):
    """A socket that gives up at a time, however slowly the other side sends."""

    ends = 0.0

    def recv_into(self, *args: Any) -> int:
        left_s = self.ends - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left_s)
        return super().recv_into(*args)


def _connected(address: str, port: int, timeout_s: float, ends: float) -> _TimedSocket:
    plain = socket.create_connection((address, port), timeout_s)
    timed = _TimedSocket(fileno=plain.detach())
    timed.settimeout(timeout_s)
    timed.ends = ends
    return timed
