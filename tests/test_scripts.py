"""The scripts: where a machine lacks something, each says in one sentence what, and how to help it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ["bash", "cat", "cksum", "cut", "df", "dirname", "env", "grep", "mkdir", "rm", "sed", "tail", "tee"]


class Machine:
    """A copy of the project with no .venv, and a PATH with little on it."""

    def __init__(self, folder):
        self.project, self.bin = folder / "a project", folder / "bin"
        shutil.copytree(ROOT / "scripts", self.project / "scripts")
        for name in ("setup.py", "setup.cfg"):
            shutil.copy(ROOT / name, self.project)
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))

    def has(self, name, script):
        """Put a program on the PATH, in the place of a tool's link and not where that leads."""
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (self.bin / name).chmod(0o755)

    def run(self, script, *arguments, **environment):
        """Run one of the scripts from another directory; give its exit status and its last line."""
        done = subprocess.run(
            [self.project / "scripts" / script, *arguments],
            env={"PATH": str(self.bin), "HOME": str(self.project.parent), **environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout.splitlines()[-1]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.mark.parametrize("script", ["demo", "test", "check", "bench"])
def test_no_python(machine, script):
    assert machine.run(script) == (
        1,
        "rl_logging: no Python 3.10 or later was found on the PATH, and no python3 at all",
    )


def test_old_python(machine):
    """The one that was found is named, since the user may believe that it is another one."""
    machine.has("python3", 'case "$2" in *print*) echo 3.8 ;; *) exit 1 ;; esac')

    assert machine.run("test") == (
        1,
        f"rl_logging: no Python 3.10 or later was found on the PATH; {machine.bin}/python3 is Python 3.8",
    )


def test_python_without_venv(machine):
    """Debian splits the module off."""
    machine.has("python3", 'case "$2" in *print*) echo 3.11 ;; *ensurepip*) exit 1 ;; esac')

    status, last = machine.run("test")

    assert status == 1
    assert last.startswith(
        f"rl_logging: {machine.bin}/python3 has no venv module; on Debian and Ubuntu: apt "
    )


def test_newer_python_is_found_beside_an_old_one(machine):
    machine.has("python3", 'case "$2" in *print*) echo 3.8 ;; *) exit 1 ;; esac')
    machine.has("python3.12", 'case "$2" in *print*) echo 3.12 ;; esac')
    machine.has("df", "echo; echo /dev/disk 9000 8000 1000 90% /")  # stops it here

    assert "no space" in machine.run("test")[1]


def test_little_space(machine):
    machine.has("python3", f'exec {sys.executable} "$@"')
    machine.has("df", "echo; echo /dev/disk 9000 8000 1000 90% /")

    assert machine.run("test") == (
        1,
        f"rl_logging: no space: {machine.project} has 1000 MB free, and the packages need 2500 MB",
    )


def test_folder_in_the_way(machine):
    """What is no virtual environment is not ours to remove."""
    machine.has("python3", f'exec {sys.executable} "$@"')
    (machine.project / ".venv").mkdir()
    (machine.project / ".venv/precious").touch()

    assert machine.run("test") == (
        1,
        f"rl_logging: {machine.project}/.venv is no virtual environment; move it out of the way",
    )
    assert (machine.project / ".venv/precious").exists()


def test_project_that_cannot_be_written(machine):
    machine.has("python3", f'exec {sys.executable} "$@"')
    (machine.project / ".venv.lock").mkdir()  # a folder's mode would not stop root

    assert machine.run("test") == (1, f"rl_logging: cannot write in {machine.project}")


def test_no_network(machine):
    """pip speaks of versions that conflict when it cannot reach the index."""
    machine.has("python3", f'exec {sys.executable} "$@"')

    status, last = machine.run(
        "test",
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_NO_CACHE_DIR="1",
        PIP_RETRIES="1",
    )

    assert (status, last) == (
        1,
        "rl_logging: pip could not install the packages: the package index cannot be reached; "
        f"the log is {machine.project}/.venv.log",
    )


def test_unfinished_installation_is_done_again(machine):
    """A pip that was killed leaves packages without half of their files."""
    machine.has("python3", f'exec {sys.executable} "$@"')
    (machine.project / ".venv").mkdir()
    (machine.project / ".venv/installed").write_text("unfinished\n")
    (machine.project / ".venv/half").touch()

    machine.run("test", PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)

    assert not (machine.project / ".venv/half").exists()


def test_second_run_asks_nobody(machine):
    """What is installed is known by its stamp: neither pip nor the network is asked."""
    machine.has("python3", "exit 1")
    python = machine.project / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/usr/bin/env bash\ncase "$1" in -m) echo "ran $*" ;; esac\n')
    python.chmod(0o755)
    files = "setup.cfg setup.py scripts/constraints.txt scripts/setup-venv"
    stamp = subprocess.check_output(["bash", "-c", f"{{ pwd; cat {files}; }} | cksum"], cwd=machine.project)
    (machine.project / ".venv/installed").write_bytes(stamp)

    assert machine.run("test", "-k", "some") == (0, "ran -m pytest -k some")


@pytest.mark.skipif(sys.platform != "linux", reason="nowhere else is all of 127.0.0.0/8 this machine")
def test_bench_scrape():
    """Times of a cluster mean nothing unless its good nodes are all seen, whatever the bad ones do."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/bench.py", "--scrape", "--quick"],
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert done.returncode == 0, done.stderr
    assert re.findall(r"\d+ of \d+", done.stdout)[:4] == ["8 of 8", "6 of 6", "8 of 8", "2 of 2"]
