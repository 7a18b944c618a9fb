"""No secret is in what is kept of the code and the command that produced a run."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from repositories import commit, diff, git, make_project, write

from rl_logging.provenance import collect
from rl_logging.redaction import Redaction

# Shapes are put together here, so that nothing that looks for secrets finds one in this file.
GITHUB = "ghp_" + "Zk3v9QwX1bT7uR5sN2mL8pJ4hG6fD0cAyE3x"
PASSWORD = "tr0ub4dor-and-" + "x3-correct-horse"
PLANTED = (GITHUB, PASSWORD)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, whose ``train.py`` is the script that runs."""
    return make_project(tmp_path / "project", monkeypatch)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "ppo_001"


def bytes_below(folder: Path) -> bytes:
    """All that is in a folder: names, contents, and what is in its archives."""
    found = []
    for path in folder.rglob("*"):
        found.append(os.fsencode(path))
        if path.is_file():
            found.append(path.read_bytes())
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                found += [archive.read(name) for name in archive.namelist()]
    return b"\n".join(found)


def test_a_diff_shows_no_piece_of_a_secret_beside_its_lines(repository, run_folder):
    """Git repeats a line from above a change, cut off in its middle."""
    filler = "".join(f"    x = {n}\n" for n in range(9))
    write(repository, {"a.py": f'password = "{PASSWORD}{"x" * 90}"\n{filler}'})
    commit(repository)
    write(repository, {"a.py": f'password = "{PASSWORD}{"x" * 90}"\n{filler}    y = 1\n'})

    collect(run_folder, Redaction())

    assert "+    y = 1\n" in diff(run_folder)
    assert PASSWORD not in diff(run_folder)


def test_a_secret_is_hidden_before_the_line_that_names_it(repository, run_folder):
    """What was hidden once is hidden wherever it stands, whichever file comes first."""
    write(repository, {"a.txt": f"try {PASSWORD} here\n", "b.py": f'password = "{PASSWORD}"\n'})

    collect(run_folder, Redaction())

    assert PASSWORD not in diff(run_folder)


def test_secrets_are_nowhere_in_what_is_kept(repository, run_folder):
    """One that is sent to a tracker is known to all who read there, for ever."""
    said = f'token = "{GITHUB}"\npassword = "{PASSWORD}"\n'
    git(repository, "remote", "add", "origin", f"https://ada:{PASSWORD}@example.org/project.git")
    git(repository, "switch", "--quiet", "--create", "work")
    write(repository, {"settings.py": said, ".env": f"PASSWORD={PASSWORD}\n"})
    commit(repository)
    script = (
        "from rl_logging.provenance import collect; from rl_logging.redaction import Redaction;"
        "import sys; print(collect(sys.argv[1], Redaction(), code=True))"
    )
    write(
        repository,
        {
            "train.py": f"lr = 1e-3\n{script}\n",
            "settings.py": said + "# changed\n",
            "new.py": f'client = Client(api_key="{GITHUB}")\r\n',
            "prod.env": f"PASSWORD={PASSWORD}\n",
            ".netrc": f"machine example.org password {PASSWORD}\n",
            "keys/server.pem": PASSWORD,
        },
    )

    done = subprocess.run(
        [sys.executable, "train.py", str(run_folder), "--password", PASSWORD, f"--hub_token={GITHUB}"],
        cwd=repository,
        capture_output=True,
        check=True,
    )
    kept = done.stdout + bytes_below(run_folder)

    assert [secret for secret in PLANTED if secret.encode() in kept] == []
    assert b"https://example.org/project.git" in done.stdout
    assert sorted(os.listdir(run_folder / "provenance")) == [
        "code.zip",
        "main.diff",
        "packages.txt",
        "uncommitted.diff",
    ]
    assert {name for name in ("settings.py", "new.py", "train.py") if name.encode() not in kept} == set()
