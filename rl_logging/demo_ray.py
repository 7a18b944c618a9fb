"""The demo's Ray: one node on this machine, whose CPU, memory and GPUs are logged."""

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from rl_logging.sources.sampled import Sampled, Source

_SETTINGS = {  # of Ray's own processes
    "REPORTER_UPDATE_INTERVAL_MS": "1000",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_STORE_BYTES = 80 << 20  # of the objects that a node keeps; the least that Ray takes
_EVERY_S = 5.0
_PATIENCE_S = 15.0  # until the node has measured itself


@contextlib.contextmanager
def started_ray(say: Callable[[str], Any]) -> Iterator[list[Source]]:
    """Start Ray, and end it afterwards.

    :param say: gets what there is, in a line
    :return: the sources to ask; none where Ray is not installed, or does not start
    """
    if find_spec("ray") is None or find_spec("prometheus_client") is None:
        say("Ray is not installed, so there are no metrics of nodes and GPUs; pip install 'rl_logging[ray]'")
        yield []
        return
    import ray

    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's, about Ray's own future
            ray.init(
                address="local",
                num_cpus=1,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=_STORE_BYTES,
                _node_name="local",
            )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:  # the demo can do without
        say(f"Ray does not start here ({error}), so there are no metrics of nodes and GPUs.")
        yield []
        return
    try:
        yield _sources(say)
    finally:
        ray.shutdown()


def _sources(say: Callable[[str], Any]) -> list[Source]:
    from rl_logging.sources.ray_gpu import RayGpuSource

    source = RayGpuSource(every_s=_EVERY_S)
    first, deadline = source(), time.monotonic() + _PATIENCE_S
    while "ray/cpu_util" not in first and time.monotonic() < deadline:
        first = source()
    gpus = first.get("ray/gpus", 0)
    what = f"GPUs: {gpus}" if gpus else "no GPU"
    if gpus and any(name in os.environ for name in ("FAKE_NVML", "FAKE_NVML_FILE")):
        what += ", stand-ins that say what $FAKE_NVML tells them, no hardware"
    say(f"Ray is started, with one node ({what}). Its CPU and memory are logged at each dump.")
    return [Sampled(source)]
