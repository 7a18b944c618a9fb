"""Inbox: asks the handles of a logger for what their workers recorded."""

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
import shutil
import tempfile
import threading
from typing import Any

from rl_logging.distributed.parts import Part, follow
from rl_logging.distributed.place import FRAME, NONCE, QUESTION, WELCOME, Place
from rl_logging.distributed.wire import unpacked
from rl_logging.errors import Trouble, named

_log = logging.getLogger("rl_logging")
_PATIENCE_S = 5.0  # for workers, at a dump; once, for one that is late
_HELLO_S = 10.0
_ANSWER_S = 30.0  # of the inbox's own thread, which waits for nobody so long
_LARGEST = 1 << 26  # bytes of a part


class Inbox:
    """Listens at a socket in a folder of this user's, and on the network if a host is given.

    All connections are served by one thread. What workers send without being asked is kept,
    reduced, so that it takes no more memory the longer no dump comes.

    :param host: this machine's address for workers on others
    """

    def __init__(self, trouble: Trouble, host: str | None = None) -> None:
        self._trouble = trouble
        self._folder = tempfile.mkdtemp(prefix="rl_logging-")
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[_Connection] = set()
        self._parts: dict[_Connection, Part] = {}
        self._question = 0
        self._news = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rl_logging inbox", daemon=True)
        self._thread.start()
        self.place: Place = self._call(self._listen(host))

    def collect(self) -> list[Part]:
        """What each worker recorded since the last call; five seconds are waited for those that are late."""
        return self._call(self._ask()) if self._connections or self._parts else []

    def close(self) -> None:
        """Listen no more."""
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _shut(self) -> None:
        for server in self._servers:
            server.close()
        for writer in self._writers:
            writer.close()
        ours = asyncio.current_task()
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not ours))

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_ANSWER_S)

    async def _listen(self, host: str | None) -> Place:
        path, token, address = os.path.join(self._folder, "inbox"), secrets.token_bytes(32), None

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(reader, writer, token)

        self._servers.append(await asyncio.start_unix_server(serve, path))
        if host is not None:
            self._servers.append(await asyncio.start_server(serve, host))
            address = host, self._servers[-1].sockets[0].getsockname()[1]
        return Place(path, address, token)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: bytes) -> None:
        """Take what one worker sends, until it is gone."""
        connection = _Connection(writer)
        self._writers.add(writer)
        try:
            nonce = secrets.token_bytes(NONCE)
            writer.write(nonce)
            answer = await asyncio.wait_for(reader.readexactly(32), _HELLO_S)
            if not hmac.compare_digest(answer, hmac.digest(token, nonce, "sha256")):
                self._trouble.tell(
                    "stranger", "inbox: a stranger was refused, who does not know the handles' token"
                )
                return
            self._connections.add(connection)
            writer.write(WELCOME)
            while True:
                question, size = FRAME.unpack(await reader.readexactly(FRAME.size))
                if size > _LARGEST:
                    raise ValueError(f"a part of {size} bytes is too large")
                if size:
                    self._keep(connection, await reader.readexactly(size))
                connection.answered = max(connection.answered, question)
                self._news.set()
        except ValueError as error:
            self._trouble.tell("part", f"inbox: a worker is not listened to any more: {error}")
        except (asyncio.IncompleteReadError, asyncio.TimeoutError, OSError) as error:
            # The worker's process has ended, as processes do; what it sent stays.
            _log.debug("inbox: worker %d is gone: %r", connection.rank, error)
        finally:
            self._connections.discard(connection)
            self._writers.discard(writer)
            self._news.set()
            writer.close()

    def _keep(self, connection: "_Connection", content: bytes) -> None:
        try:
            part = unpacked(content)
        except ValueError as error:
            told = f"what worker {connection.rank} recorded since it last sent something is left out: {error}"
            self._trouble.tell(f"part {connection.rank}", told)
            return
        known = self._parts.get(connection)
        self._parts[connection] = part if known is None else follow(known, part)
        (connection.rank,) = part.ranks

    async def _ask(self) -> list[Part]:
        self._question += 1
        asked = [connection for connection in self._connections if connection.ask(self._question)]
        deadline = self._loop.time() + _PATIENCE_S
        while self._lacking(asked) and (left_s := deadline - self._loop.time()) > 0:
            self._news.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), left_s)
        if lacking := self._lacking(asked):
            ranks = tuple(sorted(connection.rank for connection in lacking))
            late = f"workers: {named(ranks)} did not answer within {_PATIENCE_S:g} s"
            self._trouble.tell("workers", f"{late}; what they recorded comes later")
        parts, self._parts = list(self._parts.values()), {}
        return parts

    def _lacking(self, asked: "list[_Connection]") -> "list[_Connection]":
        return [each for each in asked if each in self._connections and each.answered < self._question]


class _Connection:
    """One worker.

    :ivar rank: its number, as soon as it has sent something
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.rank = -1
        self.asked = self.answered = 0
        self._writer = writer

    def ask(self, question: int) -> bool:
        """Ask for what was recorded; tell whether the last question was answered, and so this may be."""
        if self.answered < self.asked:
            return False
        self.asked = question
        self._writer.write(QUESTION.pack(question))
        return True
