"""SystemSource: this machine and this process."""

import contextlib
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rl_logging.errors import MissingBackendError
from rl_logging.sources.sampled import check_seconds

_GB, _MB = 2.0**30, 2.0**20
_FIRST_S = 0.1  # the system counts CPU in ticks of 10 ms: a shorter while is nearly all or nothing


class SystemSource:
    """CPU, memory, disk and network of this machine; CPU and memory of this process and its children.

    In a container, memory is that of the container, as Ray counts it. CPU of the machine is
    in percent of all cores, that of processes in percent of one.

    :param prefix: stands before each name, and a slash between
    :param every_s: how often the machine is asked, in seconds
    :param disk: a path on the disk that counts
    :raises MissingBackendError: psutil is not installed
    :raises ValueError: an interval that is not above 0
    :raises OSError: there is no such disk
    """

    name = "system"

    def __init__(self, prefix: str = "system", every_s: float = 10.0, disk: str = "/") -> None:
        if find_spec("psutil") is None:
            raise MissingBackendError("system", extra="system")
        import psutil

        self.prefix, self.every_s = prefix, check_seconds("every_s", every_s)
        psutil.disk_usage(disk)
        self._disk = disk
        self._psutil: Any = psutil
        self._children: dict[Any, Any] = {}
        self._counters: tuple[float, dict[str, float]] = (time.monotonic(), self._counted())
        self._process = psutil.Process()
        self._first_s: float | None = _FIRST_S
        self._process.cpu_percent()  # it counts from the last call
        self._of_children()

    def __call__(self) -> dict[str, float]:
        # It counts from the last call in the same thread, and at first there was none.
        cpu_util, self._first_s = self._psutil.cpu_percent(self._first_s), None
        used, total = self._memory()
        own = self._process
        values = {
            "cpu_util": cpu_util,
            "mem_gb": used / _GB,
            "mem_total_gb": total / _GB,
            "disk_percent": self._psutil.disk_usage(self._disk).percent,
            **self._rates(),
            "process.cpu_util": own.cpu_percent(),
            "process.mem_gb": own.memory_info().rss / _GB,
            **self._of_children(),
        }
        return {f"{self.prefix}/{key}" if self.prefix else key: value for key, value in values.items()}

    def _of_children(self) -> dict[str, float]:
        """What the children of this process use, theirs included."""
        children = self._process.children(recursive=True)
        # psutil counts CPU from the last call on the same object. Equal ones are the same
        # process, and not only of the same number, which may have gone to another.
        self._children = {child: self._children.get(child, child) for child in children}
        running = [used for child in self._children.values() if (used := self._used(child))]
        return {
            "children": len(running),
            "children.cpu_util": sum(cpu for cpu, _ in running),
            "children.mem_gb": sum(memory for _, memory in running) / _GB,
        }

    def _used(self, process: Any) -> tuple[float, float] | None:
        """A process' CPU in percent and memory in bytes; None if it has ended."""
        with contextlib.suppress(self._psutil.Error):  # it ends just now
            if process.status() != self._psutil.STATUS_ZOMBIE:  # which nobody has waited for
                return process.cpu_percent(), process.memory_info().rss
        return None

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
            cache = sum(int(statistics[f"{start}{name}"]) for name in ("inactive_file", "active_file"))
            used = int((folder / used_file).read_text())
            limit = (folder / limit_file).read_text().strip()
        except (OSError, ValueError, KeyError):  # not of this version, or no control group at all
            continue
        return max(used - cache, 0), int(limit) if limit.isdecimal() else None
    return None, None
