"""A RayCluster in a process of its own: above some 200 nodes, reading pages takes the trainer's time.

Measured: one round over 1,024 nodes takes 0.6 to 1 s of CPU; in a thread of the trainer that
is time in which training stands still.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO, Any

from rl_logging import interpreter
from rl_logging.sources.ray_cluster import RayCluster, Snapshot
from rl_logging.sources.ray_names import Named

_ANSWER_S = 60.0
_CHUNK = 1 << 16


class ClusterProcess:
    """What :class:`RayCluster` is, in a child process, which ends with this one.

    :param arguments: those of a :class:`RayCluster`
    """

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, nodes: Sequence[Named]) -> Snapshot:
        """As :meth:`RayCluster.ask`.

        :raises OSError: the process cannot be started, has died, or does not answer; the next
            call starts another
        """
        try:
            process = self._process = self._process or self._started()
            if process.stdin is None or process.stdout is None:
                raise OSError("the process has no pipes")
            process.stdin.write(json.dumps(nodes).encode() + b"\n")
            process.stdin.flush()
            return Snapshot(*json.loads(_line(process.stdout)))
        except (OSError, ValueError) as error:
            self.close()
            raise OSError(f"the process that asks the nodes gave no answer: {error}") from error

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _started(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            interpreter.command("rl_logging.sources.ray_child", json.dumps(self._arguments)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=interpreter.environment(),
            start_new_session=True,  # neither Ctrl-C nor the terminal's end is meant for it
        )


def _line(pipe: IO[bytes]) -> bytes:
    """The next line, waited for no longer than a minute."""
    line, ends = b"", time.monotonic() + _ANSWER_S
    while not line.endswith(b"\n"):
        left_s = ends - time.monotonic()
        if left_s <= 0 or not select.select([pipe], [], [], left_s)[0]:
            raise TimeoutError(f"none in {_ANSWER_S:g} s")
        chunk = os.read(pipe.fileno(), _CHUNK)
        if not chunk:
            raise ConnectionError("it has ended")
        line += chunk
    return line


def main() -> None:
    """Answer each list of nodes on standard input, until it ends."""
    os.nice(5)  # training goes first
    cluster = RayCluster(**json.loads(sys.argv[1]))
    for line in sys.stdin:
        snapshot = cluster.ask([Named(*node) for node in json.loads(line)])
        sys.stdout.write(json.dumps(snapshot) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
