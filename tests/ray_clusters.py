"""Real Ray clusters of several nodes on this machine, whose GPUs are stand-ins."""

import contextlib
import gc
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nvml_stand_in
import pytest
from nvml_stand_in import StandInGpu

QUICK = {  # Ray's own knobs: values renewed, and a dead node noticed, in a fraction of a second
    "REPORTER_UPDATE_INTERVAL_MS": "300",
    "RAY_health_check_period_ms": "300",
    "RAY_health_check_timeout_ms": "300",
    "RAY_health_check_failure_threshold": "2",
    "RAY_health_check_initial_delay_ms": "0",
}
_STORE_BYTES = 80 << 20  # of the objects that a node keeps; the least that Ray takes


@contextlib.contextmanager
def _environment(library: Path, gpus: Path) -> Iterator[None]:
    """What Ray's processes get that are started meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**QUICK, **nvml_stand_in.environment(library, gpus)}.items():
            patch.setenv(name, value)
        yield


def _forget() -> None:
    """Have Ray's processes and sockets collected here, and not in the middle of another test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@contextlib.contextmanager
def local_ray(library: Path, gpus: Path) -> Iterator[None]:
    """Ray of one node, connected to this process.

    :param gpus: the file that says what GPUs it has
    """
    import ray

    with _environment(library, gpus):
        ray.init(
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=_STORE_BYTES,
            _node_name="local",
        )
    try:
        yield
    finally:
        ray.shutdown()
        _forget()


class StandInCluster:
    """A Ray cluster, each node of which has a file that says what GPUs it has.

    :param library: the stand-in for NVIDIA's library
    """

    def __init__(self, folder: Path, library: Path) -> None:
        from ray.cluster_utils import Cluster

        self._folder, self._library = folder, library
        self._cluster = Cluster()
        self._nodes: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def start_node(self, name: str, gpus: Sequence[StandInGpu] = (), host: str = "") -> None:
        """Start a node.

        :param host: nodes with the same one have the same GPUs; by default the node's name
        """
        file = self._folder / f"{host or name}.txt"
        nvml_stand_in.write_gpus(file, gpus)
        with _environment(self._library, file):
            self._nodes[name] = self._cluster.add_node(
                node_name=name,
                num_cpus=1,
                num_gpus=len(gpus),
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
            )

    def set_gpus(self, host: str, *gpus: StandInGpu) -> None:
        """Change what a host's GPUs say."""
        nvml_stand_in.write_gpus(self._folder / f"{host}.txt", gpus)

    def kill_node(self, name: str) -> None:
        """Kill a node, as a machine that loses its power."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()
        self._nodes.clear()
        _forget()
