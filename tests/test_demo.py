"""The demo, as a person runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from rl_logging import MemoryOutputFormat, cli
from rl_logging.journal import read
from rl_logging.readers import compare
from rl_logging.record import make_record


def demo(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "rl_logging.cli", "demo", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo(folder, "--timesteps", "4096")


def test_every_output_is_equal(finished: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    """The promise, shown: what was recorded arrived everywhere."""
    _, process = finished

    lines = [line.split("│") for line in process.stdout.splitlines() if line.startswith("│")]
    rows = {line[1].strip(): line[-2] for line in lines if line[1].strip()}  # the rest are folded cells
    assert process.returncode == 0, process.stderr
    assert list(rows) == [
        *("journal", "stdout", "log", "csv", "json"),
        *("tensorboard", "mlflow", "wandb", "clearml", "swanlab"),
    ]
    assert all(verdict.strip().startswith("equal") for verdict in rows.values())


def test_what_is_no_number_is_in_every_tracker(
    finished: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    """A video that only one of five trackers has is found by nobody."""
    _, process = finished

    head, *lines = process.stdout.partition("Besides numbers")[2].partition("Learning curve")[0].split("\n ")
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip(" ─\n")}
    assert rows.pop("kind") == ["journal", "tensorboard", "mlflow", "wandb", "clearml", "swanlab"]
    assert {kind: len(set(counts)) for kind, counts in rows.items()} == dict.fromkeys(
        ("image", "figure", "video", "histogram", "table", "text", "hyperparameter", "tag", "model"), 1
    )
    assert head.strip() == ""


def test_node_of_the_local_ray_is_in_every_dump(
    finished: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    """CPU and memory; that each output has what the journal has, the table above says."""
    folder, process = finished

    run = folder / "runs" / "ppo_cartpole-v1_001"
    records = [record.values for record in read(run / "journal.jsonl") if record.kind == "metrics"]
    dumps = [values for values in records if {"time/iterations", "eval/mean_reward"} & values.keys()]
    assert "Ray is started, with one node (no GPU)." in process.stdout
    assert len(dumps) == 4
    for values in dumps:
        assert 0 < values["ray/node.local.mem_gb"] < values["ray/node.local.mem_total_gb"]
        assert 0 <= values["ray/node.local.cpu_util"] <= 100
    assert "node.local.cpu_util" in (run / "train.log").read_text()
    assert "    cpu_util " in process.stdout
    assert "    mem_gb " in process.stdout


def test_says_where_everything_is(finished: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    """A tree, a picture, and for each tracker with a page of its own the command that opens it."""
    folder, process = finished

    run = folder / "runs" / "ppo_cartpole-v1_001"
    assert (run / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert "├── journal.jsonl" in process.stdout
    for command in ("tensorboard --logdir", "mlflow ui", "wandb leet", "swanlab watch"):
        assert command in process.stdout


def test_a_second_run_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    """Nothing that a run left behind is touched by the next."""
    for number in (1, 2):
        process = demo(tmp_path, "--timesteps", "100", "--outputs", "csv", "--algo", "a2c")

        assert process.returncode == 0, process.stdout + process.stderr
        assert (tmp_path / "runs" / f"a2c_cartpole-v1_00{number}" / "progress.csv").exists()


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        (["--algo", "pro"], "allowed are a2c, ddpg, dqn, ppo, sac, td3"),
        (["--env", "CartPol-v1"], "did you mean 'CartPole-v1'?"),
        (["--env", "no such"], "allowed is what Gymnasium knows, such as CartPole-v1"),
        (["--env", "Pendulum-v1", "--algo", "dqn"], "needs Discrete actions"),
        (["--algo", "sac"], "needs Box actions"),
        (["--timesteps", "0"], "'0' is no whole number from 1 on"),
        (["--timesteps", "1e4"], "'1e4' is no whole number from 1 on"),
        (["--seed", "-1"], "'-1' is no whole number from 0 on"),
        (["--outputs", "csv,mlfow"], "did you mean 'mlflow'?"),
        (["--outputs", "memory"], "allowed are stdout, log, csv, json, tensorboard"),
        (["--outputs", "csv,csv"], "given twice"),
        (["--folder", "/dev/null/run"], "choose another"),
        (["--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_a_bad_option_gets_one_line(
    options: list[str],
    allowed: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A person who mistypes needs to know what to type."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit) as ended:
        cli.main(["demo", *options])

    message = capsys.readouterr().err
    assert ended.value.code == 2
    assert allowed in message
    assert message.count("\n") == 1


def test_a_folder_with_a_run_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs in one folder could not be compared with one journal."""
    (tmp_path / "journal.jsonl").touch()

    with pytest.raises(SystemExit):
        cli.main(["demo", "--folder", str(tmp_path)])

    assert "holds a run already" in capsys.readouterr().err


def test_differences_are_found() -> None:
    """A table that always says "equal" would be worth nothing."""
    output = MemoryOutputFormat()
    records = [make_record({"a": n, "b": n}, {}, step=n) for n in range(3)]
    changed = make_record({"a": 1.5, "b": 1}, {}, step=1)
    for record in (records[0], changed, make_record({"b": 2, "c": 0}, {}, step=2)):
        output.handle(record)

    assert compare(output, records).differences == (
        "a: point 2 is (1, 1.5), not (1, 1.0)",
        "c: 1 points too many",
    )
    assert compare(output, [*records, records[0]]).differences == (
        "a: point 2 is (1, 1.5), not (1, 1.0)",
        "b: 1 of 4 points are missing",
        "c: 1 points too many",
    )
