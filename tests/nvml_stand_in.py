"""A stand-in for NVIDIA's library, so that programs see GPUs on a machine that has none.

It is a real shared library, built from data/fake_nvml.c, and says what a text file says; the
file is read again whenever a program counts the GPUs. A program finds it if it is started with
the environment that :func:`environment` gives. One that runs already must load the library by
its path, before it looks for one by name.
"""

import dataclasses
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

_SOURCE = Path(__file__).parent / "data" / "fake_nvml.c"
_NAME = "libnvidia-ml.so.1"


@dataclasses.dataclass(frozen=True)
class StandInGpu:
    """A GPU and what it says, in NVML's units; None where it does not support the question.

    :param lost: whether it has fallen off the bus: it then answers no question but its name
    """

    name: str = "NVIDIA A100-SXM4-40GB"
    util: int | None = 0
    used_mib: int | None = 0
    total_mib: int | None = 40960
    power_mw: int | None = 50000
    temp_c: int | None = 30
    lost: bool = False

    def line(self) -> str:
        """The GPU's line of the text file."""
        numbers = (self.util, self.used_mib, self.total_mib, self.power_mw, self.temp_c)
        said = ("!" if self.lost else "-" if number is None else str(number) for number in numbers)
        return "|".join((self.name, *said))


def build(folder: Path) -> Path:
    """Compile the library.

    :param folder: where it gets a folder of its own, as the loader looks for it by its name
    :return: the library
    :raises FileNotFoundError: there is no gcc
    """
    library = folder / "lib" / _NAME
    library.parent.mkdir(parents=True)
    options = ("-O1", "-shared", "-fPIC", f"-Wl,-soname,{_NAME}")
    subprocess.run(["gcc", *options, "-o", library, _SOURCE], check=True)
    return library


def environment(library: Path, gpus: Path) -> dict[str, str]:
    """What a program needs in its environment to find the library, and the library its file."""
    folders = [str(library.parent), os.environ.get("LD_LIBRARY_PATH", "")]
    return {"LD_LIBRARY_PATH": ":".join(filter(None, folders)), "FAKE_NVML_FILE": str(gpus)}


def write_gpus(path: Path, gpus: Iterable[StandInGpu]) -> None:
    """Say what GPUs there are, at once for whoever reads it; with none there is no driver either."""
    new = path.with_name(f"{path.name}.new")
    new.write_text("".join(f"{gpu.line()}\n" for gpu in gpus))
    os.replace(new, path)
