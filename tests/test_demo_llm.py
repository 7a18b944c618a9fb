"""The demo of a language model's training, as a person runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nvml_stand_in
import pytest
import yaml

from rl_logging import cli
from rl_logging.demo_llm import recording
from rl_logging.journal import read
from rl_logging.record import Record

TRACKERS = ["wandb", "swanlab", "tensorboard", "mlflow", "clearml"]
GPU = nvml_stand_in.StandInGpu(util=37, used_mib=2048)


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, nvml_library: Path
) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """A run into all trackers, on a machine that seems to have a GPU."""
    folder = tmp_path_factory.mktemp("demo")
    gpus = tmp_path_factory.mktemp("gpus") / "gpus.txt"
    nvml_stand_in.write_gpus(gpus, [GPU])
    process = subprocess.run(
        [sys.executable, "-m", "rl_logging.cli", "demo", "--llm"],
        cwd=folder,
        env={**os.environ, **nvml_stand_in.environment(nvml_library, gpus)},
        capture_output=True,
        text=True,
        timeout=280,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return folder, process


def records(folder: Path) -> list[Record]:
    """What the run's journal has."""
    return list(read(folder / "runs" / "grpo_001" / "journal.jsonl"))


def test_every_tracker_is_equal(finished: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    """Numbers, and all that is none."""
    _, process = finished

    lines = [line.split("│") for line in process.stdout.splitlines() if line.startswith("│ ")]
    rows = {line[1].strip(): line[-2].strip() for line in lines if len(line) == 7 and line[1].strip()}
    counts = process.stdout.partition("Besides numbers")[2].partition("Learning curve")[0]
    kinds = {line.split()[0]: line.split()[1:] for line in counts.splitlines() if len(line.split()) == 7}
    assert process.returncode == 0, process.stdout + process.stderr
    assert list(rows) == ["journal", *TRACKERS]
    assert all(verdict.startswith("equal") for verdict in rows.values())
    assert len(set(kinds.pop("text"))) == 1  # the GPU's type
    assert kinds == {
        "kind": ["journal", *TRACKERS],
        "figure": ["24"] * 6,
        "histogram": ["24"] * 6,
        "table": ["6"] * 6,
        "hyperparameter": ["18"] * 6,
    }


def test_gpus_are_sampled_on_their_own_clock(
    finished: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    """With NeMo-RL's names and units."""
    folder, _ = finished

    samples = [record.values for record in records(folder) if record.axis == "ray/ray_step"]
    assert samples
    assert {sample["ray/node.0.gpu.0.util"] for sample in samples} == {37}
    assert {sample["ray/node.0.gpu.0.mem_gb"] for sample in samples} == {2.0}


def test_what_was_recorded_is_replayed(finished: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    """Every step, through NeMo-RL's own calls."""
    folder, process = finished

    header, *steps = recording()
    rewards = {r.step: r.values["train/reward"] for r in records(folder) if "train/reward" in r.values}
    assert rewards == {line["step"]: line["metrics"]["reward"] for line in steps}
    assert yaml.safe_load((folder / "runs/grpo_001/hyperparams.yaml").read_text()) == header["config"]
    assert "-> calculator" in process.stdout


def test_samples_and_batches_are_files(finished: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    """For whoever wants to read more than the console shows."""
    folder, _ = finished

    run = folder / "runs" / "grpo_001"
    samples = [json.loads(line) for line in (run / "samples" / "val_samples.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in (run / "rollouts" / "step_3.jsonl").read_text().splitlines()]
    assert sorted({sample["step"] for sample in samples}) == [4, 8, 12, 16, 20, 24]
    assert [row["idx"] for row in rows] == list(range(len(rows)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--outputs", "csv"], "'csv' is no tracker of NeMo-RL's; allowed are"),
        (["--outputs", "mlfow"], "did you mean 'mlflow'?"),
        (["--chaos"], "--llm trains nothing, so --chaos has no meaning with it"),
        (["--timesteps", "5"], "--llm trains nothing, so --timesteps has no meaning with it"),
    ],
)
def test_a_bad_option_is_one_line(
    options: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And no folder is left behind."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo", "--llm", *options])

    assert stopped.value.code == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
