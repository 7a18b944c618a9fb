"""ClearML, offline, read back from its session."""

import json
import os
import random
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from waiting import wait_until

from rl_logging import ClearMLOutputFormat, Logger
from rl_logging.formats import make_output
from rl_logging.formats.bounds import environment, quiet, unpatched
from rl_logging.record import make_record


def output_in(folder: Path, **arguments: object) -> ClearMLOutputFormat:
    return ClearMLOutputFormat(folder=folder, offline=True, **arguments)  # type: ignore[arg-type]


def session_file(folder: Path, name: str) -> str:
    (archive,) = folder.glob("offline/*.zip")
    with zipfile.ZipFile(archive) as file:
        return file.read(name).decode()


def test_title_and_series_are_the_keys_parts(tmp_path: Path) -> None:
    """Curves that belong together share a plot."""
    output = output_in(tmp_path)
    output.write({"loss/train/a": 1.0, "reward": 2.0}, {"loss/train/a": (), "reward": ()}, 3)
    output.close()

    events = [
        event for line in session_file(tmp_path, "metrics.jsonl").splitlines() for event in json.loads(line)
    ]

    assert [(e["metric"], e["variant"], e["iter"], e["value"]) for e in events] == [
        ("loss", "train/a", 3, 1.0),
        ("metrics", "reward", 3, 2.0),
    ]


def test_a_number_that_would_become_zero_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A loss of NaN that is drawn as 0 is worse than a gap."""
    output = output_in(tmp_path)
    output.write({"train/loss": float("nan"), "train/kl": 0.5}, {"train/loss": (), "train/kl": ()}, 1)
    output.close()

    assert output.history() == {"train/kl": [(1, 0.5)]}
    assert output.refused == {"train/loss": 1}
    assert "clearml: leaves out 'train/loss' at step 1" in caplog.text


def test_the_active_task_is_used_and_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opened a task decides when it ends."""
    monkeypatch.setenv("CLEARML_CACHE_DIR", str(tmp_path))
    with environment(), unpatched(), quiet():  # what ClearML leaves would reach other tests
        from clearml import Task
        from clearml.config import config_obj

        # The process that it forks else makes close() take minutes.
        config_obj.set_overrides({"sdk": {"development": {"report_use_subprocess": False}}})
        Task.set_offline(True)
        automatic = dict.fromkeys(("frameworks", "arg_parser", "streams"), False)
        off = {f"auto_connect_{what}": no for what, no in automatic.items()}
        task = Task.init("user's own", "task", auto_resource_monitoring=False, **off)
        output = make_output("clearml", tmp_path / "run")
        place = output.where()
        output.write({"a/b": 1.0}, {"a/b": ()}, 1)
        output.close()
        still_open = Task.current_task() is task
        task.close()

    assert place == "the run that is open in this process"
    assert still_open
    assert output.history() == {"a/b": [(1, 1.0)]}


def test_texts_and_messages_go_to_the_console_log(tmp_path: Path) -> None:
    """ClearML has no other place for text."""
    output = output_in(tmp_path)
    with Logger(None, [output]) as logger:
        logger.info("hello")
        logger.record("sample", "some text")
        logger.dump(4)

    lines = [event for line in session_file(tmp_path, "log.jsonl").splitlines() for event in json.loads(line)]

    written = "\n".join(line["msg"] for line in lines).splitlines()
    assert [line for line in written if line.startswith("[step")] == [
        "[step 0] info: hello",
        "[step 4] metrics/sample: some text",
    ]


def test_arguments_reach_the_task(tmp_path: Path) -> None:
    """A task is found by its project, name and tags."""
    output = output_in(tmp_path, project_name="walkers", task_name="first", tags=["a"])
    output.write({"a/b": 1.0}, {"a/b": ()}, 1)
    output.close()

    task = json.loads(session_file(tmp_path, "task.json"))

    assert (task["name"], task["tags"]) == ("first", ["a"])


def test_a_process_under_one_with_a_task_opens_its_own(tmp_path: Path) -> None:
    """ClearML would join the task of the process above, and shift or lose what is sent."""
    program = """if True:
        import sys
        from rl_logging import ClearMLOutputFormat
        output = ClearMLOutputFormat(folder=sys.argv[1], offline=True)
        output.write({"a/b": 1.0}, {"a/b": ()}, 1)
        output.close()
        print(output.history())
    """
    mark = {"CLEARML_PROC_MASTER_ID": f"{os.getpid()}:0123456789abcdef0123456789abcdef"}

    process = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, **mark},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (process.stdout, process.stderr) == ("{'a/b': [(1, 1.0)]}\n", "")


def test_a_task_that_the_user_closed_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ClearML would drop what comes without a word; and it is not the values that are to blame."""
    monkeypatch.setenv("CLEARML_CACHE_DIR", str(tmp_path))
    output = output_in(tmp_path)
    output.handle(make_record({"a": 1.0}, {}, step=1))
    with quiet():
        output.run.close()

    with pytest.raises(RuntimeError, match="the ClearML task is closed"):
        output.handle(make_record({"a": 2.0}, {}, step=2))
    output.close()


def test_numbers_are_safe_when_they_are_in_the_session(tmp_path: Path) -> None:
    """ClearML has them in memory for up to five seconds, and they would be lost with the process."""
    output = output_in(tmp_path)
    for step in range(250):
        output.handle(make_record({"a": step, "text": "[step 1] x"}, {}, step=step))
    wait_until(output.settle, timeout_s=20)
    lines = (Path(output.url()) / "log.jsonl").read_text().count("[step 249] metrics/text: [step 1] x")
    points = output.history()
    output.close()

    assert points == {"metrics/a": [(step, float(step)) for step in range(250)]}
    assert lines == 1


def test_a_session_that_replaces_another_is_the_same_task(tmp_path: Path) -> None:
    """ClearML imports a session by what its task.json says."""
    first = output_in(tmp_path, task_name="first", tags=["a"])
    first.handle(make_record({"a": 1.0}, {}, step=1))
    first.close()
    second = output_in(tmp_path, task_name="first", tags=["a"])
    second.resume(first.reference())
    second.handle(make_record({"a": 1.0}, {}, step=1))
    second.close()

    task = json.loads(session_file(tmp_path, "task.json"))
    assert (task["id"], task["name"], task["tags"]) == (first.reference()["id"], "first", ["a"])
    assert second.history() == {"metrics/a": [(1, 1.0)]}


def test_sigterm_ends_a_process_that_is_there_for_clearml(tmp_path: Path) -> None:
    """ClearML's handler swallows it; a courier could only be killed."""
    program = """if True:
        import os, signal, sys
        from rl_logging.formats import bounds
        from rl_logging.formats.clearml import ClearMLSender
        bounds.at_home()
        ClearMLSender(folder=sys.argv[1], offline=True).run
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    """

    process = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, timeout=60, check=False
    )

    assert process.returncode == -signal.SIGTERM


def test_the_programs_seed_is_its_own(tmp_path: Path) -> None:
    """ClearML would seed all random numbers with one number of its own, so that every seed gives the same."""
    found = set()
    for seed in (7, 8):
        random.seed(seed)
        np.random.seed(seed)
        output = output_in(tmp_path)
        output.handle(make_record({"a": 1.0}, {}, step=1))
        found |= {random.random(), np.random.random()}
        output.close()

    assert len(found) == 4
