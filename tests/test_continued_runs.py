"""Runs of W&B, ClearML and SwanLab that one process begins and another continues."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rl_logging.formats import make_sender
from rl_logging.formats.sessions import set_aside
from rl_logging.formats.tracker import Tracker

TRACKERS = ["wandb", "clearml", "swanlab"]
HOW = {"wandb": {"mode": "offline"}, "clearml": {"offline": True}, "swanlab": {"mode": "offline"}}
COURIER = """if True:
    import json, os, signal, sys, threading
    from dataclasses import replace
    from rl_logging.formats import bounds, make_sender
    from rl_logging.record import make_record, message_record

    def deliver(name, arguments, earlier, begin, last, end):
        sender = make_sender(name, arguments)
        kept = sender.resume(earlier) if earlier else False
        sender.run
        print(json.dumps({name: [kept, sender.reference()]}), flush=True)
        for seq in range(begin if kept else 1, last + 1):
            record = make_record({"train/loss": seq / 2, "train/kl": -seq}, {}, step=10 * seq)
            if seq % 10 == 0:
                record = message_record(f"message {seq}", "info", step=10 * seq)
            sender.handle(replace(record, seq=seq))
        if end == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        sender.end(end)

    bounds.at_home()
    threads = [threading.Thread(target=deliver, args=job) for job in json.loads(sys.argv[1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def deliver_all(*jobs: list[Any]) -> dict[str, Any]:
    """Deliver as a courier does, in a process of its own and a thread for each tracker.

    :return: by name, whether what was there stays, and the run's reference
    """
    process = subprocess.run(
        [sys.executable, "-c", COURIER, json.dumps(jobs)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in process.stderr, process.stderr
    said = {}
    for line in process.stdout.splitlines():
        if line.startswith("{"):  # the rest is the SDKs' own
            said.update(json.loads(line))
    return said


def deliver(job: list[Any]) -> Any:
    return deliver_all(job)[job[0]]


def sender_in(folder: Path, name: str) -> Tracker:
    sender = make_sender(name, {"folder": str(folder), **HOW[name]})
    assert isinstance(sender, Tracker)
    return sender


def job(folder: Path, name: str, earlier: Any, begin: int, last: int, end: str) -> list[Any]:
    return [name, {"folder": str(folder), **HOW[name]}, earlier, begin, last, end]


def points(last: int) -> dict[str, list[tuple[int, float]]]:
    rows = [seq for seq in range(1, last + 1) if seq % 10]
    return {
        f"train/{key}": [(10 * seq, factor * seq) for seq in rows]
        for key, factor in (("loss", 0.5), ("kl", -1.0))
    }


def folder_of(reference: dict[str, Any]) -> Path:
    return Path(reference.get("folder") or Path(reference["log"]).parent)


@pytest.mark.parametrize("end", ["SIGKILL", "finished"])
@pytest.mark.parametrize("name", TRACKERS)
def test_a_run_that_is_continued_is_there_once(name: str, end: str, tmp_path: Path) -> None:
    """The first session may be torn, and both would be sent: one must hold all, under the same name."""
    _, first = deliver(job(tmp_path, name, None, 1, 200, end))
    kept, second = deliver(job(tmp_path, name, first, 201, 250, "finished"))

    session = folder_of(first)
    assert (kept, second["id"]) == (False, first["id"])
    assert sender_in(tmp_path, name).read_back(second) == points(250)
    assert [path.name for path in (session.parent / "superseded").iterdir() if path.is_dir()] == [
        session.name
    ]
    assert folder_of(second).parent == session.parent


@pytest.mark.parametrize("name", TRACKERS)
def test_a_kill_while_a_session_is_replaced_loses_nothing(name: str, tmp_path: Path) -> None:
    """The old session is set aside by then, and the new one may be anywhere between empty and whole."""
    _, first = deliver(job(tmp_path, name, None, 1, 100, "finished"))
    set_aside(name, folder_of(first))
    _, torn = deliver(job(tmp_path, name, first, 101, 120, "SIGKILL"))
    kept, third = deliver(job(tmp_path, name, first, 101, 150, "finished"))

    assert (kept, torn["id"], third["id"]) == (False, first["id"], first["id"])
    assert sender_in(tmp_path, name).read_back(third) == points(150)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_session_that_is_gone_is_not_delivered_again(name: str, tmp_path: Path) -> None:
    """Who has sent it and removed it has its records; only the rest is left to deliver."""
    _, first = deliver(job(tmp_path, name, None, 1, 20, "finished"))
    folder_of(first).rename(tmp_path / "sent")
    for archive in folder_of(first).parent.glob("*.zip"):
        archive.unlink()
    kept, second = deliver(job(tmp_path, name, first, 21, 30, "finished"))

    rest = {key: values[18:] for key, values in points(30).items()}
    assert kept
    assert sender_in(tmp_path, name).read_back(second) == rest


@pytest.mark.parametrize("name", TRACKERS)
def test_a_users_run_is_never_set_aside(name: str, tmp_path: Path) -> None:
    """What else the user wrote into it is in no journal of ours."""
    _, first = deliver(job(tmp_path, name, None, 1, 20, "SIGKILL"))
    sender = sender_in(tmp_path, name)
    sender.leave_open = True

    assert sender.resume(first)
    assert folder_of(first).exists()


@pytest.mark.parametrize("name", TRACKERS)
def test_where_a_run_is_can_be_said_by_another_process(name: str, tmp_path: Path) -> None:
    """The trainer shows the address of a run that the courier has opened."""
    _, reference = deliver(job(tmp_path, name, None, 1, 20, "finished"))
    sender = sender_in(tmp_path, name)
    before = sender.url(), sender.history()
    sender.located = reference

    assert before == ("", {})
    assert (sender.url(), sender.history()) == (str(folder_of(reference)), points(20))


def test_all_three_run_in_one_process_at_once(tmp_path: Path) -> None:
    """The courier gives each a thread; their imports and starts patch what the others use."""
    references = deliver_all(*(job(tmp_path, name, None, 1, 200, "finished") for name in TRACKERS))

    found = {name: sender_in(tmp_path, name).read_back(references[name][1]) for name in TRACKERS}
    assert found == dict.fromkeys(TRACKERS, points(200))


@pytest.mark.parametrize(
    ("name", "variable", "mode"),
    [
        ("wandb", "WANDB_BASE_URL", {"mode": "online"}),
        ("clearml", "CLEARML_API_HOST", {"offline": False}),
        ("swanlab", "SWANLAB_API_HOST", {"mode": "online"}),
    ],
)
def test_service_names_the_server_and_no_secret(
    name: str, variable: str, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of one server is unknown to another; the file that says so is read by many."""
    monkeypatch.setenv(variable, "https://user:secret@tracker.example:8080/api")
    online = make_sender(name, mode)

    assert online.service() == "online https://tracker.example:8080"
    assert make_sender(name, HOW[name]).service() == "offline"
