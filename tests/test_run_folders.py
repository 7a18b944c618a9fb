"""New run folders: numbered, and never shared."""

import datetime
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rl_logging import configure
from rl_logging.run_folders import next_run_folder, temporary_folder

_TAKE = """
import sys
from rl_logging.run_folders import next_run_folder
sys.stdin.readline()
print(next_run_folder(sys.argv[1], "ppo"))
"""


def test_numbers_go_on_after_the_last(tmp_path):
    """A gap is not filled: a later run stands below an earlier one in every listing."""
    for name in ("ppo_001", "ppo_007", "ppo_x", "ppo_2_old", "sac_009"):
        (tmp_path / "runs" / name).mkdir(parents=True)

    assert next_run_folder(tmp_path / "runs", "ppo") == tmp_path / "runs" / "ppo_008"
    assert next_run_folder(tmp_path / "runs", "dqn") == tmp_path / "runs" / "dqn_001"


@pytest.mark.parametrize("name", ["../../ppo", "/ppo", "ppo\n", "ALE/Pong-v5", ".."])
def test_a_name_is_no_path(tmp_path, name):
    """An environment's name has slashes; it must not lead anywhere."""
    assert next_run_folder(tmp_path, name).parent == tmp_path


def test_64_processes_get_64_folders(tmp_path):
    """A cluster starts them at once."""
    command = [sys.executable, "-c", _TAKE, str(tmp_path)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(64)
    ]
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    folders = [Path(child.communicate()[0].strip()) for child in children]

    assert sorted(folders) == [tmp_path / f"ppo_{n:03}" for n in range(1, 65)]


def test_two_runs_without_a_folder_at_the_same_microsecond(tmp_path, monkeypatch):
    """SB3's name for one is the time."""

    class Stopped(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5, 6)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(datetime, "datetime", Stopped)

    names = [temporary_folder().name for _ in range(3)]

    assert names == [f"SB3-2026-01-02-03-04-05-000006{end}" for end in ("", "_2", "_3")]


def test_configure_without_a_folder_makes_one_each(tmp_path, monkeypatch):
    """Two loggers of one process do not write one journal."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with configure(None, []) as one, configure(None, []) as other:
        folders = {one.get_dir(), other.get_dir()}

    assert len(folders) == 2 == len(os.listdir(tmp_path))


def test_a_wrong_argument_makes_no_folder(tmp_path, monkeypatch):
    """What is refused leaves nothing behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="delivery"):
        configure(None, [], delivery="pigeon")

    assert os.listdir(tmp_path) == []
