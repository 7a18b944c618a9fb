"""A cluster's nodes, asked again and again, here and in a process of its own."""

import os
import signal
import socket
from collections.abc import Iterator

import psutil
import pytest
import runs
from metrics_nodes import MetricsNode, http, never, nodes, page, sends
from test_ray_page import recorded
from waiting import wait_until

from rl_logging.sources.ray_child import ClusterProcess
from rl_logging.sources.ray_cluster import RayCluster
from rl_logging.sources.ray_names import Named

LONG_S = 60.0


def cluster(detail: str = "gpu", keep_s: float = LONG_S) -> RayCluster:
    return RayCluster(detail, timeout_s=LONG_S, keep_s=keep_s)


def named(*given: MetricsNode) -> list[Named]:
    return [node.named(f"n{number}") for number, node in enumerate(given)]


def serves(node: dict[str, bytes]):
    """Serves what stands in ``node["page"]`` just then."""
    return lambda connection: connection.sendall(http(node["page"]))


def test_silent_node_is_counted_and_its_last_values_stand_for_a_while():
    """A scrape that fails once is no gap in the curve."""
    one = {"page": page(util=30)}
    with nodes(serves(one), sends(http(page(util=50, ip="b")))) as (first, second):
        asked = cluster()
        assert asked.ask(named(first, second)).values["gpu.util_mean"] == 40.0

        first.close()
        values = asked.ask(named(first, second)).values

        assert values["gpu.util_mean"] == 40.0
        assert (values["nodes_alive"], values["nodes_silent"]) == (2, 1)


def test_silent_node_is_left_out_when_its_values_are_old():
    """Numbers that nobody has measured are worse than none."""
    with nodes(sends(http(page(util=30))), sends(http(page(util=50, ip="b")))) as (first, second):
        asked = cluster(keep_s=0.2)
        asked.ask(named(first, second))
        first.close()

        wait_until(lambda: asked.ask(named(first, second)).values["gpu.util_mean"] == 50.0, LONG_S)


def test_node_that_has_left_is_left_out_at_once():
    """Ray says that it is gone."""
    with nodes(sends(http(page(util=30))), sends(http(page(util=50, ip="b")))) as (first, second):
        asked = cluster()
        asked.ask(named(first, second))

        values = asked.ask(named(second)).values

        assert (values["nodes_alive"], values["gpu.util_mean"]) == (1, 50.0)


def test_node_whose_values_somebody_else_has_taken_keeps_its_last_ones():
    """Ray 2.55 gives each value to one scraper; the remedy is told."""
    one = {"page": recorded("gpu2_ray2.55.1")}
    with nodes(serves(one)) as (node,):
        asked = cluster()
        first = asked.ask(named(node))
        one["page"] = recorded("gpu2_ray2.55.1_second_scrape")
        second = asked.ask(named(node))

    assert first.values == second.values
    assert first.values["gpus"] == 2
    assert first.notes == {}
    assert "RAY_enable_open_telemetry=0" in second.notes["empty"]


def test_node_that_has_not_begun_to_measure_is_no_trouble():
    """A node that joins answers before it has values; only a lasting lack of them is told."""
    one = {"page": recorded("gpu2_ray2.55.1_second_scrape")}
    with nodes(serves(one)) as (node,):
        asked = cluster()
        told = [asked.ask(named(node)).notes for _ in range(3)]
        one["page"] = page()

        assert told[:2] == [{}, {}]
        assert told[2].keys() == {"empty"}
        assert asked.ask(named(node)).notes == {}


def test_page_that_is_not_rays_is_no_answer():
    """Another service may have taken the port."""
    with nodes(sends(http(b"<html>Welcome!</html>"))) as (node,):
        asked = cluster()
        first, snapshot = asked.ask(named(node)), asked.ask(named(node))

    assert first.values == snapshot.values == {"nodes_alive": 1, "nodes_silent": 1, "gpus": 0}
    assert first.notes == {}  # it may have just started
    assert "n0 (127.0.1.1:" in snapshot.notes["silent"]
    assert "no page of Ray's" in snapshot.notes["silent"]


def test_node_without_metrics_is_counted_and_the_remedy_told():
    """Ray without [default] exports none."""
    snapshot = cluster().ask([Named("a", "127.0.0.1", -1)])

    assert snapshot.values == {"nodes_alive": 1, "nodes_silent": 1, "gpus": 0}
    assert "pip install 'ray[default]'" in snapshot.notes["without metrics"]


