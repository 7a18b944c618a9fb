"""A lock is held by one process at a time, and by no dead one."""

import os
import socket
import time
from pathlib import Path

import orjson
import pytest
from runs import child, killed, wait_for_line

from rl_logging.errors import RunInUseError
from rl_logging.journal import Journal, read
from rl_logging.lock import FileLock
from rl_logging.record import Record

HOLDER = """
import sys
from rl_logging.lock import FileLock
lock = FileLock(sys.argv[1])
assert lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""
JOURNAL = """
import sys
from rl_logging.journal import Journal
journal = Journal(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cursors" / "mlflow.lock"


def test_the_other_process_is_kept_out_until_the_holder_is_killed(path: Path) -> None:
    """A run must never be locked by what is no longer there; nobody cleans up after SIGKILL."""
    lock = FileLock(path)

    with child(HOLDER, path) as holder:
        wait_for_line(holder, "held")
        during = lock.acquire(), lock.is_held()
        killed(holder)
        after = lock.is_held(), lock.acquire()
    lock.release()

    assert during == (False, True)
    assert after == (False, True)


def test_waiting_ends_when_the_lock_is_free_and_in_time_when_not(path: Path) -> None:
    """A logger that replaces another has to wait for it, but not for ever."""
    lock = FileLock(path)

    with child(HOLDER, path) as holder:
        wait_for_line(holder, "held")
        begin = time.monotonic()
        in_vain = lock.acquire(timeout_s=0.2)
        waited_s = time.monotonic() - begin
        holder.kill()
        in_the_end = lock.acquire(timeout_s=30)
    lock.release()

    assert (in_vain, in_the_end) == (False, True)
    assert waited_s >= 0.2


def test_the_holder_is_named(path: Path) -> None:
    """Whoever is kept out wants to know by whom, on which machine, and since when."""
    began = int(time.time())
    with child(HOLDER, path) as holder:
        wait_for_line(holder, "held")
        about = orjson.loads(path.read_bytes())
        told = FileLock(path).holder()

    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about["since"]))
    assert (about["pid"], about["host"]) == (holder.pid, socket.gethostname())
    assert began <= about["since"] <= time.time() + 1
    assert told == f"process {holder.pid} on {socket.gethostname()} since {since}"


def test_a_fork_does_not_hold_its_parents_lock(path: Path) -> None:
    """A fork that outlives the trainer would keep the run from ever being resumed."""
    lock = FileLock(path)
    assert lock.acquire()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover  nothing of the test must run here twice
        lock.release()
        os.write(writer, b"%d" % FileLock(path).acquire())
        os.read(reader, 0)
        os._exit(0)

    got = os.read(reader, 1)
    os.waitpid(pid, 0)
    with child(HOLDER, path) as other:
        other_status = other.wait(timeout=30)
    lock.release()

    assert got == b"0"
    assert other_status == 1  # the parent still had it, whatever its fork released


def test_a_fork_that_lives_on_leaves_the_lock_to_others(path: Path) -> None:
    """The same, from the side of who comes next."""
    code = """
import os, sys, signal
from rl_logging.lock import FileLock
lock = FileLock(sys.argv[1])
assert lock.acquire()
pid = os.fork()
if pid == 0:
    signal.pause()
print(pid, flush=True)
"""
    with child(code, path) as parent:
        assert parent.stdout is not None
        fork = int(parent.stdout.readline())
        parent.wait(timeout=30)
        lives = Path(f"/proc/{fork}").exists()
        got = FileLock(path).acquire()
        os.kill(fork, 9)

    assert (lives, got) == (True, True)


def test_a_lock_that_nobody_has_any_more_is_free(path: Path) -> None:
    """A logger that was dropped without a close must not lock its folder until the process ends."""
    assert FileLock(path).acquire()

    got = FileLock(path).acquire()

    assert got


def test_two_locks_of_one_process_exclude_each_other(path: Path) -> None:
    """The kernel lets a process lock twice, and drops both when it closes either."""
    first, second = FileLock(path), FileLock(path.parent / ".." / "cursors" / path.name)

    assert first.acquire()
    assert first.acquire()
    assert (second.acquire(), second.is_held()) == (False, True)
    assert second.holder() == f"this process, {os.getpid()}"
    second.release()
    with child(HOLDER, path) as other:
        assert other.wait(timeout=30) == 1
    first.release()
    assert second.acquire()
    second.release()


def test_asking_does_not_give_the_lock_back(path: Path) -> None:
    """Who holds it may ask, too."""
    lock = FileLock(path)
    lock.acquire()

    answers = [lock.is_held(), lock.is_held()]
    with child(HOLDER, path) as other:
        status = other.wait(timeout=30)
    lock.release()

    assert answers == [True, True]
    assert status == 1
    assert not lock.is_held()


def test_asking_leaves_nothing_behind(path: Path) -> None:
    """``sync`` looks into folders that it must not change."""
    held = FileLock(path).is_held()

    assert not held
    assert not path.parent.exists()


def test_what_stands_in_the_file_holds_nothing(path: Path) -> None:
    """A half-written note, as a full disk leaves it, is no lock, and no trouble to who reads it."""
    path.parent.mkdir()
    path.write_bytes(b'{"pid": 1')

    told = FileLock(path).holder()
    lock = FileLock(path)
    got = lock.acquire()
    lock.release()

    assert told == "another process"
    assert got


def test_a_journal_that_is_written_names_its_writer(tmp_path: Path) -> None:
    """Two trainers in one run folder is a mistake that everybody makes once."""
    path = tmp_path / "journal.jsonl"

    with child(JOURNAL, path) as writer:
        wait_for_line(writer, "open")
        with pytest.raises(RunInUseError) as caught:
            Journal(path)
        killed(writer)
    journal = Journal(path)
    journal.close()

    told = f"{path} is written by process {writer.pid} on {socket.gethostname()} since "
    assert str(caught.value).startswith(told)
    assert str(caught.value).endswith("; give this run a folder of its own, or end that one")


def test_who_only_looks_keeps_no_writer_out(tmp_path: Path) -> None:
    """``sync`` asks whether the run is trained, maybe in the very moment in which it begins."""
    path = tmp_path / "journal.jsonl"
    code = """
import sys, threading
from rl_logging.lock import FileLock
lock = FileLock(sys.argv[1])
print("looks", flush=True)
while not threading.Event().wait(0.002):
    lock.is_held()
"""
    with child(code, path.with_suffix(".lock")) as looker:
        wait_for_line(looker, "looks")
        for _ in range(100):
            journal = Journal(path)
            journal.append(Record(1, 0.0, {}))
            journal.close()

    assert len(list(read(path))) == 100
