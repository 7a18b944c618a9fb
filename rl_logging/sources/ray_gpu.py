"""RayGpuSource: GPUs and hosts of a Ray cluster, from the metrics pages of its nodes."""

import logging
import os
import re
import sys
from importlib.util import find_spec
from typing import Any, Protocol

from rl_logging.errors import MissingBackendError, Trouble
from rl_logging.sources.ray_child import ClusterProcess
from rl_logging.sources.ray_cluster import RayCluster, Snapshot
from rl_logging.sources.ray_metrics import DETAILS
from rl_logging.sources.ray_names import Named, Node, NodeNames
from rl_logging.sources.sampled import KEEP_INTERVALS, check_seconds

_log = logging.getLogger("rl_logging")
_MANY = 64  # nodes; beyond, another process asks them, whose work does not stop training
_REFRESH_S = 5.0  # by default, how often a node renews its values
_NAMINGS = ("name", "place")
_OF_ONE = re.compile(r"(^|/)node\.")  # of the only node: the cluster's values say the same
_LONG = re.compile(r"(^|/)node\..*(\.gpu\.\d+\.|\.(disk|net)_|\.mem_total_gb$)")  # many lines for a console


class _Cluster(Protocol):
    def ask(self, nodes: list[Named]) -> Snapshot: ...


class RayGpuSource:
    """GPU, CPU and memory of each node of the Ray cluster that this process is connected to.

    It never starts Ray: as long as there is none, it gives nothing. Names and units stand in
    the wiki, page Sources.

    :param prefix: stands before each name, and a slash between
    :param naming: ``"name"``, ``node.<name>.gpu.0.util``, or ``"place"``, NeMo-RL's
        ``node.0.gpu.0.util``, in the order in which nodes were first seen
    :param detail: ``"cluster"``: the mean, least and greatest value of all GPUs; ``"node"``:
        each node's too; ``"gpu"``: each GPU's too; ``"auto"``: ``"gpu"`` up to 16 GPUs and 16
        nodes, then ``"cluster"``
    :param console: whether all is shown on the console; by default, of a node CPU and memory, if
        there are several
    :param every_s: how often the nodes are asked, in seconds; Ray renews its values every 5 s
    :param timeout_s: for one node's answer, in seconds
    :raises MissingBackendError: Ray or prometheus-client is not installed
    :raises ValueError: an argument that is not allowed
    """

    name = "ray_gpu"

    def __init__(
        self,
        prefix: str = "ray",
        naming: str = "name",
        detail: str = "auto",
        console: bool = False,
        every_s: float = 10.0,
        timeout_s: float = 1.0,
    ) -> None:
        if find_spec("ray") is None or find_spec("prometheus_client") is None:
            raise MissingBackendError("ray_gpu", extra="ray")
        for argument, value, allowed in (("naming", naming, _NAMINGS), ("detail", detail, DETAILS)):
            if value not in allowed:
                raise ValueError(f"{argument} is one of {', '.join(map(repr, allowed))}, not {value!r}")
        self.prefix, self.every_s = prefix, check_seconds("every_s", every_s)
        if every_s < (refresh_s := _refresh_s()):
            _log.warning(
                "ray_gpu: every_s=%g asks more often than Ray renews its values, which is every %g s; "
                "$REPORTER_UPDATE_INTERVAL_MS, where Ray is started, changes that",
                every_s,
                refresh_s,
            )
        self._console = console
        self._trouble = Trouble()
        self._names = NodeNames(by_place=naming == "place")
        self._arguments: dict[str, Any] = {
            "detail": detail,
            "timeout_s": check_seconds("timeout_s", timeout_s),
            "keep_s": KEEP_INTERVALS * every_s,
        }
        self._cluster: _Cluster = RayCluster(**self._arguments)
        self._is_single = False
        self._is_there: bool | None = None  # whether Ray was when last asked

    def exclude(self, key: str) -> tuple[str, ...]:
        """The console shows neither each GPU's values, nor all of a node's, unless asked to."""
        long = _OF_ONE if self._is_single else _LONG
        return ("stdout",) if not self._console and long.search(key) else ()

    def __call__(self) -> dict[str, Any]:
        """Ask the cluster's nodes; at most a second longer than the slowest takes that answers."""
        nodes = self._names.of(self._nodes())
        self._is_single = len(nodes) == 1
        if len(nodes) > _MANY and isinstance(self._cluster, RayCluster):
            self._cluster = ClusterProcess(**self._arguments)
        snapshot = self._cluster.ask(nodes)
        for topic, note in snapshot.notes.items():
            self._trouble.tell(topic, f"ray_gpu: {note}.")
        return {f"{self.prefix}/{key}" if self.prefix else key: v for key, v in snapshot.values.items()}

    def close(self) -> None:
        """End the process that asks the nodes, where there is one."""
        if isinstance(self._cluster, ClusterProcess):
            self._cluster.close()

    def _nodes(self) -> list[Node]:
        """The nodes alive; none where Ray is not started, or was just shut down."""
        ray = sys.modules.get("ray")  # who has started Ray has imported it
        try:
            known = ray.nodes() if ray is not None and ray.is_initialized() else None
        except Exception as error:  # Ray raises its own, and is shut down at any time
            self._trouble.tell("ray.nodes()", f"ray_gpu: Ray does not say which nodes it has: {error}")
            known = None
        self._tell_state(known is not None)
        return [
            Node(
                node["NodeID"],
                node["NodeManagerAddress"],
                int(node.get("MetricsExportPort") or 0),
                node.get("NodeName") or "",
                node.get("NodeManagerHostname") or "",
            )
            for node in known or ()
            if node["Alive"]
        ]

    def _tell_state(self, is_there: bool) -> None:
        if is_there == self._is_there:
            return
        if not is_there:
            what = "has not been started" if self._is_there is None else "was shut down"
            _log.warning("ray_gpu: Ray %s in this process; its metrics come as soon as it is there", what)
        elif self._is_there is False:
            _log.warning("ray_gpu: Ray is there; its metrics come from now on")
        self._is_there = is_there


def _refresh_s() -> float:
    """How often a node renews its values, as far as this process can know."""
    told_ms = os.environ.get("REPORTER_UPDATE_INTERVAL_MS", "")
    return int(told_ms) / 1000 if told_ms.isdecimal() else _REFRESH_S
