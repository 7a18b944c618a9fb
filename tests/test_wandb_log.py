"""W&B's log file: when a row is safe, what of a torn one is read, which sessions were sent."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from waiting import wait_until

from rl_logging.formats.bounds import environment, unpatched
from rl_logging.formats.sessions import aside
from rl_logging.formats.wandb import WandBSender
from rl_logging.formats.wandb_log import WandBLog
from rl_logging.record import Record


def row(seq: int, **values: Any) -> Record:
    return Record(step=10 * seq, time=0.0, values={"a": seq, **values}, seq=seq)


def rows_in(sender: WandBSender) -> int:
    return len(list(WandBLog(sender.reference()["log"]).rows()))


def sender_in(folder: Path, **arguments: Any) -> WandBSender:
    return WandBSender(folder=folder, mode="offline", **arguments)


def session(folder: Path, *seqs: int, reference: dict[str, Any] | None = None) -> dict[str, Any]:
    """Deliver some records in one session, and end it."""
    sender = sender_in(folder)
    if reference is not None:
        sender.resume(reference)
    for seq in seqs:
        sender.handle(row(seq))
    sender.close()
    return sender.reference()


def test_a_row_is_safe_when_it_is_in_the_file(tmp_path: Path) -> None:
    """W&B's own process has it before; that ends with ours, and the row would be lost."""
    sender = sender_in(tmp_path)
    sender.handle(row(1))
    wait_until(sender.settle, timeout_s=20)
    (writer,) = (child for child in psutil.Process().children() if child.name() == "wandb-core")
    writer.suspend()
    try:
        sender.handle(row(2))
        before = sender.settle(), rows_in(sender)
    finally:
        writer.resume()
    wait_until(sender.settle, timeout_s=20)
    after = rows_in(sender)
    sender.close()

    assert (before, after) == ((False, 1), 2)


def test_rows_of_a_users_run_settle_too(tmp_path: Path) -> None:
    """There the numbers are W&B's own, and the user's rows stand between ours."""
    import wandb

    settings = wandb.Settings(console="off", silent=True, x_transaction_log_flush_interval=0.1)
    with environment(), unpatched(), wandb.init(mode="offline", dir=str(tmp_path), settings=settings) as run:
        sender = WandBSender(folder=tmp_path / "ours")
        for seq in (1, 2):
            run.log({"mine": seq})
            sender.handle(row(seq))
        wait_until(sender.settle, timeout_s=20)
        points = sender.history()
        sender.close()

    assert points["a"] == [(10, 1.0), (20, 2.0)]
    assert not sender.owns_run


def test_a_torn_log_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    """It is read while it is written, and after a kill; its blocks cut rows into pieces."""
    sender = sender_in(tmp_path)
    for seq in range(1, 41):
        sender.handle(row(seq, text="x" * 3000))
    sender.close()
    whole = Path(sender.reference()["log"]).read_bytes()
    assert len(whole) > 3 * 32768

    for cut in (0, 3, 7, 10, 32760, 32768, 32770, 40000, 65536, len(whole) - 1):
        part = tmp_path / f"part-{cut}.wandb"
        part.write_bytes(whole[:cut])
        log = WandBLog(part)
        first = [number for number, _ in log.rows()]
        part.write_bytes(whole)
        rest = [number for number, _ in log.rows()]

        assert first + rest == list(range(1, 41))
        assert first == [] or cut > 10


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("failed", 1), ("killed", 1)])
def test_a_run_ends_as_the_training_did(status: str, code: int, tmp_path: Path) -> None:
    """A list of runs in which all have finished hides those that crashed."""
    sender = sender_in(tmp_path)
    sender.handle(row(1))
    sender.end(status)

    log = WandBLog(sender.reference()["log"])
    assert [entry.exit.exit_code for entry in log.entries() if entry.HasField("exit")] == [code]


def test_what_was_sent_is_neither_sent_again_nor_lost(tmp_path: Path) -> None:
    """``wandb sync`` adds a later session's rows to those that the server has."""
    first = session(tmp_path, 1, 2, 3)
    Path(first["log"]).with_suffix(".wandb.synced").touch()
    second = session(tmp_path, 3, 4, reference=first)
    third = session(tmp_path, 1, 2, 3, 4, 5, reference=second)  # of these the server lacks two

    assert [number for number, _ in WandBLog(first["log"]).rows()] == [1, 2, 3]
    assert aside(Path(second["log"]).parent).exists()
    assert [number for number, _ in WandBLog(third["log"]).rows()] == [4, 5]
    assert sender_in(tmp_path).read_back(third) == {"a": [(10 * n, float(n)) for n in range(1, 6)]}


def test_a_session_that_grew_after_it_was_sent_counts_as_unsent(tmp_path: Path) -> None:
    """W&B's tool marks a file as sent, and does not look at it again."""
    first = session(tmp_path, 1, 2)
    mark = Path(first["log"]).with_suffix(".wandb.synced")
    mark.touch()
    log = Path(first["log"])
    log.write_bytes(log.read_bytes())

    assert not sender_in(tmp_path).resume(first)


def test_wandbs_own_tool_finds_one_session(tmp_path: Path) -> None:
    """It would send a torn session as well as the one that replaces it."""
    first = session(tmp_path, 1, 2)
    second = session(tmp_path, 1, 2, 3, reference=first)
    tool = [sys.executable, "-m", "wandb", "sync", "--dry-run", "--include-online", str(tmp_path / "wandb")]

    process = subprocess.run(tool, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)

    assert "Would sync 1 run(s)" in process.stderr
    assert second["id"] == first["id"]
