"""RayGpuSource against a real Ray cluster, whose GPUs are stand-ins."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from nvml_stand_in import StandInGpu
from ray_clusters import StandInCluster
from waiting import wait_until

from rl_logging import RayGpuSource

ARRIVAL_S = 60.0
H100 = "NVIDIA H100 80GB HBM3"

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:.*RAY_ACCEL_ENV_VAR:FutureWarning")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, nvml_library) -> Iterator[StandInCluster]:
    """Two hosts with GPUs, on one of them two nodes, and one host without."""
    made = StandInCluster(tmp_path_factory.mktemp("gpus"), nvml_library)
    try:
        made.start_node(
            "alpha", [StandInGpu(H100, 40, 1024, 81559, 215000, 55), StandInGpu(H100, 60, 2048, 81559)]
        )
        made.start_node("beta", [StandInGpu("T4", 10, 512, 15360)])
        made.start_node("gamma", [StandInGpu("T4", 10, 512, 15360)], host="beta")
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
    finally:
        ray.shutdown()
        made.close()


@pytest.fixture
def source(cluster, caplog) -> RayGpuSource:
    made = RayGpuSource(every_s=5, timeout_s=10)
    wait_until(lambda: made().get("ray/gpus") == 3, ARRIVAL_S)
    return made


def until(source: RayGpuSource, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first answer for which something holds."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found.append(source())
        return holds(found[-1])

    wait_until(look, ARRIVAL_S)
    return found[-1]


def test_each_gpu_is_seen_once_with_its_numbers_and_units(source):
    """Percent, GB, W and degrees, under the names that the cluster's owner gave the nodes."""
    values = source()

    alpha = {key.removeprefix("ray/node.alpha.gpu."): v for key, v in values.items() if ".alpha.gpu." in key}
    assert alpha == {
        "0.util": 40.0,
        "0.mem_gb": 1.0,
        "0.mem_total_gb": pytest.approx(81559 / 1024),
        "0.power_w": 215.0,
        "0.temp_c": 55.0,
        "0.type": H100,
        "1.util": 60.0,
        "1.mem_gb": 2.0,
        "1.mem_total_gb": pytest.approx(81559 / 1024),
        "1.power_w": 50.0,
        "1.temp_c": 30.0,
        "1.type": H100,
    }
    of_one_host = [key for key in values if key.endswith(".gpu.0.util") and ".alpha." not in key]
    assert len(of_one_host) == 1
    assert (values["ray/nodes_alive"], values["ray/nodes_silent"], values["ray/gpus"]) == (3, 0, 3)
    assert values["ray/gpu.util_mean"] == pytest.approx((40 + 60 + 10) / 3)
    assert values["ray/gpu.util_hottest"] == "alpha.gpu.1"


def test_each_node_has_cpu_memory_disk_and_network(source):
    """As the machine itself says."""
    import psutil

    names = ("alpha", "beta", "gamma")
    values = until(source, lambda values: all(f"ray/node.{name}.cpu_util" in values for name in names))

    for name in names:
        node = {key.removeprefix(f"ray/node.{name}."): v for key, v in values.items() if f".{name}." in key}
        rates = {"disk_read_mb_s", "disk_write_mb_s", "net_in_mb_s", "net_out_mb_s"}  # of no use yet
        assert {key for key in node if "gpu" not in key} - rates == {
            "cpu_util",
            "mem_gb",
            "mem_total_gb",
            "disk_percent",
        }
        assert 0 < node["mem_gb"] < node["mem_total_gb"] <= psutil.virtual_memory().total / 2**30 + 0.01
        assert 0 <= node["cpu_util"] <= 100


def test_changed_numbers_are_seen(cluster, source):
    """Within the time in which Ray renews its values."""
    cluster.set_gpus("alpha", StandInGpu(H100, 97, 4096, 81559), StandInGpu(H100, None, 2048, 81559))
    try:
        values = until(source, lambda values: values["ray/node.alpha.gpu.0.util"] == 97)

        assert values["ray/node.alpha.gpu.0.mem_gb"] == 4.0
        assert "ray/node.alpha.gpu.1.util" not in values
    finally:
        cluster.set_gpus(
            "alpha", StandInGpu(H100, 40, 1024, 81559, 215000, 55), StandInGpu(H100, 60, 2048, 81559)
        )
        until(source, lambda values: values["ray/node.alpha.gpu.0.util"] == 40)


def test_node_that_joins_and_is_killed_comes_and_goes(cluster, source):
    """Names and places of the others stay; it is counted, and no error."""
    places = RayGpuSource("", naming="place", every_s=5, timeout_s=10)
    before = {key for key in places() if key.endswith(".type")}

    cluster.start_node("delta", [StandInGpu("L4", 5, 100, 23034)])
    joined = until(source, lambda values: values["ray/nodes_alive"] == 4 and values["ray/gpus"] == 4)
    by_place = until(places, lambda values: values["gpus"] == 4)
    cluster.kill_node("delta")
    gone = until(source, lambda values: values["ray/nodes_alive"] == 3)

    assert joined["ray/node.delta.gpu.0.util"] == 5.0
    assert {key for key in by_place if key.endswith(".type")} == {*before, "node.3.gpu.0.type"}
    assert by_place["node.3.gpu.0.util"] == 5.0
    assert not [key for key in gone if ".delta." in key]
    assert gone["ray/gpus"] == 3


def test_source_works_inside_an_actor(cluster, source):
    """Where the trainer is one, as with Ray Train."""

    @ray.remote(num_cpus=0)
    class Trainer:
        def ask(self) -> dict[str, Any]:
            return RayGpuSource(every_s=5, timeout_s=10)()

    trainer = Trainer.remote()
    values = ray.get(trainer.ask.remote(), timeout=ARRIVAL_S)

    assert values.keys() == source().keys()
    assert values["ray/gpu.util_max"] == 60.0


def test_gpus_stay_off_the_console_unless_asked(cluster):
    """Sixteen of them are eighty lines; the cluster's own stay."""
    quiet, loud = RayGpuSource(every_s=5), RayGpuSource(every_s=5, console=True)
    quiet()

    shown = ["gpu.util_mean", "mem_total_gb", "node.a.cpu_util", "node.a.cpu_util_max", "node.a.gpu.b.mem_gb"]
    hidden = ["node.a.gpu.0.util", "node.a.gpu.0.mem_gb", "node.a.b.net_in_mb_s", "node.a.mem_total_gb"]
    assert [key for key in shown if quiet.exclude(f"ray/{key}")] == []
    assert [key for key in hidden if quiet.exclude(key) != ("stdout",)] == []
    assert loud.exclude("ray/node.a.gpu.0.util") == ()


def test_interval_that_is_too_short_is_said(caplog):
    """Ray renews its values every five seconds, so that one would see each twice."""
    RayGpuSource(every_s=1)

    (message,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert message.startswith("ray_gpu: every_s=1 asks more often than Ray renews its values")
