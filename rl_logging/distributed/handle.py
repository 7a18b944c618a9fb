"""Handle: the record methods for a worker; what it records is in the logger's next dump.

The logger's inbox asks for it at each dump, over a socket. A thread here answers, so that
the worker itself neither waits nor has to send anything.
"""

import os
import select
import socket
import threading
from collections.abc import Callable
from multiprocessing.util import Finalize
from typing import Any

from rl_logging.distributed.buffer import Buffer
from rl_logging.distributed.methods import Exclude, RecordMethods
from rl_logging.distributed.parts import Part, follow
from rl_logging.distributed.place import FRAME, QUESTION, Place, connected, received
from rl_logging.distributed.recorder import Recorder
from rl_logging.distributed.timers import Timers
from rl_logging.distributed.wire import packed
from rl_logging.errors import Trouble
from rl_logging.values import describe

BEAT_S = 1.0  # what a worker that is killed has recorded is lost for so long, at most
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 16.0


class Handle(RecordMethods):
    """The record methods and timers of a logger, for a worker in another process.

    Give it to an environment, a Ray actor or task, or a process; it can be pickled, and goes
    on after a fork. What a worker recorded before the logger's ``dump`` is in that dump, with
    what others recorded, reduced as by ranks. A worker that is killed loses what it recorded
    in the last second, at most. ::

        handle = logger.handle()
        env = SubprocVecEnv([lambda: MyEnv(handle) for _ in range(8)])

        def step(self, action):  # in MyEnv
            self.handle.record_mean("env/energy", energy)

    :param rank: the worker's number in ``@slowest_rank`` and in messages
    """

    def __init__(self, place: Place, rank: int) -> None:
        self.rank = rank
        self._place = place

    def __repr__(self) -> str:
        return f"Handle(rank={self.rank})"

    def record(self, key: str, value: Any, exclude: Exclude = None) -> None:
        """Record a number or a text; of several under one key, the last, of the lowest rank."""
        self._worker().recorder.record(key, value, exclude)

    def record_mean(self, key: str, value: Any, exclude: Exclude = None, *, weight: float = 1) -> None:
        """As :meth:`record`, but of several numbers under one key, the mean.

        :param weight: how much the number counts, such as the size of its batch; 0 is not at all
        """
        self._worker().recorder.record_mean(key, value, exclude, weight=weight)

    def flush(self) -> None:
        """Send what was recorded now, as before this process is killed. Nothing needs it else."""
        self._worker().send(0)

    def _reduce(self, add: Callable[..., None], key: Any, value: Any, exclude: Any, *arguments: Any) -> None:
        self._worker().recorder._reduce(add, key, value, exclude, *arguments)

    @property
    def _buffer(self) -> Buffer:  # type: ignore[override]
        return self._worker().recorder._buffer

    @property
    def _timers(self) -> Timers:  # type: ignore[override]
        return self._worker().recorder._timers

    @property
    def _trouble(self) -> Trouble:  # type: ignore[override]
        return self._worker().recorder._trouble

    def _worker(self) -> "_Worker":
        key = self._place.path, self.rank
        return _workers.get(key) or _open(key, self._place)


class _Worker:
    """What handles of one rank record in this process, and the thread that sends it.

    The thread ends when the logger is gone and nothing waits, or cannot be reached for half a
    minute. A logger's place is never another one's, so that one which was closed stays so.
    """

    def __init__(self, place: Place, rank: int) -> None:
        self.recorder = Recorder(rank)
        self._place = place
        self._socket: socket.socket | None = None
        self._unsent: Part | None = None
        self._sending = threading.Lock()
        self._connect()
        threading.Thread(target=self._run, name="rl_logging handle", daemon=True).start()
        Finalize(self, self.send, args=(0,), exitpriority=100)  # before a child of multiprocessing ends

    def send(self, question: int) -> None:
        """Send what was recorded since the last time; keep it if nobody is there."""
        with self._sending:
            self._take()
            if self._socket is None and self._unsent is not None:
                self._connect()
            if self._socket is None or not (self._unsent or question):
                return
            content = packed(self._unsent) if self._unsent else b""
            try:
                self._socket.sendall(FRAME.pack(question, len(content)) + content)
                self._unsent = None
            except OSError:  # it is told when there is no other connection
                self._disconnect()

    def _take(self) -> bool:
        """Take what was recorded; tell whether anything waits to be sent."""
        part = self.recorder.take()
        if part.states:
            self._unsent = part if self._unsent is None else follow(self._unsent, part)
        return self._unsent is not None

    def _run(self) -> None:
        """Answer the inbox's questions, and send from time to time without one."""
        pause, pause_s = threading.Event(), _FIRST_PAUSE_S
        while True:
            connection = self._socket
            if connection is not None:
                pause_s = _FIRST_PAUSE_S
                try:
                    self.send(_question(connection))
                except OSError:
                    self._disconnect()
                continue
            with self._sending:
                waits = self._take()
            if not waits or pause_s > _LONGEST_PAUSE_S:
                break
            pause.wait(pause_s)
            pause_s *= 2
            self.send(0)
        _workers.pop((self._place.path, self.recorder.rank), None)

    def _connect(self) -> None:
        try:
            self._socket = connected(self._place)
        except OSError as error:
            rank = self.recorder.rank
            told = (
                f"worker {rank} does not reach its logger, which may be closed: {describe(error)}. What is "
                "recorded here waits for half a minute, each key reduced to one value, and is lost then"
            )
            _trouble.tell(f"{self._place.path} {rank}", told)

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def _question(connection: socket.socket) -> int:
    """The number of the next question; 0 if there is none for a second."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if not poll.poll(BEAT_S * 1000):
        return 0
    return int(QUESTION.unpack(received(connection, QUESTION.size))[0])


_trouble = Trouble()
_workers: dict[tuple[str, int], _Worker] = {}
_opening = threading.Lock()


def _open(key: tuple[str, int], place: Place) -> _Worker:
    with _opening:
        if key not in _workers:
            _workers[key] = _Worker(place, key[1])
        return _workers[key]


def _forget() -> None:
    """In a fork: threads and sockets are the parent's."""
    global _opening
    _opening = threading.Lock()
    _workers.clear()


os.register_at_fork(after_in_child=_forget)
