"""parameters.json and scalars.json while they are written: whole at every moment, and after a kill."""

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import child
from waiting import wait_until

from rl_logging.compat.prt_files import PrtFiles
from rl_logging.compat.prt_rl import FileLogger
from rl_logging.readers import compare, read_records
from rl_logging.record import HYPERPARAMETERS, Record

WRITER = """if True:
    import sys
    from rl_logging.compat.prt_rl import FileLogger
    logger = FileLogger(sys.argv[1])
    logger.log_parameters({"begun": True})
    number = 0
    while True:
        for _ in range(25):
            logger.log_scalar("train/loss", number * 0.1)
            number += 1
        print(number, flush=True)
"""


def scalars(folder: Path) -> Any:
    return json.loads((folder / "scalars.json").read_text())


def number(key: str, step: int, value: float) -> Record:
    return Record(step, 0.0, {key: value})


def test_a_value_is_in_the_file_when_the_call_returns(tmp_path: Path) -> None:
    """prt_rl wrote at close only: whoever was killed had nothing."""
    logger = FileLogger(str(tmp_path))
    for iteration in range(3):
        logger.log_scalar("loss", iteration * 0.5)

        assert scalars(tmp_path)["loss"][-1] == [iteration, iteration * 0.5]
    logger.log_parameters({"lr": 0.1})

    assert json.loads((tmp_path / "parameters.json").read_text()) == {"lr": 0.1}
    logger.close()


def test_a_kill_loses_nothing(tmp_path: Path, killed_child: Callable[[str, Path], list[str]]) -> None:
    """What log_scalar returned for is there when the folder is opened again, and goes on behind it."""
    printed = killed_child(WRITER, tmp_path)
    json.loads((tmp_path / "scalars.json").read_text())  # whole, as far as it goes

    with FileLogger(str(tmp_path)) as logger:
        points = scalars(tmp_path)["train/loss"]
        count = logger.iteration
        logger.log_scalar("train/loss", -1.0)

    assert count >= int(printed[-1])
    assert points == [[step, step * 0.1] for step in range(count)]
    assert scalars(tmp_path)["train/loss"][count:] == [[count, -1.0]]
    assert json.loads((tmp_path / "parameters.json").read_text()) == {"begun": True}


def test_the_file_is_whole_at_every_moment(tmp_path: Path) -> None:
    """A notebook that draws the curves of a training that runs reads it at any time."""
    sizes = []
    with child(WRITER, tmp_path) as process:
        assert process.stdout is not None
        for _ in range(100):
            assert process.stdout.readline().strip().isdigit()
            sizes.append(len(scalars(tmp_path)["train/loss"]))

    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0] > 0


def test_a_long_file_is_not_written_at_each_value(tmp_path: Path) -> None:
    """A million values would be written a million times; and yet the last ones do not wait for close."""
    files = PrtFiles(tmp_path)
    (tmp_path / "scalars.json").touch()
    written, inode = 0, 0
    for step in range(20_000):
        files.emit(number("loss", step, 0.123456789))
        written += inode != (inode := (tmp_path / "scalars.json").stat().st_ino)

    wait_until(lambda: len(scalars(tmp_path)["loss"]) == 20_000, 60)
    files.close()
    assert written < 5_000
    assert scalars(tmp_path)["loss"][-1] == [19_999, 0.123456789]


def test_close_writes_what_waits(tmp_path: Path) -> None:
    """The end of the run is what is looked at first."""
    files = PrtFiles(tmp_path)
    for step in range(5_000):
        files.emit(number("loss", step, 0.123456789))
    files.close()
    files.close()

    assert len(scalars(tmp_path)["loss"]) == 5_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parameters.json", "scalars.json"]


def test_a_run_without_values_has_both_files(tmp_path: Path) -> None:
    """Whoever collects the results of many runs opens them all."""
    FileLogger(str(tmp_path)).close()

    assert scalars(tmp_path) == json.loads((tmp_path / "parameters.json").read_text()) == {}


def test_a_file_of_prt_rls_own_logger_is_continued(tmp_path: Path) -> None:
    """Whoever changes the import in the middle of a project loses nothing of what was logged before."""
    (tmp_path / "scalars.json").write_text('{"loss": [[0, 0.5], [1, NaN]], "reward": [[7, 1]]}')
    (tmp_path / "parameters.json").write_text('{"lr": 0.1, "seed": 1}')
    for value in (0.25, 0.125):
        with FileLogger(str(tmp_path)) as logger:
            logger.log_scalar("loss", value)
            logger.log_parameters({"seed": value})

    found = scalars(tmp_path)

    assert math.isnan(found["loss"].pop(1)[1])
    assert found == {"loss": [[0, 0.5], [8, 0.25], [9, 0.125]], "reward": [[7, 1]]}
    assert json.loads((tmp_path / "parameters.json").read_text()) == {"lr": 0.1, "seed": 0.125}


