"""A cluster's metrics from its nodes' pages."""

import pytest

from rl_logging.sources.ray_metrics import Reading, metrics
from rl_logging.sources.ray_page import Labels, Page


def reading(node: str, utils: list[float], address: str = "", cpu: float = 50.0) -> Reading:
    """A node with GPUs of so much utilisation each."""
    gpus = {
        Labels(i, f"GPU-{address or node}-{i}", "T4"): {"util": util, "mem_gb": 1.0 + i, "temp_c": util / 2}
        for i, util in enumerate(utils)
    }
    return Reading(node, address or node, Page({"cpu_util": cpu, "mem_gb": 3.0, "mem_total_gb": 8.0}, gpus))


def test_cluster_has_the_spread_over_all_gpus_and_says_where_its_ends_are():
    """With thousands of GPUs that is what is looked at."""
    found = metrics([reading("a", [10, 90]), reading("b", [50], cpu=100)], "cluster")

    assert found == {
        "cpu_util": 75.0,
        "mem_gb": 6.0,
        "mem_total_gb": 16.0,
        "gpus": 3,
        "gpu.util_mean": 50.0,
        "gpu.util_min": 10,
        "gpu.util_max": 90,
        "gpu.util_coldest": "a.gpu.0",
        "gpu.util_hottest": "a.gpu.1",
        "gpu.mem_gb_mean": pytest.approx(4 / 3),
        "gpu.mem_gb_min": 1.0,
        "gpu.mem_gb_max": 2.0,
        "gpu.temp_c_mean": 25.0,
        "gpu.temp_c_min": 5.0,
        "gpu.temp_c_max": 45.0,
        "gpu.temp_c_coldest": "a.gpu.0",
        "gpu.temp_c_hottest": "a.gpu.1",
    }


def test_node_and_gpu_add_to_it():
    """Each level has what the one before has."""
    readings = [reading("a", [10])]
    cluster, node, gpu = (metrics(readings, detail) for detail in ("cluster", "node", "gpu"))

    of_nodes = {"node.a.cpu_util": 50.0, "node.a.mem_gb": 3.0, "node.a.mem_total_gb": 8.0}
    of_gpus = {
        "node.a.gpu.0.util": 10,
        "node.a.gpu.0.mem_gb": 1.0,
        "node.a.gpu.0.temp_c": 5.0,
        "node.a.gpu.0.type": "T4",
    }
    assert node == {**cluster, **of_nodes}
    assert gpu == {**node, **of_gpus}


def test_gpu_of_two_nodes_on_one_host_counts_once():
    """Two raylets there report the same GPUs; so does memory."""
    found = metrics([reading("a", [10, 20], "10.0.0.1"), reading("b", [10, 20], "10.0.0.1")], "gpu")

    assert found["gpus"] == 2
    assert found["mem_gb"] == 3.0
    assert {key for key in found if ".gpu." in key and key.endswith("util")} == {
        "node.a.gpu.0.util",
        "node.a.gpu.1.util",
    }
    assert {"node.a.cpu_util", "node.b.cpu_util"} <= found.keys()


def test_gpus_without_uuid_are_told_apart_by_index():
    """Ray before 2.57 does not say it."""

    def old(node: str, address: str) -> Reading:
        return Reading(node, address, Page({}, {Labels(i, "", "T4"): {"util": 1.0} for i in range(2)}))

    assert metrics([old("a", "10.0.0.1"), old("b", "10.0.0.1"), old("c", "10.0.0.2")], "cluster")["gpus"] == 4


def test_value_that_no_gpu_tells_is_left_out():
    """Not zero."""
    page = Page({}, {Labels(0, "GPU-0", ""): {"mem_gb": 1.0}})

    assert metrics([Reading("a", "a", page)], "gpu") == {
        "gpus": 1,
        "gpu.mem_gb_mean": 1.0,
        "gpu.mem_gb_min": 1.0,
        "gpu.mem_gb_max": 1.0,
        "node.a.gpu.0.mem_gb": 1.0,
    }


def test_cluster_without_gpus_has_cpu_and_memory():
    """Ray is not for GPUs alone."""
    assert metrics([reading("a", [])], "cluster") == {
        "cpu_util": 50.0,
        "mem_gb": 3.0,
        "mem_total_gb": 8.0,
        "gpus": 0,
    }
