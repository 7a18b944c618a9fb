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
from typing import Any, NamedTuple

Target = tuple[str, int]
"""A node's address and the port of its metrics."""

_THREADS = 32
# Since the last answer; who has not answered then is published later. Less where nearly all have.
_PATIENCE_S, _LAST_PATIENCE_S, _NEARLY_ALL = 0.5, 0.1, 0.95
_PIECE = 1 << 16  # bytes
_NO_PAGE = (OSError, ValueError, http.client.HTTPException, zlib.error)
_SHOWN = 200  # bytes of an answer that is an error
_GZIP = 31  # zlib's word for a gzip header


class Body(NamedTuple):
    """A page as it came."""

    content: bytes
    is_packed: bool


class Scraper:
    """Asks nodes for their pages.

    :param take: called with the pieces of each page that comes, in the thread that calls
        :meth:`ask`; it raises ValueError if that is no page
    :param timeout_s: for one node, from its connection to its last byte
    :param max_bytes: of a page; a longer one counts as none
    """

    def __init__(
        self,
        take: Callable[[Target, Iterator[bytes]], object],
        timeout_s: float = 1.0,
        max_bytes: int = 8 << 20,
    ) -> None:
        self.silent: dict[Target, str] = {}
        """The nodes that have not answered when last asked, and why."""
        self._take = take
        self._timeout_s, self._max_bytes = timeout_s, max_bytes
        self._asked: set[Target] = set()  # and no answer yet
        self._answers: queue.SimpleQueue[tuple[Target, Body | Exception]] = queue.SimpleQueue()

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
        for target, answer in self._answered(todo, awaited, (1 - _NEARLY_ALL) * len(targets)):
            self._asked.discard(target)
            awaited.discard(target)
            if target not in targets:  # it has left since
                continue
            try:
                if isinstance(answer, Exception):
                    raise answer
                self._take(target, unpacked(answer, self._max_bytes))
                self.silent.pop(target, None)
            except _NO_PAGE as error:
                self.silent[target] = str(error) or type(error).__name__
        for target in awaited:
            self.silent[target] = "no answer yet"

    def _answered(
        self, todo: "deque[Target]", awaited: set[Target], few: float
    ) -> Iterator[tuple[Target, Body | Exception]]:
        """The answers, until all that are awaited are there or seem to stay away."""
        while True:
            try:
                patience_s = _PATIENCE_S if len(awaited) > few else _LAST_PATIENCE_S
                yield self._answers.get(timeout=patience_s if awaited else 0)
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
                answer: Body | Exception = fetch(*target, self._timeout_s, self._max_bytes)
            except _NO_PAGE as error:
                answer = error
            self._answers.put((target, answer))


def fetch(address: str, port: int, timeout_s: float, max_bytes: int) -> Body:
    """Get one page, and close the connection.

    Neither a proxy nor a redirection is followed.

    :param timeout_s: for all of it
    :raises OSError: there is no answer in time
    :raises ValueError: the answer is no page, or a longer one than ``max_bytes``
    :raises http.client.HTTPException: the answer is no HTTP
    """
    ends = time.monotonic() + timeout_s
    connection = http.client.HTTPConnection(address, port)
    with contextlib.closing(connection):
        connection.sock = _connected(address, port, timeout_s, ends)
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip", "Connection": "close"})
        with connection.getresponse() as response:
            if response.status != http.client.OK:
                raise ValueError(f"it answers {response.status}: {response.read1(_SHOWN)!r}")
            content = response.read(max_bytes + 1)
            _check_length(len(content), max_bytes)
            if response.length:
                raise ValueError("its page is cut off")
            return Body(content, response.headers.get("Content-Encoding", "").lower() == "gzip")


def unpacked(body: Body, max_bytes: int) -> Iterator[bytes]:
    """A page in pieces, which stay in the processor's caches.

    :raises ValueError: it is cut off, or longer than ``max_bytes``
    :raises zlib.error: it is damaged
    """
    if not body.is_packed:
        yield body.content
        return
    unpacker, packed, length = zlib.decompressobj(_GZIP), body.content, 0
    while packed:
        piece = unpacker.decompress(packed, _PIECE)
        packed = unpacker.unconsumed_tail
        length += len(piece)
        _check_length(length, max_bytes)
        yield piece
    if not unpacker.eof:
        raise ValueError("its page is cut off")


def _check_length(length: int, max_bytes: int) -> None:
    if length > max_bytes:
        raise ValueError(f"its page is longer than {max_bytes >> 20} MiB")


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
