"""A secret that somebody gave to a run is nowhere that the run leaves anything."""

import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from repositories import git, isolate, make_repository
from runs import empty_store
from stable_baselines3.common import logger as sb3

from rl_logging import make_output_format

SCRIPT = """
import argparse, sys
from rl_logging import configure

parser = argparse.ArgumentParser()
parser.add_argument("--api-key")
parser.add_argument("--run")
options = parser.parse_args()
logger = configure(
    options.run,
    ["stdout", "log", "csv", "json", "tensorboard", "mlflow", "wandb", "clearml", "swanlab"],
    provenance="code",
    wandb={"mode": "offline"},
    clearml={"offline": True},
    swanlab={"mode": "offline"},
)
logger.log_hyperparams({
    "optimiser": {"lr": 1e-3, "password": "planted-in-hyperparameters"},
    "api_key": options.api_key,
    "database": "postgres://me:planted-in-address@db.example.org/runs",
})
logger.log_tags({"owner_token": "planted-in-tags-0815"})
logger.log_text("sample", "the model said ghp_plantedInTextAbcdefghijklmnopqrstuvwxyz01", 1)
logger.log_table("rows", {"text": ["sk-planted-in-a-table-0123456789abcdefghij"]}, 1)
logger.info("using hf_plantedInMessageAbcdefghijklmnopqrst")
logger.record("note", "https://user:planted-in-text@example.org/")
logger.record("loss", 0.5)
logger.dump(1)
with open("model.bin", "wb") as file:
    file.write(b"x")
logger.log_artifact("model.bin", metadata={"secret": "planted-in-metadata"})
logger.flush(120)
logger.close(120)
"""
DIFF = 'PASSWORD = "planted-in-diff-4711"\nurl = "https://bot:planted-in-code@example.org"\n'
COMMITTED = 'TOKEN = "planted-in-commit-1234"\n'
REMOTE = "https://oauth:planted-in-remote@git.example.org/me/project.git"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository with secrets in what is committed, in what is not, and in its remote."""
    folder = tmp_path_factory.mktemp("leaks") / "project"
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch)
        make_repository(folder, {"train.py": SCRIPT, "settings.py": COMMITTED, ".gitignore": "out/\n"})
        git(folder, "remote", "add", "origin", REMOTE)
        (folder / "settings.py").write_text(COMMITTED + DIFF)
        (folder / ".env").write_text("API_KEY=planted-in-env-file\n")
        patch.delenv("RL_LOGGING_PROVENANCE")
        (folder / "out").mkdir()
        empty_store(folder / "out")
        patch.setenv("WANDB_DATA_DIR", str(folder / "out"))
        patch.setenv("WANDB_CACHE_DIR", str(folder / "out"))
        patch.setenv("EXAMPLE_API_KEY", "planted-in-environment")
        yield folder


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, with those inside archives."""
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            yield str(path), content
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(io.BytesIO(content)) as archive:
                    for name in archive.namelist():
                        yield f"{path}:{name}", archive.read(name)


def test_planted_secrets_are_found_nowhere(project: Path) -> None:
    """A run folder is sent to colleagues, and a tracker is read by all of them."""
    run = project / "out" / "run"
    command = [sys.executable, "train.py", "--run", str(run), "--api-key", "planted-in-command-line"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=280, check=False)

    assert done.returncode == 0, done.stderr
    found = dict(files(project / "out"))
    assert [name for name, content in found.items() if b"planted" in content] == []
    assert "planted" not in done.stdout + done.stderr
    assert "secrets in hyperparameters are replaced by <hidden>" in done.stderr
    # What is no secret has arrived, or the test would pass with an empty folder.
    whole = b"".join(found.values())
    for innocent in (b"db.example.org/runs", b"the model said", b"git.example.org/me/project.git"):
        assert whole.count(innocent) >= 2, innocent
    kinds = {"journal.jsonl", "mlflow.db", ".wandb", ".swanlab", "task.json", "tfevents", "uncommitted.diff"}
    assert [kind for kind in kinds if not any(kind in name for name in found)] == []


@pytest.mark.parametrize("name", ["csv", "json", "log", "journal", "tensorboard"])
def test_sb3_s_own_logger_leaks_none_into_our_outputs(tmp_path: Path, name: str) -> None:
    """An output of ours hides them also where it stands alone."""
    logger = sb3.Logger(str(tmp_path), [make_output_format(name, tmp_path)])
    logger.record("sample", "the model said ghp_plantedInTextAbcdefghijklmnopqrstuvwxyz01")
    logger.record("api_key", "planted-under-a-name")
    logger.record("loss", 0.5)
    logger.info("using hf_plantedInMessageAbcdefghijklmnopqrst")
    logger.dump(1)
    logger.close()

    written = b"".join(content for _, content in files(tmp_path))
    assert b"the model said <hidden>" in written
    assert b"planted" not in written
