"""SystemSource: this machine and this process."""

import contextlib
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rl_logging.errors import MissingBackendError
from rl_logging.sources.sampled import check_seconds

_GB, _MB = 2.0**30, 2.0**20


class SystemSource:
    """CPU, memory, disk and network of this machine; CPU and memory of this process and its children.

    In a container, memory is that of the container, as Ray counts it. CPU of the machine is
    in percent of all cores, that of processes in percent of one.

    :param prefix: stands before each name, and a slash between
    :param every_s: how often the machine is asked, in seconds
    :param disk: a path on the disk that counts
    :raises MissingBackendError: psutil is not installed
    :raises ValueError: an interval that is not above 0
    """

    name = "system"

    def __init__(self, prefix: str = "system", every_s: float = 10.0, disk: str = "/") -> None:
        if find_spec("psutil") is None:
            raise MissingBackendError("system", extra="system")
        import psutil

        self.prefix, self.every_s = prefix, check_seconds("every_s", every_s)
        self._disk = disk
        self._psutil: Any = psutil
        self._processes: dict[int, Any] = {}
        self._counters: tuple[float, dict[str, float]] = (time.monotonic(), self._counted())
        self._process = psutil.Process()
        psutil.cpu_percent()  # it counts from the last call
        self._process.cpu_percent()

    def __call__(self) -> dict[str, float]:
        used, total = self._memory()
        own = self._process
        values = {
            "cpu_util": self._psutil.cpu_percent(),
            "mem_gb": used / _GB,
            "mem_total_gb": total / _GB,
            "disk_util": self._psutil.disk_usage(self._disk).percent,
            **self._rates(),
            "process.cpu_util": own.cpu_percent(),
            "process.mem_gb": own.memory_info().rss / _GB,
            **self._children(),
        }
        return {f"{self.prefix}/{key}" if self.prefix else key: value for key, value in values.items()}

    def _children(self) -> dict[str, float]:
        """What the children of this process use, theirs included."""
        processes = {child.pid: child for child in self._process.children(recursive=True)}
        # psutil counts CPU from the last call on the same object.
        self._processes = {pid: self._processes.get(pid, child) for pid, child in processes.items()}
        cpu = memory = 0.0
        for child in self._processes.values():
            with contextlib.suppress(self._psutil.Error):  # it has just ended
                cpu += child.cpu_percent()
                memory += child.memory_info().rss
        return {"children": len(self._processes), "children.cpu_util": cpu, "children.mem_gb": memory / _GB}

    def _rates(self) -> dict[str, float]:
        (then, before), (now, after) = self._counters, (time.monotonic(), self._counted())
        self._counters = (now, after)
        passed_s = max(now - then, 1e-3)
        return {key: (count - before[key]) / _MB / passed_s for key, count in after.items() if key in before}

    def _counted(self) -> dict[str, float]:
        """Bytes since the machine started; none where the system does not count them."""
        found: dict[str, float] = {}
        if disk := self._psutil.disk_io_counters():
            found |= {"disk_read_mb_s": disk.read_bytes, "disk_write_mb_s": disk.write_bytes}
        if network := self._psutil.net_io_counters():
            found |= {"net_in_mb_s": network.bytes_recv, "net_out_mb_s": network.bytes_sent}
        return found

    def _memory(self) -> tuple[float, float]:
        """The bytes in use, and those there are."""
        machine = self._psutil.virtual_memory()
        used, limit = container_memory()
        return machine.used if used is None else used, min(machine.total, limit or machine.total)


_CGROUPS = (  # of version 2 and 1: the files of limit, use and statistics, and what begins its names there
    ("memory.max", "memory.current", "memory.stat", ""),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_"),
)


def container_memory(folder: Path = Path("/sys/fs/cgroup")) -> tuple[int | None, int | None]:
    """The use and the limit of this container's memory, in bytes, as Ray counts it.

    Use is without the cache of files, which the system takes back where it must.

    :param folder: where the system keeps its control groups
    :return: None for what is not known or, of the limit, not set
    """
    for limit_file, used_file, statistics_file, start in _CGROUPS:
        try:
            statistics = dict(line.split() for line in (folder / statistics_file).read_text().splitlines())
            used = int((folder / used_file).read_text())
            limit = (folder / limit_file).read_text().strip()
        except (OSError, ValueError):  # not of this version, or no control group at all
            continue
        cache = sum(int(statistics.get(f"{start}{name}", 0)) for name in ("inactive_file", "active_file"))
        return max(used - cache, 0), int(limit) if limit.isdecimal() else None
    return None, None
