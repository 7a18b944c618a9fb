"""Rich values when they are recorded: in files that people find, and out of their owner's hands."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.figure import Figure as Drawing

from rl_logging import Figure, Histogram, HParam, Image, Table, Video
from rl_logging.line import decode, encode
from rl_logging.media import MediaWriter, folder_name
from rl_logging.media_files import encoded, histogram_of, table_of
from rl_logging.record import make_record
from rl_logging.rich import Media

FRAMES = np.zeros((1, 5, 3, 4, 4), np.uint8)


@pytest.fixture
def writer(tmp_path: Path) -> MediaWriter:
    return MediaWriter(tmp_path)


def by_journal(value: Media) -> Media:
    """What another process finds in the journal."""
    line = encode(make_record({"k": value}, {}, 1))
    read = decode(line, value.folder).values["k"]
    assert repr(read) == repr(value)  # NaN equals NaN
    assert isinstance(read, Media)
    return read


def test_a_video_is_named_so_that_a_person_finds_it(tmp_path: Path, writer: MediaWriter) -> None:
    """A run folder is looked at by people, years later."""
    kept = writer.keep("eval/video", Video(torch.from_numpy(FRAMES), fps=20), 20_000)

    assert kept.file == "media/eval_video/step_20000.mp4"
    assert (kept.kind, kept.text, kept.about["fps"]) == ("video", "<video 5 frames>", 20.0)
    assert encoded(by_journal(kept)) == tmp_path / kept.file
    assert (tmp_path / kept.file).stat().st_size > 0


@pytest.mark.parametrize(
    ("make", "look"),
    [
        (lambda a: Video(torch.from_numpy(a.reshape(1, 2, 3, 4, 5)), 10), lambda m: np.load(m.raw)),
        (lambda a: Image(a.reshape(5, 8, 3), "HWC"), lambda m: np.load(m.raw)),
        (lambda a: Histogram(a, bins=7), lambda m: np.load(m.path)),
        (lambda a: torch.from_numpy(a), lambda m: m),
        (lambda a: Table(["x"], [[a]]), lambda m: np.asarray(table_of(m)[1])),
    ],
    ids=["video", "image", "histogram", "tensor", "table"],
)
def test_a_buffer_may_be_used_again_at_once(writer: MediaWriter, make, look) -> None:
    """Rollout buffers and frame stacks are filled again while a tracker is still busy."""
    buffer = np.full(120, 7, np.uint8)

    kept = writer.keep("k", make(buffer), 1)
    buffer[:] = 0

    assert (np.asarray(look(kept)) == 7).all()


def test_a_large_array_has_a_file_and_a_small_one_stands_in_the_line(writer: MediaWriter) -> None:
    """Weights of a million numbers would make a journal that nobody can grep."""
    small, large = np.arange(100.0), np.arange(300_000.0)

    kept = writer.keep("weights", large, 3)

    assert np.array_equal(writer.keep("weights", small, 3), small)
    assert (kept.kind, kept.file, kept.text) == (
        "array",
        "media/weights/step_3.npy",
        "<array 300000 float64>",
    )
    assert histogram_of(by_journal(kept)).counts.sum() == 300_000


def test_two_values_of_a_step_have_a_file_each(tmp_path: Path, writer: MediaWriter) -> None:
    """SB3's evaluation and its algorithm log the same key at the same step."""
    image = Image(np.zeros((2, 2, 3), np.uint8), "HWC")

    files = [writer.keep("a/b", image, 1).file for _ in range(2)] + [writer.keep("a b", image, 1).file]

    assert files == [f"media/a_b/step_1{n}.png" for n in ("", "_2", "_3")]


def test_a_second_file_does_not_take_the_name_of_one_that_was_encoded(writer: MediaWriter) -> None:
    """What an image was made of is gone by then."""
    image = Image(np.zeros((2, 2, 3), np.uint8), "HWC")
    first = writer.keep("a", image, 1)
    encoded(first)

    assert writer.keep("a", image, 1).file != first.file


def test_a_figure_is_drawn_and_closed_when_its_flag_says_so(tmp_path: Path, writer: MediaWriter) -> None:
    """Open figures fill the memory; one that is still used must stay."""
    mine, theirs = plt.figure(), plt.figure()

    kept = [
        writer.keep("plot", Figure(figure, close), 1) for figure, close in ((mine, True), (theirs, False))
    ]

    assert [media.path.read_bytes()[:8] for media in kept] == [b"\x89PNG\r\n\x1a\n"] * 2
    assert (plt.fignum_exists(mine.number), plt.fignum_exists(theirs.number)) == (False, True)
    plt.close(theirs)


def test_a_picture_file_is_copied(tmp_path: Path, writer: MediaWriter) -> None:
    """Its owner writes the next one under the same name."""
    path = tmp_path / "screen.png"
    Drawing().savefig(path)
    before = path.read_bytes()

    kept = writer.keep("screen", Image(str(path), "HWC"), 1)
    path.write_bytes(b"")

    assert encoded(by_journal(kept)).read_bytes() == before


