"""All outputs in one program: what they leave of the user's process, console and network."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from rl_logging.formats import make_output
from rl_logging.readers import compare, read_records, trackers

OUTPUTS = ["log", "csv", "json", "tensorboard", "mlflow", "wandb", "clearml", "swanlab"]
PROGRAM = """
    import argparse, json, os, signal, sys

    asked = []
    def audit(event, arguments):
        if event in ("socket.getaddrinfo", "socket.gethostbyname"):
            asked.append(str(arguments[0]))
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            asked.append(str(arguments[1][0]))
    sys.addaudithook(audit)

    def state():
        handlers = {s.name: str(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGSEGV)}
        patched = [sys.stdout.write, sys.stderr.write, argparse.ArgumentParser.parse_args, sys.exit]
        patched = [str(p).split(" at 0x")[0] for p in patched]
        return {"hook": str(sys.excepthook), **handlers, "patched": str(patched), **os.environ}

    from rl_logging import configure
    before = state()
    trackers = ["tensorboard", "mlflow", "wandb", "clearml", "swanlab"]
    logger = configure(sys.argv[1], ["log", "csv", "json", *trackers])
    for step in range(3):
        logger.record("train/loss", 0.5)
        logger.info("a message")
        logger.dump(step)
    during = state()
    logger.close()
    result = {"before": before, "during": during, "after": state(), "asked": asked}
    open(sys.argv[2], "w").write(json.dumps(result))
"""


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, Any], "subprocess.CompletedProcess[str]"]:
    """What the program found, and what it printed; it must end within a minute."""
    folder = tmp_path_factory.mktemp("manners")
    found = folder / "found.json"
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder / "runs" / "one"), str(found)],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        check=True,
    )
    return json.loads(found.read_text()), process


Finished = tuple[dict[str, Any], "subprocess.CompletedProcess[str]"]


def test_nothing_of_the_program_is_patched(finished: Finished) -> None:
    """ClearML's signal handler swallows SIGTERM; W&B and SwanLab replace output and hooks."""
    found, _ = finished

    for moment in ("during", "after"):
        changed = found["before"].items() ^ found[moment].items()
        assert changed == set()


def test_no_name_is_looked_up_and_no_host_called(finished: Finished) -> None:
    """Offline means that nobody is told, and that nothing waits for a time-out."""
    found, _ = finished

    assert found["asked"] == []


def test_nothing_is_printed_but_our_own_lines(finished: Finished) -> None:
    """No banner, no prompt, no progress of somebody else."""
    _, process = finished

    assert process.stdout == ""
    assert process.stderr == ""


def test_nothing_is_left_in_the_current_folder(finished: Finished) -> None:
    """What is kept locally stands in the run folder, or beside it."""
    _, process = finished
    folder = Path(str(process.args[3])).parents[1]

    assert sorted(path.name for path in folder.iterdir()) == ["found.json", "runs"]
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["mlartifacts", "mlflow.db", "one"]


@pytest.mark.parametrize(
    "end", ["pass", "sys.exit(3)", "raise ValueError('a bug')", "os.fork() or sys.exit()"]
)
def test_a_program_that_never_closes_loses_nothing(end: str, tmp_path: Path) -> None:
    """SB3's users do not close their logger; and each SDK ends its run at exit, before or after us."""
    program = f"""if True:
        import os, sys
        from rl_logging import configure

        logger = configure("run", {OUTPUTS})
        for step in range(3):
            logger.record("train/loss", step)
            logger.dump(step)
        {end}
    """

    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    records = read_records(tmp_path / "run")
    files = [make_output(name, tmp_path / "run") for name in ("log", "csv", "json")]
    outputs = [*files, *trackers(tmp_path / "run")]
    assert {output.name: compare(output, records).differences for output in outputs} == dict.fromkeys(
        OUTPUTS, ()
    )
    assert "rl_logging" not in process.stderr
    assert "not be closed" not in process.stderr
