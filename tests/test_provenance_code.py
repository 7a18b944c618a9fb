"""Which of a repository's files are kept with a run, and that nothing else is done to it."""

import shutil
import zipfile
from pathlib import Path

import pytest
from repositories import changed, commit, diff, git, left_out, make_project, make_repository, write

from rl_logging.provenance import collect
from rl_logging.redaction import Redaction
from rl_logging.worktree import is_secret


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, whose ``train.py`` is the script that runs."""
    return make_project(tmp_path / "project", monkeypatch)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "ppo_001"


def test_what_is_left_out_is_named(repository, run_folder):
    """A reader must know what the diff does not show; a secret's name is not the secret."""
    write(repository, {"data.csv": "1\n", "cert.pem": "1\n", "link": "1\n"})
    commit(repository)
    write(repository, {"data.csv": "2\n" * 600_000, "cert.pem": "2\n", "id_rsa.pub": "", "secrets/a.txt": ""})
    write(
        repository, {"new.csv": "3\n" * 600_000, "weights.bin": "\0" * 10, ".ENV.local": "", "ok.py": "o\n"}
    )
    (repository / "link").unlink()
    (repository / "to_host").symlink_to("/etc/hostname")
    make_repository(repository / "inner", {"a.py": "a\n"})

    collect(run_folder, Redaction())

    assert sorted(left_out(run_folder)) == [
        ".ENV.local (its name says that it holds secrets)",
        "cert.pem (its name says that it holds secrets)",
        "data.csv (its change is over 1 MiB)",
        "id_rsa.pub (its name says that it holds secrets)",
        "inner/ (it is a repository of its own)",
        "new.csv (it is over 1 MiB)",
        "secrets/a.txt (its name says that it holds secrets)",
        "to_host (it is a link)",
        "weights.bin (it is binary)",
    ]
    assert changed(run_folder) == ["link", "ok.py"]


def test_a_changed_binary_file_is_named(repository, run_folder):
    """Git would write a line that it cannot apply again."""
    write(repository, {"weights.bin": "\0one"})
    commit(repository)
    write(repository, {"weights.bin": "\0two"})

    collect(run_folder, Redaction())

    assert diff(run_folder) == "# left out: weights.bin (it is binary)\n"


def test_what_runs_write_is_no_change_of_the_code(repository):
    """A run that held the diffs of those before it would double with each."""
    run = repository / "runs" / "ppo_002"
    write(repository / "runs", {"ppo_001/journal.jsonl": "{}\n", "ppo_001/train.log": "loss\n"})
    write(repository / "runs", {"mlartifacts/0/a.txt": "a\n", "notes.md": "n\n", "helpers/a.py": "h\n"})
    write(run, {"journal.jsonl": "{}\n", "train.log": "loss\n"})

    collect(run, Redaction())
    collect(run, Redaction())

    assert changed(run) == ["runs/helpers/a.py", "runs/notes.md"]
    assert left_out(run) == []


def test_a_run_in_the_repository_itself_hides_no_code(repository):
    """``configure(".")`` makes the project's folder the run folder."""
    write(repository, {"journal.jsonl": "{}\n", "train.py": "lr = 2e-3\n", "new.py": "n\n"})

    collect(repository, Redaction())
    collect(repository, Redaction())

    assert changed(repository) == ["train.py", "new.py"]


def test_changes_in_a_submodule_are_kept(repository, run_folder, tmp_path):
    """Git itself would say only that there are some."""
    make_repository(tmp_path / "library", {"agent.py": "a = 1\n"})
    allow = ("-c", "protocol.file.allow=always")
    git(repository, *allow, "submodule", "--quiet", "add", str(tmp_path / "library"), "parts/library")
    commit(repository)
    write(repository / "parts/library", {"agent.py": "a = 2\n", "new.py": "b = 3\n"})

    found = collect(run_folder, Redaction(), code=True)

    assert found["git"]["is_dirty"] is True
    assert changed(run_folder) == ["parts/library/agent.py", "parts/library/new.py"]
    with zipfile.ZipFile(run_folder / "provenance/code.zip") as archive:
        assert archive.read("parts/library/agent.py") == b"a = 2\n"