def test_rows_that_are_added_later_are_appended(tmp_path: Path, writer: MediaWriter) -> None:
    """A table that grows for a week is not written anew at every step."""
    table = Table(["episode", "return"], [(1, 0.5)])
    first = writer.keep("results", table, 10)
    table.add(2, math.nan)
    table.add(3, "x")
    second = writer.keep("results", table, 20)

    assert first.file == second.file == "media/results/step_10.jsonl"
    assert table_of(by_journal(first)) == (["episode", "return"], [[1, 0.5]])
    assert repr(table_of(by_journal(second))[1]) == "[[1, 0.5], [2, nan], [3, 'x']]"
    assert len((tmp_path / first.file).read_text().splitlines()) == 4


def test_a_table_goes_on_in_another_run(tmp_path: Path, writer: MediaWriter) -> None:
    """Its rows belong to whoever made it, not to the first run that it was logged to."""
    table = Table(["a"], [(1,)])
    writer.keep("t", table, 1)
    table.add(2)

    kept = MediaWriter(tmp_path / "other").keep("t", table, 2)

    assert table_of(kept) == (["a"], [[1], [2]])
    assert kept.path.is_relative_to(tmp_path / "other")


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
        {"a": [1, 2], "b": ["x", "y"]},
        [{"a": 1, "b": "x"}, {"b": "y", "a": 2}],
        Table(["a", "b"], [(1, "x"), (2, "y")]),
    ],
    ids=["frame", "columns", "rows", "table"],
)
def test_what_may_be_a_table_is_one(writer: MediaWriter, data) -> None:
    """People have their results in many shapes."""
    assert table_of(writer.keep("t", Table.of(data), 1)) == (["a", "b"], [[1, "x"], [2, "y"]])


def test_a_bare_data_frame_is_a_table(writer: MediaWriter) -> None:
    """What somebody records need not be wrapped."""
    assert table_of(writer.keep("t", pd.DataFrame({"a": [1]}), 1)) == (["a"], [[1]])


def test_counts_and_edges_are_a_histogram(writer: MediaWriter) -> None:
    """Whoever has counted already has no values to give."""
    counted = histogram_of(by_journal(writer.keep("h", Histogram(counts=[1, 4], edges=[0, 1, 3]), 1)))

    assert (counted.counts.tolist(), counted.edges.tolist(), counted.stats) == ([1, 4], [0, 1, 3], {})


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"values": [1.0], "counts": [1], "edges": [0, 1]},
        {"counts": [1], "edges": [0]},
        {"counts": [1], "edges": [1, 0]},
        {"counts": [-1], "edges": [0, 1]},
        {"counts": [math.inf], "edges": [0, 1]},
        {"values": [1.0], "bins": 0},
        {"values": [1.0], "bins": 513},
    ],
    ids=str,
)
def test_a_wrong_histogram_is_refused_where_it_is_made(arguments) -> None:
    """There its author can mend it; in a training loop nobody can."""
    with pytest.raises(ValueError, match=r"histogram|bins"):
        Histogram(**arguments)


def test_hyperparameters_of_sb3_stand_in_the_line(writer: MediaWriter) -> None:
    """They are few and small, and needed by every tracker."""
    kept = by_journal(writer.keep("hparams", HParam({"lr": 0.1, "x": None}, {"loss": math.nan}), 1))

    assert (kept.about["hparams"], repr(kept.about["metrics"])) == ({"lr": 0.1, "x": None}, "{'loss': nan}")


@pytest.mark.parametrize(
    "value",
    [
        Video(torch.zeros(3), 30),
        Video(None, 30),  # type: ignore[arg-type]
        Video(torch.zeros(1, 0, 3, 4, 4), 30),
        Image("missing.png", "HWC"),
        Image("/etc/passwd", "HWC"),
        Image(np.array(["a", "b"]), "HW"),
        Figure(None, close=True),
        Figure.__new__(Figure),
        Histogram(["a", "b"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_kept_leaves_a_word_and_no_file(
    tmp_path: Path, writer: MediaWriter, value, caplog: pytest.LogCaptureFixture
) -> None:
    """A bad video must not stop training, nor cost the numbers beside it."""
    kept = writer.keep("bad", value, 4)

    assert isinstance(kept, Media)
    assert (kept.file, [path for path in tmp_path.rglob("*") if path.is_file()]) == ("", [])
    assert "'bad' of step 4 is kept as a word only" in caplog.text


@given(key=st.text(), step=st.integers(-(2**63), 2**63 - 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_no_key_leads_out_of_the_run_folder(tmp_path: Path, key: str, step: int) -> None:
    """Names of environments and datasets come from outside."""
    kept = MediaWriter(tmp_path).keep(key, Histogram([1.0, 2.0], bins=2), step)

    assert kept.path.parent.parent == tmp_path / "media"
    assert kept.path.is_file()


@pytest.mark.parametrize("key", ["..", "/etc", "a/../b", "\x1b[2J", "", "a" * 300, "漢" * 300])
def test_a_folder_s_name_is_plain(key: str) -> None:
    """It is shown in terminals and typed in shells."""
    name = folder_name(key)

    assert name not in ("", ".", "..")
    assert len(name) <= 100
    assert all(c.isalnum() or c in "_.-" for c in name)


@pytest.mark.parametrize("file", ["../outside.png", "/etc/passwd", "media/../../x"])
def test_a_journal_s_line_cannot_name_other_files(tmp_path: Path, file: str) -> None:
    """A journal that somebody was sent must not upload the keys of whoever syncs it."""
    line = json.dumps({"$": "image", "text": "<image>", "file": file})
    media = Media("image", line, file, {}, tmp_path)

    with pytest.raises(ValueError, match="not in the run folder"):
        encoded(media)
