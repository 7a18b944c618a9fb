"""The courier: the child process of a run that delivers its journal to the trackers.

It holds their SDKs, which are slow, large, and change the process that they live in, away
from training, and delivers what is left when the trainer is gone::

    python -m rl_logging.courier RUN_FOLDER SESSION LINGER_S TRAINER_PID

Its standard input brings the outputs, one JSON document a line; an empty line means "look
now", and ``end`` that no more will come. On its standard output it says what the user
should know, one line each. What the SDKs print goes to ``courier.log`` in the run folder.
"""

import contextlib
import logging
import os
import select
import sys
import threading
import time
from pathlib import Path

from rl_logging import manifest
from rl_logging.deliveries import Deliveries
from rl_logging.formats.bounds import at_home
from rl_logging.formats.tracker import KILLED

_log = logging.getLogger("rl_logging")  # not by its own name, which is __main__
_BEAT_S = 0.25
_NICENESS = 10


class _Errands:
    """What the trainer asks for, line by line, without waiting for it."""

    def __init__(self) -> None:
        self.ended = False  # the trainer has no more to ask for, or is gone
        self._closed = False
        self._rest = b""

    def wait(self, timeout_s: float) -> list[bytes]:
        """The lines that came, after at most ``timeout_s``."""
        if self._closed:
            threading.Event().wait(timeout_s)
            return []
        if not select.select([0], [], [], timeout_s)[0]:
            return []
        data = os.read(0, 1 << 20)
        self._closed = not data
        self.ended |= self._closed
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines


class _ToTrainer(logging.Handler):
    """Hands what is said to the trainer, which shows it; it never waits for it."""

    def __init__(self, pipe: int) -> None:
        super().__init__(logging.WARNING)
        os.set_blocking(pipe, False)
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().splitlines()[:1]) + "\n"
        # A trainer that is gone or asleep does not read; the log has it all.
        with contextlib.suppress(OSError):
            os.write(self._pipe, line.encode())


def main(arguments: list[str]) -> int:
    """Deliver until the run has ended and all of it is delivered, or the time for it is over.

    :param arguments: the run folder, the logger's session, for how many seconds to go on
        when the trainer is gone, and the trainer's process number
    :return: the exit status
    """
    folder, session, linger_s = Path(arguments[0]), int(arguments[1]), float(arguments[2])
    trainer = int(arguments[3])
    _settle_in()
    deliveries, errands = Deliveries(folder, session), _Errands()
    deadline = None
    while True:
        if lines := errands.wait(_BEAT_S):
            errands.ended |= b"end" in lines
            outputs = [line for line in lines if line not in (b"", b"end")]
            for newest in outputs[-1:]:  # each has all, and an earlier one lacks where a removed one ends
                deliveries.take_on(manifest.decode(newest))
            deliveries.wake()
        deliveries.tell_lag()
        if deadline is None and (errands.ended or os.getppid() != trainer):
            deliveries.end(KILLED)  # unless the journal says how the run ended
            deliveries.wake()
            deadline = time.monotonic() + linger_s
        if deliveries.are_broken:
            _log.info("an SDK is broken; a new process can go on")
            return 3
        if deadline is not None and deliveries.are_done:
            _log.info("nothing is left to deliver")
            return 0
        if deadline is not None and time.monotonic() > deadline:
            _log.warning("not all could be delivered in %g s; the journal has the rest", linger_s)
            return 1


def _settle_in() -> None:
    """Make this process one in which SDKs may do what they like, and nobody notices."""
    to_trainer = os.dup(1)
    os.dup2(2, 1)  # SDKs print; their words belong into the log
    os.nice(_NICENESS)
    if hasattr(os, "sched_setscheduler"):  # not on macOS; it must not interrupt who trains when it wakes up
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    at_home()
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logger = logging.getLogger("rl_logging")
    logger.setLevel(logging.INFO)
    logger.addHandler(_ToTrainer(to_trainer))


if __name__ == "__main__":
    status = main(sys.argv[1:])
    # The SDKs' own exit hooks may wait for a server that is gone.
    logging.shutdown()
    os._exit(status)
