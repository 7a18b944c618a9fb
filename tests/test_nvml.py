"""This machine's GPUs by NVIDIA's library: nvidia-ml-py asks a stand-in for it, in processes of their own."""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nvml_stand_in
import pandas
import pytest
from nvml_stand_in import StandInGpu
from runs import child
from waiting import wait_until

from rl_logging import MissingBackendError, NvmlSource

A100 = StandInGpu("NVIDIA A100-SXM4-40GB", 42, 12345, 40960, 215000, 55)
H100 = StandInGpu("NVIDIA H100 80GB HBM3", 88, 2048, 81559, 65500, 33)
IDLE = StandInGpu("NVIDIA T4", 0, 0, 16384, 0, 0)
DRIVERLESS = "[Errno 19] NVIDIA's library gives no GPUs: Driver Not Loaded"
LOST = dataclasses.replace(A100, lost=True)

ASKS = """
import json, sys
from rl_logging import NvmlSource

source = NvmlSource(**json.loads(sys.argv[1]))
for word in sys.stdin:
    try:
        print(json.dumps(source() if word == "ask\\n" else source.close()), flush=True)
    except OSError as error:
        print(json.dumps(str(error)), flush=True)
"""
LOGS = """
import sys
from rl_logging import configure

logger = configure(sys.argv[1], ["csv"], sources=["nvml"], nvml={"every_s": 0.05})
for step, _ in enumerate(sys.stdin):
    logger.record("loss", 0.5)
    logger.dump(step)
    print(step, flush=True)
logger.close()
"""


class Machine:
    """A machine with a driver and GPUs, as a process there sees it."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._gpus = folder / "gpus"
        self._environment = {**os.environ, **nvml_stand_in.environment(library, self._gpus)}
        self.has()

    def has(self, *gpus: StandInGpu) -> None:
        """Put GPUs into it; without any it has no driver."""
        nvml_stand_in.write_gpus(self._gpus, gpus)

    @contextlib.contextmanager
    def source(self, **arguments: Any) -> Iterator["Source"]:
        """A source in a process of its own."""
        with child(ASKS, json.dumps(arguments), env=self._environment) as process:
            yield Source(process)

    def run(self, folder: Path) -> Any:
        """A training run with the source, which dumps for each line that it gets."""
        return child(LOGS, folder, env=self._environment)


class Source:
    def __init__(self, process: Any) -> None:
        self._process = process

    def __call__(self, word: str = "ask") -> Any:
        """What it gives: values by key, or the text of its error."""
        return json.loads(told(self._process, word))


def told(process: Any, word: str) -> str:
    """Say a word to a child, and give the line that it answers."""
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    line: str = process.stdout.readline()
    return line


@pytest.fixture
def machine(nvml_library: Path, tmp_path: Path) -> Machine:
    return Machine(nvml_library, tmp_path)


def test_each_gpu_has_its_values_in_common_units(machine):
    """NVML tells bytes and milliwatts; names and units are Ray's source's, so that curves can be compared."""
    machine.has(A100, H100)

    with machine.source() as source:
        values = source()

    assert values == {
        "nvml/gpu.0.util": 42,
        "nvml/gpu.0.mem_gb": 12345 / 1024,
        "nvml/gpu.0.mem_total_gb": 40.0,
        "nvml/gpu.0.power_w": 215.0,
        "nvml/gpu.0.temp_c": 55,
        "nvml/gpu.0.type": "NVIDIA A100-SXM4-40GB",
        "nvml/gpu.1.util": 88,
        "nvml/gpu.1.mem_gb": 2.0,
        "nvml/gpu.1.mem_total_gb": 81559 / 1024,
        "nvml/gpu.1.power_w": 65.5,
        "nvml/gpu.1.temp_c": 33,
        "nvml/gpu.1.type": "NVIDIA H100 80GB HBM3",
    }


@pytest.mark.parametrize(("prefix", "start"), [("host", "host/gpu.0."), ("", "gpu.0.")])
def test_idle_gpu_is_at_zero_under_the_users_prefix(machine, prefix, start):
    """Nothing used is a value, other than no answer; and two machines in a run need two prefixes."""
    machine.has(IDLE)

    with machine.source(prefix=prefix) as source:
        values = source()

    zeros = {"util": 0, "mem_gb": 0.0, "mem_total_gb": 16.0, "power_w": 0.0, "temp_c": 0, "type": "NVIDIA T4"}
    assert values == {start + key: value for key, value in zeros.items()}


def test_next_call_sees_what_has_changed(machine):
    """The library is opened once; its numbers are asked for each time."""
    machine.has(A100, H100)
    with machine.source(prefix="") as source:
        before = source()

        machine.has(dataclasses.replace(A100, util=7, used_mib=20480))

        first = {key: value for key, value in before.items() if key.startswith("gpu.0.")}
        assert source() == {**first, "gpu.0.util": 7, "gpu.0.mem_gb": 20.0}


@pytest.mark.parametrize(
    ("silent", "left_out"),
    [
        ("util", {"util"}),
        ("used_mib", {"mem_gb", "mem_total_gb"}),
        ("power_mw", {"power_w"}),
        ("temp_c", {"temp_c"}),
    ],
)
def test_what_a_gpu_does_not_support_is_left_out(machine, silent, left_out):
    """A part of a GPU tells no utilisation, and an old board no power: 0 would be a lie."""
    machine.has(H100)
    with machine.source(prefix="") as source:
        whole = source()

        machine.has(dataclasses.replace(H100, **{silent: None}))

        gone = {f"gpu.0.{key}" for key in left_out}
        assert source() == {key: value for key, value in whole.items() if key not in gone}


def test_lost_gpu_does_not_hide_the_others(machine):
    """A GPU that falls off the bus is when the others' curves are looked at; they keep their numbers."""
    machine.has(A100, H100)
    with machine.source(prefix="") as source:
        before = source()

        machine.has(LOST, H100)

        lost = {f"gpu.0.{key}" for key in ("util", "mem_gb", "mem_total_gb", "power_w", "temp_c")}
        assert source() == {key: value for key, value in before.items() if key not in lost}


