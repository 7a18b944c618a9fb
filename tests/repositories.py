"""Real git repositories for tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ME = {f"GIT_{who}_{what}": "me@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def isolate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let git know nothing of the person and the machine that run the test."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name, value in {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, **_ME}.items():
        monkeypatch.setenv(name, value)


def make_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, whose ``train.py`` is the script that runs."""
    isolate(monkeypatch)
    make_repository(folder, {"train.py": "lr = 1e-3\n", ".gitignore": "ignored/\n"})
    run_script(folder / "train.py", monkeypatch)
    return folder


def run_script(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this be the script that Python was started with."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(path))


def git(folder: Path, *arguments: str) -> str:
    """What git answers."""
    done = subprocess.run(["git", *arguments], cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_repository(folder: Path, files: dict[str, str] | None = None) -> Path:
    """A repository on the branch ``main`` with one commit of these files, or with none."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    if files:
        write(folder, files)
        commit(folder)
    return folder


def write(folder: Path, files: dict[str, str]) -> None:
    """Write texts, with their ends of lines as they are."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())


def commit(folder: Path) -> str:
    """Commit all that there is; the commit's number."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=one more", "--no-verify")
    return git(folder, "rev-parse", "HEAD")


def diff(folder: Path, name: str = "uncommitted") -> str:
    return (folder / f"provenance/{name}.diff").read_bytes().decode("utf-8", "surrogateescape")


def left_out(folder: Path, name: str = "uncommitted") -> list[str]:
    """What the first lines of a diff say is not in it."""
    return [line[12:] for line in diff(folder, name).splitlines() if line.startswith("# left out: ")]


def changed(folder: Path, name: str = "uncommitted") -> list[str]:
    """The names of the files in a diff."""
    heads = [line for line in diff(folder, name).splitlines() if line.startswith("diff --git ")]
    return [head.rpartition(" b/")[2] for head in heads]
