"""SwanLab, offline and local, read back from its own log."""

from pathlib import Path

import pytest

from rl_logging import Logger, SwanLabOutputFormat
from rl_logging.formats import make_output
from rl_logging.formats.tracker import environment, quiet, unpatched
from rl_logging.record import make_record


def output_in(folder: Path, **arguments: object) -> SwanLabOutputFormat:
    return SwanLabOutputFormat(folder=folder, **{"mode": "offline", **arguments})  # type: ignore[arg-type]


def test_what_it_cannot_hold_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SwanLab itself drops a second value of a step without a word."""
    output = output_in(tmp_path)
    with Logger(None, [output]) as logger:
        for value, step in enumerate((10, 10, 5, -1)):
            logger.record("a", value)
            logger.record("text", str(value))
            logger.dump(step)

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


def test_messages_are_texts(tmp_path: Path) -> None:
    """Each under a step of its own, since a step holds one text."""
    output = output_in(tmp_path)
    with Logger(None, [output]) as logger:
        logger.info("hello")
        logger.info("again")
        folder = Path(output.run.dir)

    texts = [file.read_text() for file in sorted((folder / "media" / "text").iterdir())]

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