def test_a_kill_before_the_first_value_loses_nothing_of_earlier(tmp_path: Path) -> None:
    """What stood there before has no journal from which it could be made anew."""
    (tmp_path / "scalars.json").write_text('{"loss": [[0, 0.5]]}')
    program = "import sys; from rl_logging.compat.prt_rl import FileLogger; FileLogger(sys.argv[1])"
    with child(f"{program}; print(1, flush=True); input()", tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait()

    with FileLogger(str(tmp_path)) as logger:
        logger.log_scalar("loss", 1.0)

    assert scalars(tmp_path) == {"loss": [[0, 0.5], [1, 1.0]]}


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"loss": 3}', '{"loss": [[1, 2, 3]]}', '{"loss": [["a", 2]]}']
)
def test_a_file_of_somebody_elses_is_refused_and_left(text: str, tmp_path: Path) -> None:
    """It would be overwritten at the first value."""
    (tmp_path / "scalars.json").write_text(text)

    with pytest.raises(
        ValueError, match=r"scalars.json' is no file of prt_rl's logger.*choose another folder"
    ):
        FileLogger(str(tmp_path))

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("scalars.json", text)]


def test_a_wrong_parameters_file_ends_nothing_half(tmp_path: Path) -> None:
    """Once it is mended, the same process can try again."""
    (tmp_path / "parameters.json").write_text("[")
    with pytest.raises(ValueError, match="no file of prt_rl's logger"):
        FileLogger(str(tmp_path))
    (tmp_path / "parameters.json").unlink()

    with FileLogger(str(tmp_path)) as logger:
        logger.log_scalar("a", 1.0)

    assert scalars(tmp_path) == {"a": [[0, 1.0]]}


def test_a_damaged_line_of_the_journal_costs_that_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A bad sector must not make the folder unusable."""
    with FileLogger(str(tmp_path)) as logger:
        for value in (1.0, 2.5, 3.0):
            logger.log_scalar("a", value)
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"a":2.5', b'"a":9.5'))

    FileLogger(str(tmp_path)).close()

    assert scalars(tmp_path) == {"a": [[0, 1.0], [2, 3.0]]}
    assert "line 2 of the journal is left out" in caplog.text


def test_a_full_disk_stops_no_training(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The files are whole all the same, and whole again as soon as there is room."""
    ballast = small_disk / "ballast"
    logger = FileLogger(str(small_disk / "out"))
    logger.log_scalar("a", 0.0)
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    for _ in range(200):
        logger.log_scalar("a", 0.123456789)
    during = scalars(small_disk / "out")
    ballast.unlink()
    logger.close()

    assert len(during["a"]) < 201
    assert [at for at, _ in scalars(small_disk / "out")["a"]] == list(range(201))
    assert "No space left on device" in caplog.text


def test_the_program_may_change_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configuration tools do so behind the user's back."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "note.txt").write_text("a")
    with FileLogger("out") as logger:
        monkeypatch.chdir(tmp_path / "elsewhere")
        logger.log_scalar("a", 1.0)
        logger.log_parameters({"b": 2})
        logger.log_file("../note.txt", "notes")

    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert scalars(tmp_path / "out") == {"a": [[0, 1.0]]}
    assert (tmp_path / "out/notes/note.txt").exists()


VALUES = st.one_of(st.floats(), st.integers(), st.booleans())
POINTS = st.lists(
    st.tuples(st.text(max_size=20), st.integers(-(1 << 63), (1 << 63) - 1), VALUES), max_size=20
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(POINTS)
def test_what_was_logged_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, points: list[tuple[str, int, Any]]
) -> None:
    """Any name, iteration and number: in order, exact, and the same when it is made anew of the journal."""
    folder = tmp_path_factory.mktemp("run")
    with FileLogger(str(folder)) as logger:
        for name, at, value in points:
            logger.log_scalar(name, value, at)
        (files,) = logger.core.output_formats
    expected: dict[str, list[Any]] = {}
    for name, at, value in points:
        expected.setdefault(name, []).append([at, value])

    found = scalars(folder) if points else {}
    records = read_records(folder, superseded=True)
    anew = PrtFiles(folder)
    anew.rewrite()

    assert json.dumps(found) == json.dumps(expected)
    assert json.dumps(scalars(folder)) == json.dumps(expected)
    assert compare(files, records).differences == ()  # type: ignore[arg-type]


def test_it_is_an_output_like_any_other(tmp_path: Path) -> None:
    """What excludes it, what arrived and what must have arrived are asked in the same way."""
    files = PrtFiles(tmp_path, name="mine")
    files.handle(Record(3, 0.0, {"a": 1.0, "b": 2.0}, {"b": ("mine",)}))
    files.handle(Record(0, 0.0, {"lr": 0.1}, kind=HYPERPARAMETERS))
    files.close()

    assert files.history() == {"a": [(3, 1.0)]}
    assert files.arguments() == {"folder": tmp_path, "name": "mine"}
