"""The wheel that users install: what is in it, and that it works where it stands alone."""

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left between the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("rl_logging", "tests", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", folder)
    (built,) = (folder / "dist").iterdir()
    return built


def test_wheel_holds_the_package_and_nothing_else(wheel):
    """Tests and scripts would land in everybody's site-packages; without py.typed mypy sees no types."""
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "rl_logging").rglob("*.py")}

    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert names == {*sources, "rl_logging/py.typed", "rl_logging/data/grpo_run.jsonl"}


def test_extra_all_brings_every_tracker(wheel):
    """The error about a missing tracker names its extra, so that extra must be there."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith("/METADATA"))
        metadata = message_from_bytes(file.read(name))

    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-File"] == "LICENSE"
    assert set(metadata.get_all("Provides-Extra")) >= {
        "all",
        "clearml",
        "mlflow",
        "plot",
        "swanlab",
        "tensorboard",
        "test",
        "wandb",
    }


def test_installed_wheel_runs(wheel, tmp_path):
    """An editable install works even where a module was left out of the wheel; this one does not."""
    venv.create(tmp_path / "env", symlinks=True)
    python = tmp_path / "env/bin/python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
    )
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "dependencies.pth").write_text(
        sysconfig.get_path("purelib")
    )  # what stands there is not imported twice

    assert run(python, "-c", "import rl_logging; print(rl_logging.__file__)").startswith(str(site))
    assert "demo" in run(tmp_path / "env/bin/rl-logging", "--help")
    assert "Logger" in run(python, "-c", "from rl_logging import *; print(Logger, configure)")