def test_driver_that_comes_later_is_found(machine):
    """A run may start while the driver is being installed, or on a machine without one."""
    with machine.source(prefix="") as source:
        told_before = source(), source()
        machine.has(A100)
        values = source()

    assert told_before == (DRIVERLESS,) * 2
    assert values["gpu.0.util"] == 42


def test_library_that_cannot_be_loaded_is_told_of(machine, nvml_library, tmp_path):
    """Most laptops have none: training goes on, and the message says what is missing."""
    library = tmp_path / nvml_library.name
    library.touch()
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}

    with child(ASKS, "{}", env=environment) as process:
        answer = json.loads(told(process, "ask"))

    assert answer == "[Errno 19] NVIDIA's library gives no GPUs: NVML Shared Library Not Found"


def test_source_can_be_closed_twice_and_asked_again(machine):
    """A logger that is closed closes it; the same source may serve the next one."""
    machine.has(A100)
    with machine.source() as source:
        before = source()

        closed = source("close"), source("close")

        assert (*closed, source()) == (None, None, before)


def test_gpus_stand_in_the_csv(machine, tmp_path):
    """End to end: a run that began without a driver has the GPU's curve as soon as there is one."""
    rows: list[dict[str, Any]] = []
    with machine.run(tmp_path / "run") as process:

        def logged(key: str, value: float) -> bool:
            told(process, "dump")
            rows.append(dict(pandas.read_csv(tmp_path / "run" / "progress.csv").iloc[-1]))
            return rows[-1].get(key) == value

        wait_until(lambda: logged("loss", 0.5), 60)
        machine.has(A100)
        wait_until(lambda: logged("nvml/gpu.0.util", 42), 60)
        machine.has(dataclasses.replace(A100, util=88))
        wait_until(lambda: logged("nvml/gpu.0.util", 88), 60)

    first, last = rows[0], rows[-1]
    assert first.keys() == {"loss", "step", "time"}
    assert (last["loss"], last["nvml/gpu.0.util_max"], last["nvml/gpu.0.temp_c"]) == (0.5, 88, 55)
    assert last["nvml/gpu.0.mem_gb"] == pytest.approx(12345 / 1024)
    assert 0 <= last["nvml/sample_age_s"] < 60


def test_missing_package_is_named(monkeypatch):
    """The remedy is a pip line, and it comes when the run is set up."""
    monkeypatch.setitem(sys.modules, "pynvml", None)

    with pytest.raises(
        MissingBackendError, match=r"nvml is not installed; pip install 'rl_logging\[system\]'"
    ):
        NvmlSource()


@pytest.mark.parametrize("every_s", [0, -1.0, float("nan"), float("inf"), True, "10", None])
def test_interval_that_is_none_is_refused(every_s):
    """It would else ask without a pause, or never."""
    with pytest.raises(ValueError, match="every_s is a number of seconds above 0, not "):
        NvmlSource(every_s=every_s)
