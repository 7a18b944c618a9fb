"""SwanLab, offline and local, read back from its own log."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rl_logging import SwanLabOutputFormat
from rl_logging.formats import make_output
from rl_logging.formats.bounds import environment, quiet, unpatched
from rl_logging.record import make_record, message_record


def output_in(folder: Path, **arguments: object) -> SwanLabOutputFormat:
    return SwanLabOutputFormat(folder=folder, **{"mode": "offline", **arguments})  # type: ignore[arg-type]


def entries(output: SwanLabOutputFormat) -> list[Any]:
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record as Entry
    from swanlab.sdk.internal.core_python.store import DataStoreReader

    reader = DataStoreReader()
    reader.open(str(next(Path(output.url()).glob("run-*.swanlab"))))
    found = [Entry.FromString(body) for body in reader]
    reader.close()
    return found


def test_what_it_cannot_hold_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SwanLab itself drops a second value of a step without a word."""
    output = output_in(tmp_path)
    for value, step in enumerate((10, 10, 5, -1)):
        output.write({"a": value, "text": str(value)}, {"a": (), "text": ()}, step)
    output.close()

    assert output.history() == {"a": [(10, 0.0), (5, 2.0)]}
    assert output.refused == {"a": 2, "text": 2}
    assert caplog.text.count("swanlab: leaves out") == 1


@pytest.mark.parametrize("mode", ["offline", "local"])
def test_each_mode_keeps_the_numbers(tmp_path: Path, mode: str) -> None:
    """Local mode is what SwanLab's own page shows."""
    output = output_in(tmp_path, mode=mode)
    output.write({"a": 1.0, "b": float("inf")}, {"a": (), "b": ()}, 1)
    output.close()

    assert output.history() == {"a": [(1, 1.0)], "b": [(1, float("inf"))]}
    assert (output.viewer() is None) == (mode == "offline")


def test_the_active_run_is_used_and_left_open(tmp_path: Path) -> None:
    """Who opened a run decides when it ends."""
    with environment(), unpatched(), quiet():
        import swanlab

        run = swanlab.init(project="user", mode="offline", log_dir=str(tmp_path / "user"))
        output = make_output("swanlab", tmp_path / "run")
        place = output.where()
        output.write({"a": 1.0}, {"a": ()}, 1)
        output.close()
        still_open = run.alive
        run.finish()

    assert place == "the run that is open in this process"
    assert still_open
    assert output.history() == {"a": [(1, 1.0)]}


def test_two_outputs_do_not_share_a_run(tmp_path: Path) -> None:
    """SwanLab holds one run a process: the second output's data must not end up in the first's."""
    first, second = output_in(tmp_path / "first"), output_in(tmp_path / "second")
    first.handle(make_record({"a": 1.0}, {}, step=1))

    with pytest.raises(RuntimeError, match="swanlab holds one run a process"):
        second.handle(make_record({"a": 2.0}, {}, step=1))

    first.close()
    assert first.history() == {"a": [(1, 1.0)]}


def test_one_run_can_follow_another(tmp_path: Path) -> None:
    """SwanLab holds one run a process: the first must be finished when its logger is closed."""
    for name in ("one", "two"):
        output = output_in(tmp_path / name)
        output.write({"a": 1.0}, {"a": ()}, 1)
        output.close()

        assert output.history() == {"a": [(1, 1.0)]}


def test_a_run_leaves_no_thread(tmp_path: Path) -> None:
    """Of a hundred runs in one program, those that are over must not keep the next from starting."""
    before = set(threading.enumerate())
    for name in ("one", "two"):
        output = output_in(tmp_path / name)
        output.write({"a": 1.0}, {"a": ()}, 1)
        output.close()
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(10)

    assert [thread for thread in left if thread.is_alive()] == []


def test_messages_are_texts(tmp_path: Path) -> None:
    """Each under a step of its own, since a step holds one text."""
    output = output_in(tmp_path)
    for message in ("hello", "again"):
        output.handle(message_record(message, "info", 0))
    output.close()

    texts = [file.read_text() for file in sorted((Path(output.url()) / "media" / "text").iterdir())]
    assert texts == ["[step 0] info: hello", "[step 0] info: again"]


def test_keys_that_swanlab_changes_keep_their_originals(tmp_path: Path) -> None:
    """SwanLab strips slashes at the ends, so that two keys would meet in one."""
    output = output_in(tmp_path)
    output.write({"/a": 1.0, "a/": 2.0}, {"/a": (), "a/": ()}, 1)
    originals = dict(output.run.config["original_keys"])
    output.close()

    assert {originals[key]: points for key, points in output.history().items()} == {
        "/a": [(1, 1.0)],
        "a/": [(1, 2.0)],
    }


def test_nothing_is_safe_before_the_end(tmp_path: Path) -> None:
    """SwanLab writes the last of its file when the run is finished."""
    output = output_in(tmp_path)
    settled = [output.settle()]
    output.handle(make_record({"a": 1.0}, {}, step=1))
    settled.append(output.settle())
    output.close()
    settled.append(output.settle())

    assert settled == [True, False, True]


@pytest.mark.parametrize(("status", "state"), [("finished", 1), ("failed", 2), ("killed", 3)])
def test_a_run_ends_as_the_training_did(status: str, state: int, tmp_path: Path) -> None:
    """A list of runs in which all have finished hides those that crashed."""
    output = output_in(tmp_path)
    output.handle(make_record({"a": 1.0}, {}, step=1))
    output.end(status)

    assert [entry.finish.state for entry in entries(output) if entry.HasField("finish")] == [state]


def test_messages_delivered_again_have_the_same_steps(tmp_path: Path) -> None:
    """Another process cannot know how many there were; a server keeps one a step."""
    texts = [replace(message_record(f"message {seq}", "info", 0), seq=seq) for seq in (3, 7)]
    steps = []
    for part in (texts, texts[1:]):
        output = output_in(tmp_path)
        for text in part:
            output.handle(text)
        output.close()
        steps.append([entry.media.step for entry in entries(output) if entry.HasField("media")])

    assert steps == [[3, 7], [7]]


def test_a_value_that_could_not_be_sent_is_not_taken_for_sent(tmp_path: Path) -> None:
    """Tried again in another run, it would be refused as the second one of its step."""
    output = output_in(tmp_path)
    output.handle(make_record({"a": 1.0}, {}, step=1))
    with quiet():
        output.run.finish()

    for _ in range(2):
        with pytest.raises(RuntimeError, match="requires an active Run"):
            output.handle(make_record({"a": 2.0}, {}, step=2))

    assert output.refused == {}
