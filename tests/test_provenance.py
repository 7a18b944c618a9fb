"""What produced a run is known afterwards, whatever the machine and the repository are like."""

import importlib.metadata
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from repositories import git, isolate, make_project, run_script, write
from waiting import wait_until

from rl_logging.git import find_repository
from rl_logging.provenance import collect
from rl_logging.redaction import Redaction


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, whose ``train.py`` is the script that runs."""
    return make_project(tmp_path / "project", monkeypatch)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "ppo_001"


def text(folder: Path, name: str) -> str:
    path = folder / "provenance" / name
    return path.read_bytes().decode() if path.exists() else ""


def test_the_process_is_described(repository, run_folder, monkeypatch):
    """The questions that are asked of a run a year later."""
    monkeypatch.chdir(repository)
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("LOGNAME", "ada")
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "--name", "two words"])

    before = time.time()
    found = collect(run_folder, Redaction())

    assert {name: found[name] for name in ("command", "script", "working_folder", "user", "seed")} == {
        "command": "python train.py --name 'two words'",
        "script": str(repository / "train.py"),
        "working_folder": str(repository),
        "user": "ada",
        "seed": 7,
    }
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["cpus"] == len(os.sched_getaffinity(0))
    assert before - 1 < found["started"] < time.time() + 1
    assert {"platform", "host"} <= found.keys()
    assert "problems" not in found


def test_packages_are_listed_with_their_versions(repository, run_folder):
    """So that they can be installed again; addresses, which may hold a token, are not among them."""
    found = collect(run_folder, Redaction())

    lines = text(run_folder, "packages.txt").splitlines()
    assert f"pytest=={importlib.metadata.version('pytest')}" in lines
    assert lines == sorted(lines, key=lambda line: line.split("==")[0].lower())
    assert {line.count("==") for line in lines} == {1}
    assert found["packages"] == len(lines)


def test_a_clean_repository_leaves_no_diff(repository, run_folder):
    """An empty file would be one more thing to look into."""
    head = git(repository, "rev-parse", "HEAD")

    found = collect(run_folder, Redaction())

    assert found["git"] == {
        "commit": head,
        "branch": "main",
        "main": "main",
        "is_dirty": False,
        "root": str(repository),
    }
    assert found["files"] == {"packages": "provenance/packages.txt"}
    assert os.listdir(run_folder / "provenance") == ["packages.txt"]


def test_a_remote_is_named_without_its_user(repository, run_folder):
    """The user may be a token; the two forms of an address are told apart."""
    git(repository, "remote", "add", "origin", "git@example.org:project.git")

    assert collect(run_folder, Redaction())["git"]["remote"] == "example.org:project.git"


def test_outside_a_repository_all_else_is_there(tmp_path, run_folder, monkeypatch):
    """Not all code is under version control, and that is no problem to be told of."""
    isolate(monkeypatch)
    write(tmp_path, {"plain/train.py": ""})
    run_script(tmp_path / "plain/train.py", monkeypatch)
    monkeypatch.chdir(tmp_path)

    found = collect(run_folder, Redaction(), code=True)

    assert found.keys() & {"git", "problems"} == set()
    assert found["files"] == {"packages": "provenance/packages.txt"}


def test_the_current_folder_is_asked_where_the_script_is_in_no_repository(
    repository, run_folder, monkeypatch
):
    """A notebook's script, or an installed command, lies elsewhere than the user's code."""
    run_script(repository.parent / "gone.py", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.chdir(repository)

    assert collect(run_folder, Redaction())["git"]["root"] == str(repository)


def test_without_a_git_program_all_else_is_there(repository, run_folder, tmp_path, monkeypatch):
    """Containers have none."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert collect(run_folder, Redaction()).keys() & {"git", "problems"} == set()


def test_a_git_program_of_the_repository_is_not_run(repository, run_folder, monkeypatch):
    """Where the current folder is on the PATH, a project could bring its own."""
    write(repository, {"git": f"#!/bin/sh\ntouch {repository}/ran\n"})
    (repository / "git").chmod(0o755)
    monkeypatch.setenv("PATH", ".", prepend=os.pathsep)
    monkeypatch.chdir(repository)

    found = collect(run_folder, Redaction())

    assert not (repository / "ran").exists()
    assert found["git"]["branch"] == "main"


def test_a_git_that_hangs_is_ended_with_all_it_started(repository, tmp_path, monkeypatch):
    """A network disk that hangs must not hold the run's end, nor leave processes behind."""
    numbers = tmp_path / "numbers"
    write(tmp_path, {"bin/git": f"#!/bin/sh\nsleep 600 &\necho $$ $! > {numbers}\nwait\n"})
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)

    with pytest.raises(TimeoutError, match="the time is up"):
        find_repository([repository], time.monotonic() + 3)

    started = [int(number) for number in numbers.read_text().split()]
    assert len(started) == 2
    wait_until(lambda: not any(map(_is_alive, started)), timeout_s=60)


def _is_alive(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_no_time_at_all_is_survived(repository, run_folder):
    """Whoever gives no time gets what takes none."""
    found = collect(run_folder, Redaction(), limit_s=0)

    assert found["python"]
    assert found["problems"] == [
        "packages: TimeoutError: the time is up",
        "git: TimeoutError: the time is up",
    ]


def test_a_repository_that_git_refuses_is_told(repository, run_folder):
    """A repository of somebody else, or a damaged one: the run goes on, and the reason is known."""
    (repository / ".git/config").write_text("[core\n")

    found = collect(run_folder, Redaction())

    assert "git" not in found
    assert "bad config line 1" in found["problems"][0]


def test_a_folder_that_cannot_be_written_is_told(repository, tmp_path):
    """A full disk is no reason to stop training, nor to lose what is known."""
    write(tmp_path, {"file": ""})

    found = collect(tmp_path / "file", Redaction())

    assert "Not a directory" in found["problems"][0]
    assert found["python"]


def test_a_current_folder_that_was_removed_is_told(repository, run_folder, tmp_path, monkeypatch):
    """A job's scratch folder may go before the job."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path / "scratch")
    (tmp_path / "scratch").rmdir()

    found = collect(run_folder, Redaction())

    assert found["problems"] == ["working_folder: FileNotFoundError: [Errno 2] No such file or directory"]
    assert found["git"]["root"] == str(repository)


def test_a_later_call_replaces_the_files_of_an_earlier_one(repository, run_folder):
    """A diff that is left over would be taken for that of the resumed run."""
    write(repository, {"train.py": "lr = 2e-3\n"})
    assert "uncommitted" in collect(run_folder, Redaction(), code=True)["files"]
    write(repository, {"train.py": "lr = 1e-3\n"})

    collect(run_folder, Redaction())

    assert os.listdir(run_folder / "provenance") == ["packages.txt"]


def test_it_works_in_a_thread(repository, run_folder):
    """Where it is called from: training must not wait for it."""
    found = []
    thread = threading.Thread(target=lambda: found.append(collect(run_folder, Redaction())))
    thread.start()
    thread.join(60)

    assert found[0]["git"]["branch"] == "main"


def test_torch_is_not_imported_for_it(tmp_path, run_folder):
    """It takes seconds, and CUDA would take memory of a GPU that the run may not use."""
    code = (
        "import sys; from rl_logging.provenance import collect; from rl_logging.redaction import Redaction;"
        f"found = collect({str(run_folder)!r}, Redaction()); print('torch' in sys.modules, 'gpus' in found)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout == "False False\n"
