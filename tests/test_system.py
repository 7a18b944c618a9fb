"""What this machine and this process use: held against psutil's own readings, and real children."""

import concurrent.futures
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas
import psutil
import pytest
from runs import child, wait_for_line
from waiting import wait_until

from rl_logging import MissingBackendError, SystemSource, configure

GB, MB = 2.0**30, 2.0**20
KEYS = {
    *("cpu_util", "mem_gb", "mem_total_gb", "disk_percent", "process.cpu_util", "process.mem_gb"),
    *("children", "children.cpu_util", "children.mem_gb"),
}
PARENT = """
import subprocess, sys

code = "import sys; text = b'x' * (200 << 20); print('ready', flush=True); sys.stdin.read()"
with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE):
    while True:
        pass
"""


def burn(until: Callable[[], bool]) -> None:
    """Use one core."""
    while not until():
        sum(range(1000))


@pytest.fixture
def source() -> SystemSource:
    return SystemSource(prefix="")


def test_machine_is_as_psutil_says(source):
    """The same numbers as other tools show, in GB of 2^30 bytes."""
    values = source()

    assert values.keys() >= KEYS
    assert 0 < values["mem_gb"] <= values["mem_total_gb"] <= psutil.virtual_memory().total / GB
    assert values["disk_percent"] == pytest.approx(psutil.disk_usage("/").percent, abs=2)
    assert values["process.mem_gb"] == pytest.approx(psutil.Process().memory_info().rss / GB, rel=0.2)
    assert 0 <= values["cpu_util"] <= 100
    assert all(value >= 0 for value in values.values())


def test_prefix_is_the_users():
    """Two machines in one run must not share their names."""
    assert SystemSource(prefix="host")().keys() >= {f"host/{key}" for key in KEYS}


def test_disk_is_the_users(small_disk):
    """Runs are seldom written to the disk that the system is on."""
    (small_disk / "file").write_bytes(bytes(256 << 10))

    values = SystemSource(prefix="", disk=str(small_disk))()

    assert values["disk_percent"] == pytest.approx(50, abs=5)


def test_cpu_is_what_was_used_since_the_last_call(source):
    """A busy process shows as such, whatever it did before."""
    source()
    began_s, used_s = time.monotonic(), time.process_time()
    burn(lambda: time.monotonic() > began_s + 0.5)
    used = 100 * (time.process_time() - used_s) / (time.monotonic() - began_s)

    values = source()

    assert values["process.cpu_util"] == pytest.approx(used, abs=20)
    assert 0.7 * used / psutil.cpu_count() < values["cpu_util"] <= 100


def test_first_sample_counts_in_any_thread(source):
    """A logger asks in a thread of its own, right at the start: neither 0 nor a peak that was none."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(source)
        burn(answer.done)
        values = answer.result()

    assert values["cpu_util"] > 0
    assert 0 < values["process.cpu_util"] < 1.2 * 100 * psutil.cpu_count()


def test_children_count_while_they_run(source):
    """Environments and data loaders are processes of their own, and start others."""
    before = source()

    with child(PARENT) as process:
        wait_for_line(process, "ready")
        began_s, used_s = time.monotonic(), cpu_s(process.pid)
        during = source()
        wait_until(lambda: cpu_s(process.pid) - used_s > 0.5, 60)
        used = 100 * (cpu_s(process.pid) - used_s) / (time.monotonic() - began_s)
        values = source()
    after = source()

    assert [each["children"] - before["children"] for each in (during, values, after)] == [2, 2, 0]
    assert during["children.mem_gb"] - before["children.mem_gb"] > 200 / 1024
    assert values["children.cpu_util"] > 0.7 * used
    assert after["children.mem_gb"] < during["children.mem_gb"] - 200 / 1024


def cpu_s(process: int) -> float:
    """The seconds of CPU that a process has used."""
    times = psutil.Process(process).cpu_times()
    return times.user + times.system


def test_child_that_has_ended_is_none(source):
    """A trainer that does not wait for its workers keeps their entries in the system's table."""
    before = source()

    with child("") as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        after = source()

    assert after["children"] == before["children"]