def test_first_values_of_a_young_node_that_ray_makes_up_are_left_out(monkeypatch):
    """Its rates begin as bytes since the machine started over the seconds since 1970, its CPU as 0."""
    young = "ray_node_cpu_utilization{} 0.0\nray_node_mem_used{} 1e9\nray_node_network_send_speed{} 1.5\n"
    with nodes(sends(http(young.encode()))) as (node,):
        asked = cluster()
        early = asked.ask(named(node)).values
        monkeypatch.setattr("rl_logging.sources.ray_cluster._YOUNG_S", 0.0)
        late = asked.ask(named(node)).values

    assert {key for key in early if key.startswith("node.")} == {"node.n0.mem_gb"}
    assert {key for key in late if key.startswith("node.")} == {
        "node.n0.mem_gb",
        "node.n0.cpu_util",
        "node.n0.net_out_mb_s",
    }


def test_two_nodes_at_one_place_are_asked_once():
    """Under the name of the first."""
    with nodes(sends(http(page()))) as (node,):
        values = cluster().ask([node.named("a"), node.named("b")]).values

    assert len(node.requests) == 1
    assert "node.a.cpu_util" in values
    assert "node.b.cpu_util" not in values


@pytest.mark.parametrize(("count", "detail"), [(16, "gpu"), (17, "cluster")])
def test_auto_gives_each_gpu_up_to_sixteen(count, detail):
    """8,000 GPUs must not become 16,000 curves."""
    with nodes(*(sends(http(page(ip=str(number)))) for number in range(count))) as many:
        assert (
            cluster("auto").ask(named(*many)).values.keys() == cluster(detail).ask(named(*many)).values.keys()
        )


def test_auto_does_not_go_back():
    """Curves that come and go are of no use."""
    with nodes(*(sends(http(page(ip=str(number)))) for number in range(17))) as many:
        asked = cluster("auto")
        asked.ask(named(*many))

        assert not [key for key in asked.ask(named(*many[:3])).values if key.startswith("node.")]


def test_no_nodes_give_nothing():
    """Ray is not there."""
    assert cluster().ask([]).values == {}


# In a process of its own


@pytest.fixture
def process() -> Iterator[ClusterProcess]:
    made = ClusterProcess(detail="gpu", timeout_s=LONG_S, keep_s=LONG_S)
    yield made
    made.close()


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if "rl_logging.sources.ray_child" in " ".join(child.cmdline())
    ]


def test_process_gives_what_the_cluster_gives(process):
    """Only somewhere else."""
    with nodes(sends(http(page())), never) as (good, mute):
        mute.close()
        asked = cluster()
        for _ in range(2):
            here, there = asked.ask(named(good, mute)), process.ask(named(good, mute))

    assert there.values == here.values
    assert there.notes == here.notes
    assert "refused" in here.notes["silent"]


def test_process_is_started_once_and_ends_when_it_is_closed(process):
    """No orphan, no zombie."""
    process.ask([])
    (child,) = children()
    process.ask([])
    assert children() == [child]

    process.close()

    assert not child.is_running()


def test_process_that_died_is_said_and_started_again(process):
    """The system kills who takes memory; the trainer goes on."""
    process.ask([])
    (child,) = children()
    os.kill(child.pid, signal.SIGKILL)
    child.wait(LONG_S)

    with pytest.raises(OSError, match="the process that asks the nodes gave no answer"):
        process.ask([])

    assert process.ask([]).values == {}


def test_process_ends_with_its_parent(tmp_path):
    """Its standard input is closed by then."""
    code = (
        "import sys; from rl_logging.sources.ray_child import ClusterProcess\n"
        "made = ClusterProcess(detail='gpu', timeout_s=1.0, keep_s=1.0); made.ask([])\n"
        "print(made._process.pid, flush=True); sys.stdin.read()"
    )
    with runs.child(code) as parent:
        pid = int(parent.stdout.readline())
        runs.killed(parent)

    wait_until(
        lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, LONG_S
    )


def test_port_of_a_socket_is_no_exporter():
    """A node that listens and never accepts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked = RayCluster("gpu", timeout_s=0.2, keep_s=LONG_S)

        snapshot = asked.ask([Named("a", *listener.getsockname()[:2])])

    assert snapshot.values == {"nodes_alive": 1, "nodes_silent": 1, "gpus": 0}
