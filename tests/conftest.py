"""What several test files share: an environment of their own, killed children, full disks, a server."""

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import nvml_stand_in
import pytest

from rl_logging.mlflow_server import MLflowServer

hypothesis.settings.register_profile("rl_logging", deadline=None)
hypothesis.settings.load_profile("rl_logging")

_FOREIGN = ("WANDB_", "CLEARML_", "TRAINS_", "MLFLOW_", "SWANLAB_", "SB3_")


@pytest.fixture(autouse=True, scope="session")
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes what belongs to the person who runs it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_FOREIGN):
                patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        # Most tests count records; the one of the provenance comes when it comes.
        patch.setenv("RL_LOGGING_PROVENANCE", "0")
        # Ray's token stands in the home folder, which is another one in each test.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        # A shell lets its background jobs ignore Ctrl-C, and what they start does, too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield


@pytest.fixture(autouse=True)
def _own_home(_own_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What one test leaves in the home folder, the next does not find."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def killed_child() -> Callable[[str, Path], list[str]]:
    """Run a child that prints a line for each thing done; kill it in full swing.

    :return: a function of the child's code and its one argument, giving the lines printed
    """

    def run(code: str, argument: Path) -> list[str]:
        command = [sys.executable, "-c", code, str(argument)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(200)]
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.readlines()
        assert child.returncode == -signal.SIGKILL
        return [line[:-1] for line in lines if line.endswith("\n")]

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 512 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512k", "none", disk], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system is not permitted here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture(scope="session")
def mlflow_server(_own_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """A server for all tests that leave it running: it takes seconds to start."""
    with MLflowServer(tmp_path_factory.mktemp("mlflow_server")) as server:
        yield server


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for NVIDIA's library."""
    if shutil.which("gcc") is None:
        pytest.skip("the stand-in for NVIDIA's library needs gcc")
    return nvml_stand_in.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard output as a text that can be read back."""
    text = io.StringIO()
    monkeypatch.setattr(sys, "stdout", text)
    return text