def test_child_with_the_number_of_an_earlier_one_starts_from_nothing(source):
    """What the earlier one used, subtracted from what this one did, would be less than no CPU."""
    with child("while True: pass") as process:
        wait_until(lambda: cpu_s(process.pid) > 0.3, 60)
        source()

    with next_process_is(process.pid) as again:
        values = source()

    assert again.pid == process.pid
    assert values["children.cpu_util"] >= 0


@contextlib.contextmanager
def next_process_is(number: int) -> Iterator["subprocess.Popen[str]"]:
    """A child with a number that is free."""
    for _ in range(100):  # any other process may be quicker
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1))
        except OSError:
            pytest.skip("only root says which number a process gets")
        with child("input()") as process:
            if process.pid == number:
                yield process
                return
    pytest.skip("other processes took the number")


def test_rates_are_what_psutil_counted_between_two_calls(source, tmp_path):
    """A run that is slow since it writes videos, or fetches data, shows it here."""
    first = counters()
    source()
    second = counters()
    write(tmp_path / "file", 16 << 20)
    send_to_this_machine(16 << 20)
    third = counters()
    values = source()
    fourth = counters()

    for key, count in third.items():
        least = (count - second[key]) / MB / (fourth["time"] - first["time"])
        most = (fourth[key] - first[key]) / MB / (third["time"] - second["time"])
        assert key == "time" or least <= values[key] <= most
    sent = [third[key] - second[key] for key in ("net_in_mb_s", "net_out_mb_s")]
    assert min(sent) >= 16 << 20


def counters() -> dict[str, float]:
    """What psutil has counted, in bytes, and when, in seconds."""
    disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
    found = {"net_in_mb_s": network.bytes_recv, "net_out_mb_s": network.bytes_sent}
    if disk is not None:
        found |= {"disk_read_mb_s": disk.read_bytes, "disk_write_mb_s": disk.write_bytes}
    return {**found, "time": time.monotonic()}


def write(path: Path, size: int) -> None:
    """Write a file down to the disk."""
    with path.open("wb") as file:
        file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())


def send_to_this_machine(size: int) -> None:
    sender, receiver = connection()
    with sender, receiver:
        for _ in range(size >> 16):
            sender.sendall(bytes(1 << 16))
            receiver.recv(1 << 16, socket.MSG_WAITALL)


def connection() -> tuple[socket.socket, socket.socket]:
    """Both ends of one over the network of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname()), server.accept()[0]


def test_system_stands_in_the_csv(tmp_path):
    """End to end, beside what training records."""
    logger = configure(tmp_path, ["csv"], sources=["system"], system={"every_s": 0.1})
    last: dict[str, float] = {}

    def logged() -> bool:
        logger.record("loss", 0.5)
        logger.dump()
        last.update(pandas.read_csv(tmp_path / "progress.csv").iloc[-1])
        return "system/mem_gb" in last

    with contextlib.closing(logger):
        wait_until(logged, 60)

    assert last.keys() >= {"loss", "system/sample_age_s", *(f"system/{key}" for key in KEYS)}
    assert 0 < last["system/process.mem_gb"] < last["system/mem_total_gb"]


def test_missing_package_is_named(monkeypatch):
    """The remedy is a pip line, and it comes when the run is set up."""
    monkeypatch.setitem(sys.modules, "psutil", None)

    with pytest.raises(
        MissingBackendError, match=r"system is not installed; pip install 'rl_logging\[system\]'"
    ):
        SystemSource()


@pytest.mark.parametrize("every_s", [0, -1.0, float("nan"), float("inf"), True, "10", None])
def test_interval_that_is_none_is_refused(every_s):
    """It would else ask without a pause, or never."""
    with pytest.raises(ValueError, match="every_s is a number of seconds above 0, not "):
        SystemSource(every_s=every_s)


def test_disk_that_is_not_there_is_refused(tmp_path):
    """It is said where it was given, and not each time the source is asked."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        SystemSource(disk=str(tmp_path / "nowhere"))