def test_the_archive_holds_what_is_tracked_as_it_is_now(repository, run_folder):
    """It is asked for where the repository itself will not be there later."""
    write(
        repository,
        {"run.sh": "#!/bin/sh\n", "weights.bin": "\0", "server.key": "k", "gone.py": "", "é.py": "é"},
    )
    (repository / "run.sh").chmod(0o755)
    commit(repository)
    write(repository, {"train.py": "lr = 2e-3\r\n", "untracked.py": "", "ignored/a.py": ""})
    (repository / "gone.py").unlink()

    found = collect(run_folder, Redaction(), code=True)

    assert found["files"]["code"] == "provenance/code.zip"
    with zipfile.ZipFile(run_folder / "provenance/code.zip") as archive:
        modes = {entry.filename: oct(entry.external_attr >> 16) for entry in archive.infolist()}
        content = {name: archive.read(name).decode() for name in archive.namelist()}
    assert modes["run.sh"] == "0o755"
    assert content == {
        ".gitignore": "ignored/\n",
        "run.sh": "#!/bin/sh\n",
        "train.py": "lr = 2e-3\r\n",
        "é.py": "é",
        "LEFT_OUT.txt": (
            "# left out: server.key (its name says that it holds secrets)\n"
            "# left out: gone.py (it is not there)\n"
            "# left out: weights.bin (it is binary)\n"
        ),
    }


def test_no_program_of_the_repository_is_run(repository, run_folder, tmp_path):
    """A project that somebody sent may configure any; and each could hang."""
    write(tmp_path, {"program": f"#!/bin/sh\necho $0 $* >> {tmp_path}/ran\ncat\n"})
    program = tmp_path / "program"
    program.chmod(0o755)
    write(repository, {".gitattributes": "*.py diff=mine\n*.nb filter=mine\n", "a.nb": "1\n"})
    commit(repository)
    for setting in (
        "core.fsmonitor",
        "diff.external",
        "diff.mine.command",
        "diff.mine.textconv",
        "core.pager",
    ):
        git(repository, "config", setting, str(program))
    for setting in ("clean", "smudge", "process"):
        git(repository, "config", f"filter.mine.{setting}", str(program))
    git(repository, "config", "filter.mine.required", "true")
    for hook in ("post-index-change", "fsmonitor-watchman"):
        shutil.copy(program, repository / ".git/hooks" / hook)
    write(repository, {"train.py": "lr = 2e-3\n", "a.nb": "2\n", "b.nb": "3\n"})

    found = collect(run_folder, Redaction(), code=True)

    assert not (tmp_path / "ran").exists()
    assert "problems" not in found
    assert left_out(run_folder) == [
        "a.nb (it passes through a filter of git)",
        "b.nb (it passes through a filter of git)",
    ]
    assert changed(run_folder) == ["train.py"]


def test_the_repository_is_left_as_it_is(repository, run_folder):
    """The user works in it at the same time: a lock that we hold would refuse a commit."""
    write(repository, {"train.py": "lr = 2e-3\n"})
    git(repository, "add", "train.py")
    write(repository, {"train.py": "lr = 1e-3\n", "new.py": "n\n", ".gitignore": "changed/\n"})
    before = _everything(repository)

    collect(run_folder, Redaction(), code=True)

    assert _everything(repository) == before
    assert changed(run_folder) == [".gitignore", "new.py"]


def _everything(folder: Path) -> dict[str, tuple[int, int]]:
    found = {str(path): path.stat() for path in [folder, *folder.rglob("*")]}
    return {path: (about.st_mtime_ns, about.st_size) for path, about in found.items()}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".env", True),
        (".env.local", True),
        ("deploy/prod.env", True),
        ("ID_RSA", True),
        ("secrets/values.yaml", True),
        ("client_secret_1.json", True),
        ("a/credentials.json", True),
        (".aws/config", True),
        ("environment.py", False),
        ("keys.py", False),
        ("tokenizer.json", False),
        ("pem.py", False),
    ],
)
def test_names_that_say_secret_are_known(path, expected):
    """What such files hold has no shape that could be recognised."""
    assert is_secret(path) is expected
