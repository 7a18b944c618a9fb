"""The code that produced a run can be had again from its diffs."""

import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from repositories import (
    changed,
    commit,
    diff,
    git,
    isolate,
    make_project,
    make_repository,
    run_script,
    write,
)

from rl_logging.diffs import uncommitted
from rl_logging.git import Git
from rl_logging.provenance import collect
from rl_logging.redaction import Redaction
from rl_logging.worktree import Worktree, is_secret, quoted


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, whose ``train.py`` is the script that runs."""
    return make_project(tmp_path / "project", monkeypatch)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "ppo_001"


def trees(repository: Path, run_folder: Path) -> list[Worktree]:
    """A repository's working tree, with all the time there is."""
    return [Worktree(Git(repository, time.monotonic() + 600), run_folder)]


def contents(folder: Path) -> dict[bytes, tuple[bytes, bool]]:
    """Every file below a folder, and whether it can be executed, without git's own."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {
        os.fsencode(path.relative_to(folder)): (path.read_bytes(), os.access(path, os.X_OK)) for path in paths
    }


def test_the_diffs_rebuild_the_working_tree(repository, run_folder, tmp_path):
    """They are there to get the run's code again, byte by byte."""
    write(
        repository,
        {
            "crlf.txt": "one\r\ntwo\r\n",
            "gone.py": "x = 1\n",
            "latin.txt": "a\n",
            "mode.sh": "\n",
            "here.py": "h = 1\n" * 9,
        },
    )
    base = commit(repository)
    git(repository, "switch", "--quiet", "--create", "work")
    write(repository, {"train.py": "lr = 2e-3\n", "on the branch.py": "y = 2\n"})
    git(repository, "mv", "here.py", "there.py")
    commit(repository)
    git(repository, "mv", "there.py", "elsewhere.py")
    write(repository, {"crlf.txt": "one\r\n2\r\n", "staged.py": "z = 3", "train.py": "lr = 3e-3\n"})
    (repository / "latin.txt").write_bytes(b"caf\xe9\n")
    (repository / "gone.py").unlink()
    (repository / "mode.sh").chmod(0o755)
    git(repository, "add", "staged.py", "train.py")
    write(repository, {"train.py": "lr = 4e-3\n", "new/no end.py": "w = 4", "new/empty.py": ""})
    write(repository, {'new/odd "name"\t\n\\é.py': "v = 5\r\n", "new/run.sh": "#!/bin/sh\n"})
    (repository / "new/run.sh").chmod(0o755)

    collect(run_folder, Redaction())
    git(tmp_path, "clone", "--quiet", str(repository), "again")
    git(tmp_path / "again", "checkout", "--quiet", base)
    for name in ("main", "uncommitted"):
        git(tmp_path / "again", "apply", str(run_folder / f"provenance/{name}.diff"))

    assert contents(tmp_path / "again") == contents(repository)


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=50)


def _is_free(name: str) -> bool:
    return not name.startswith(".") and not is_secret(name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(files=st.dictionaries(NAMES.filter(_is_free), st.text("ab\r\n +-@\\é", max_size=30), min_size=1))
def test_new_files_of_any_name_and_text_can_be_applied(repository, run_folder, tmp_path, files):
    """Names with spaces, quotes and control characters are written into a diff by rules of their own."""
    new, again = repository / "new", tmp_path / "again"
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(again, ignore_errors=True)
    write(new, files)
    make_repository(again)

    (tmp_path / "new.diff").write_bytes(uncommitted(trees(repository, run_folder), Redaction()))
    git(again, "apply", str(tmp_path / "new.diff"))

    assert contents(again / "new") == contents(new)


def test_names_are_quoted_as_git_does(repository):
    """So that the two halves of a diff name a file in the same way."""
    name = 'tab\t "quoted" back\\slash é.py'
    write(repository, {name: ""})

    listed = git(repository, "-c", "core.quotePath=false", "ls-files", "--others")

    assert quoted("plain é.py") == "plain é.py"
    assert listed == '"tab\\t \\"quoted\\" back\\\\slash é.py"'
    assert quoted(name) == listed.replace("\\t", "\\011").replace('\\"', "\\042").replace("\\\\", "\\134")


def test_before_the_first_commit_all_is_new(tmp_path, run_folder, monkeypatch):
    """A project begins with an experiment."""
    isolate(monkeypatch)
    fresh = make_repository(tmp_path / "fresh")
    write(fresh, {"staged.py": "x = 1\n", "train.py": "y = 2\n"})
    git(fresh, "add", "staged.py")
    run_script(fresh / "train.py", monkeypatch)

    found = collect(run_folder, Redaction(), code=True)

    assert found["git"] == {"branch": "main", "is_dirty": True, "root": str(fresh)}
    assert changed(run_folder) == ["staged.py", "train.py"]
    assert "problems" not in found


def test_a_detached_head_in_another_worktree_is_compared_with_the_remotes_main_branch(
    repository, run_folder, tmp_path, monkeypatch
):
    """How a job on a cluster checks out what it runs; and the main branch may have any name."""
    git(repository, "branch", "--move", "main", "trunk")
    git(tmp_path, "clone", "--quiet", str(repository), "clone")
    write(tmp_path / "clone", {"train.py": "lr = 2e-3\n"})
    head = commit(tmp_path / "clone")
    git(tmp_path / "clone", "worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"))
    run_script(tmp_path / "tree/train.py", monkeypatch)

    found = collect(run_folder, Redaction())

    assert found["git"] == {
        "commit": head,
        "main": "origin/trunk",
        "is_dirty": False,
        "remote": str(repository),
        "root": str(tmp_path / "tree"),
    }
    assert found["files"].keys() == {"packages", "main"}
    assert "-lr = 1e-3\n+lr = 2e-3\n" in diff(run_folder, "main")


def test_a_diff_has_an_end(repository, run_folder):
    """A generated folder that .gitignore does not name must not fill the trackers."""
    write(repository, {f"generated/{n:02}.txt": "0123456789" * 100_000 for n in range(20)})

    lines = uncommitted(trees(repository, run_folder), Redaction()).splitlines()

    reason = b"with it and what follows, the diff is over 10 MiB"
    assert lines[0] == b"# left out: generated/10.txt (%b)" % reason
    assert sum(line.startswith(b"diff --git ") for line in lines) == 10


def test_many_changed_files_take_several_calls(repository, run_folder):
    """The system limits how long a command line may be."""
    files = {f"{'long' * 40}/{n:04}.py": "old\n" for n in range(1500)}
    write(repository, files)
    commit(repository)
    write(repository, dict.fromkeys(files, "new\n"))

    lines = uncommitted(trees(repository, run_folder), Redaction()).splitlines()

    assert lines.count(b"+new") == len(files)


def test_the_users_settings_do_not_change_the_form(repository, run_folder):
    """A diff with other prefixes, colours or an order of its own could not be applied."""
    write(repository, {"é.py": "one\ntwo\n"})
    commit(repository)
    settings = {
        "color.ui": "always",
        "diff.noprefix": "true",
        "diff.orderFile": "gone",
        "diff.context": "0",
    }
    for name, value in {**settings, "status.showUntrackedFiles": "no", "core.quotePath": "true"}.items():
        git(repository, "config", name, value)
    write(repository, {"é.py": "one\n2\n", "train.py": "lr = 2e-3\n"})

    collect(run_folder, Redaction())

    assert changed(run_folder) == ["train.py", "é.py"]
    assert diff(run_folder).startswith("diff --git a/train.py b/train.py\nindex ")
    assert "\n one\n-two\n+2\n" in diff(run_folder)
