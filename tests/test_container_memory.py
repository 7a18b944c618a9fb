"""The memory of a container, read from folders like those of the system's control groups."""

from pathlib import Path

import pytest
from ray._private.utils import get_cgroup_used_memory

from rl_logging.sources.system import container_memory

STATISTICS = "anon 700\ninactive_file 200\nactive_file 100\nfile 300\n"
OLD_STATISTICS = "inactive_file 1\nactive_file 1\ntotal_inactive_file 200\ntotal_active_file 100\n"
NEW = {"memory.max": "4000\n", "memory.current": "1000\n", "memory.stat": STATISTICS}
OLD = {
    "memory/memory.limit_in_bytes": "4000\n",
    "memory/memory.usage_in_bytes": "1000\n",
    "memory/memory.stat": OLD_STATISTICS,
}


def write(folder: Path, files: dict[str, str]) -> None:
    """Lay control groups' files out as the system does."""
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, errors="surrogateescape")


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        (NEW, (700, 4000)),
        (OLD, (700, 4000)),
        ({**NEW, "memory.max": "max\n"}, (700, None)),
        ({**OLD, "memory/memory.limit_in_bytes": "9223372036854771712\n"}, (700, 9223372036854771712)),
        ({**NEW, "memory.current": "250\n"}, (0, 4000)),
        ({"memory.stat": STATISTICS}, (None, None)),
        ({**NEW, "memory.current": ""}, (None, None)),
        ({**NEW, "memory.stat": "inactive_file\n"}, (None, None)),
        ({**NEW, "memory.stat": "inactive_file many\nactive_file 100\n"}, (None, None)),
        ({**NEW, "memory.stat": "anon 700\n"}, (None, None)),
        ({**NEW, "memory.stat": "\udcff"}, (None, None)),
        ({}, (None, None)),
    ],
    ids=[
        *("version 2", "version 1", "no limit", "version 1's word for no limit", "cache counted later"),
        *("the machine's own group", "empty", "torn", "no number", "no cache", "no text", "none"),
    ],
)
def test_container_memory(tmp_path, files, memory):
    """In a container the machine's numbers are others' memory; the file cache is nobody's."""
    write(tmp_path, files)

    assert container_memory(tmp_path) == memory


@pytest.mark.parametrize("files", [NEW, OLD], ids=["version 2", "version 1"])
def test_container_memory_is_as_ray_counts_it(tmp_path, files):
    """A node of a cluster and a machine without Ray can then be compared."""
    write(tmp_path, files)
    _, used, statistics = (str(tmp_path / name) for name in files)
    names = [f"total_{name}" if files is OLD else name for name in ("inactive_file", "active_file")]

    assert container_memory(tmp_path)[0] == get_cgroup_used_memory(statistics, used, *names)
