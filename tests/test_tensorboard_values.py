"""What TensorBoard shows of each kind of value, read back by its own reader and pages."""

import itertools
import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.logger import Figure, HParam, Image, Video
from tensorboard_folder import KINDS, NUMBER, about, deliver, events, metrics, text

from rl_logging.contents import count
from rl_logging.formats.tensorboard import TensorBoardSender
from rl_logging.hyperparams import flatten
from rl_logging.record import HYPERPARAMETERS, TAGS
from rl_logging.rich import Histogram, Media, Table

DRAWN = ["number", "histogram", "image"]


class Cells(HTMLParser):
    """The rows of the table in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "br":
            self.rows[-1][-1] += "\n"

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and data.strip("\n"):
            self.rows[-1][-1] += data


def shown_table(folder: Path, key: str) -> Cells:
    """A table as TensorBoard's page has it."""
    from tensorboard.plugin_util import markdown_to_safe_html

    return Cells(markdown_to_safe_html(text(folder, key)))


def test_an_image_has_its_pixels(tmp_path: Path) -> None:
    """Whoever looks at what an agent sees must see just that."""
    pixels = np.random.default_rng(1).integers(0, 256, (3, 8, 6), np.uint8)

    deliver(tmp_path, metrics(tmp_path, {"seen": Image(pixels, "CHW")}))
    (found,) = events(tmp_path).Images("seen")

    assert np.array_equal(imageio.imread(found.encoded_image_string), pixels.transpose(1, 2, 0))
    assert (found.width, found.height, found.step) == (6, 8, 1)


def test_a_figure_is_the_picture_that_was_drawn(tmp_path: Path) -> None:
    """It is drawn once, in the training process, and nowhere again."""
    from matplotlib.figure import Figure as Drawing

    record = metrics(tmp_path, {"plot": Figure(Drawing((2, 1), dpi=50), close=True)})

    deliver(tmp_path, record)
    (found,) = events(tmp_path).Images("plot")

    assert found.encoded_image_string == record.values["plot"].path.read_bytes()
    assert (found.width, found.height) == (100, 50)


def test_a_video_moves(tmp_path: Path) -> None:
    """TensorBoard has no place for films, but shows a picture that moves."""
    frames = np.zeros((1, 6, 3, 16, 16), np.uint8)
    for index in range(6):
        frames[0, index, index % 3] = 255

    deliver(tmp_path, metrics(tmp_path, {"eval/video": Video(frames, fps=10)}))
    (found,) = events(tmp_path).Images("eval/video")
    read = imageio.imread(found.encoded_image_string, index=None, extension=".gif", mode="RGB")

    assert read.shape == (6, 16, 16, 3)
    assert np.abs(read.astype(int) - frames[0].transpose(0, 2, 3, 1)).mean() < 8


@pytest.mark.parametrize(
    ("value", "counts", "limits"),
    [
        (Histogram([0.0, 1.0, 1.0, np.nan, 4.0], bins=2), [0, 3, 1], [0.0, 2.0, 4.0]),
        (Histogram(counts=[3, 0, 1], edges=[0.0, 1.0, 2.0, 4.0]), [0, 3, 0, 1], [0.0, 1.0, 2.0, 4.0]),
    ],
)
def test_a_histogram_has_its_counts(tmp_path: Path, value: Histogram, counts: Any, limits: Any) -> None:
    """Bins that a user has counted are shown as they are, not counted again."""
    deliver(tmp_path, metrics(tmp_path, {"actions": value}))
    found = events(tmp_path).Histograms("actions")[0].histogram_value

    assert (list(found.bucket), list(found.bucket_limit)) == (counts, limits)
    assert (found.num, found.min, found.max) == (4, 0, 4)


def test_a_histogram_beyond_float32_ends_there(tmp_path: Path) -> None:
    """TensorBoard holds edges as float32, and its own sums must not run over at what we write."""
    given = [[-1e306, 0.0, 1e306], [1e300], [1e-300, 2e-300]]
    deliver(tmp_path, metrics(tmp_path, {str(n): np.array(values * 2) for n, values in enumerate(given)}))

    found = [events(tmp_path).Histograms(key)[0].histogram_value for key in "012"]

    largest = float(np.finfo(np.float32).max)
    assert [(one.min, one.max) for one in found] == [
        (-largest, largest),
        (largest, largest),
        (1e-300, 2e-300),
    ]
    assert [one.num for one in found] == [6, 2, 4]


def test_large_arrays_are_counted_from_their_file(tmp_path: Path) -> None:
    """A million weights do not stand in the journal, and their distribution is shown all the same."""
    weights = np.random.default_rng(1).normal(size=300_000)

    deliver(tmp_path, metrics(tmp_path, {"weights": weights}))
    found = events(tmp_path).Histograms("weights")[0].histogram_value

    assert found.num == sum(found.bucket) == weights.size
    assert found.sum == pytest.approx(weights.sum(), abs=1e-6)
    assert found.sum_squares == pytest.approx(np.square(weights).sum())


def test_a_table_has_its_cells_and_nothing_in_them_is_markup(tmp_path: Path) -> None:
    """A cell may hold what a model said; it must not become a link or a picture on somebody's page."""
    rows = [
        ["1", "a|b", "![x](http://h/i.png)"],
        ["*bold* _it_ `code`", "<script>alert(1)</script>", "[l](http://h)"],
        ["# head", "&lt;\\|", "two\nlines"],
        ["~~~", "---", "1.5"],
    ]

    deliver(tmp_path, metrics(tmp_path, {"eval/results": Table(["step", "p|q", "<b>"], rows)}))
    shown = shown_table(tmp_path, "eval/results")

    assert shown.rows == [["step", "p|q", "<b>"], *rows]
    assert shown.tags == {"table", "thead", "tbody", "tr", "th", "td", "br"}


@settings(max_examples=50)
@given(st.lists(st.lists(st.text(max_size=20), min_size=2, max_size=2), min_size=1, max_size=4))
def test_any_text_is_a_cell(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    """Letters of any script arrive, and no cell breaks the table around it."""
    folder = tmp_path_factory.mktemp("run")
    deliver(folder, metrics(folder, {"t": Table(["a", "b"], rows)}))

    shown = shown_table(folder, "t")

    assert [len(row) for row in shown.rows] == [2] * (len(rows) + 1)
    assert shown.tags <= {"table", "thead", "tbody", "tr", "th", "td", "br"}
    letters = [["".join(filter(str.isalnum, cell)) for cell in row] for row in rows]
    assert [["".join(filter(str.isalnum, cell)) for cell in row] for row in shown.rows[1:]] == letters


def test_of_a_long_table_the_last_rows_are_shown(tmp_path: Path) -> None:
    """Each step's text holds all rows anew; whoever needs the rest is told where it is."""
    deliver(tmp_path, metrics(tmp_path, {"t": Table(["n"], [[n] for n in range(1500)])}))
    shown = shown_table(tmp_path, "t")

    assert [row[0] for row in shown.rows] == ["n", *map(str, range(500, 1500))]
    assert "The last 1000 of 1500 rows" in text(tmp_path, "t")


def served(folder: Path) -> dict[str, list[int]]:
    """The steps at which TensorBoard's server has something of each kind, under any tag."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext

    events = EventMultiplexer().AddRunsFromDirectory(str(folder))
    events.Reload()
    provider = MultiplexerDataProvider(events, str(folder))
    about: dict[str, Any] = {"experiment_id": "", "downsample": 100}
    read = {
        "number": provider.read_scalars(RequestContext(), plugin_name="scalars", **about),
        "histogram": provider.read_tensors(RequestContext(), plugin_name="histograms", **about),
        "image": provider.read_blob_sequences(RequestContext(), plugin_name="images", **about),
        "text": provider.read_tensors(RequestContext(), plugin_name="text", **about),
    }
    return {
        kind: sorted(datum.step for tags in runs.values() for data in tags.values() for datum in data)
        for kind, runs in read.items()
    }


@pytest.mark.parametrize("order", list(itertools.permutations(DRAWN)), ids="-".join)
def test_kinds_under_one_key_do_not_hide_each_other(tmp_path: Path, order: tuple[str, ...]) -> None:
    """TensorBoard drops what comes to a tag in another form than the first, such as an array of one."""
    kinds = [*order, "text", "table", *order]
    records = [metrics(tmp_path, {"a": KINDS[kind]}, step) for step, kind in enumerate(kinds)]

    sender = deliver(tmp_path, *records)

    steps = {kind: [step for step, other in enumerate(kinds) if other == kind] for kind in DRAWN}
    assert served(tmp_path) == {**steps, "text": [3, 4]}
    assert sender.history() == sender.expected(records)
    assert sender.contents() == count(records)


@pytest.mark.parametrize("order", list(itertools.permutations(DRAWN, 2)), ids="-".join)
def test_nor_do_those_of_an_earlier_process(tmp_path: Path, order: tuple[str, ...]) -> None:
    """A run that was continued knows no more what stood under which key, but may not lose by it."""
    records = [metrics(tmp_path, {"a": KINDS[kind]}, step) for step, kind in enumerate([*order, order[0]])]
    sender = TensorBoardSender(tmp_path / "tb")
    sender.handle(records[0])
    reference = json.loads(json.dumps(sender.reference()))
    sender.close()

    sender = TensorBoardSender(tmp_path / "tb")
    sender.resume(reference)
    for record in records[1:]:
        sender.handle(record)
    sender.close()

    found = served(tmp_path)
    assert (found[order[0]], found[order[1]]) == ([0, 2], [1])
    assert sender.history() == sender.expected(records)
    assert sender.contents() == count(records)


def test_what_cannot_be_shown_says_where_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file of a kind that browsers are not shown, or one that is lost, costs only itself."""
    picture = tmp_path / "given.webp"
    imageio.imwrite(picture, np.zeros((4, 4, 3), np.uint8))
    record = metrics(
        tmp_path,
        {
            "webp": Image(str(picture), "HWC"),
            "lost": Image(np.zeros((4, 4), np.uint8), "HW"),
            "crooked": Image(np.zeros((4, 4, 2), np.uint8), "HWC"),
            "empty": np.array([np.nan, np.inf]),
            "no table": Media("table", "<table>"),
            "no parameters": Media("hparam", "<hparam>"),
            "number": NUMBER,
        },
    )
    (tmp_path / "media/lost/step_1.npy").unlink()

    sender = deliver(tmp_path, record)

    assert sender.history() == {"number": [(1, NUMBER)]}
    assert [text(tmp_path, key).strip() for key in ("webp", "lost", "crooked", "empty")] == [
        "<image webp>: media/webp/step_1.webp",
        "<image 4x4>",
        "<image 4x4x2>: media/crooked/step_1.npy",
        "[nan inf]",
    ]
    assert "tensorboard: 'lost' at step 1 is shown as a text only" in caplog.text
    assert sender.contents() == {"image": 3, "histogram": 1, "table": 1}


def test_without_an_encoder_a_video_says_where_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra is asked for by name, and what was recorded can be encoded later."""
    monkeypatch.setitem(sys.modules, "imageio", None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    record = metrics(tmp_path, {"clip": Video(np.zeros((1, 2, 3, 8, 8), np.uint8), 10), "number": NUMBER})

    sender = deliver(tmp_path, record)

    assert text(tmp_path, "clip").strip() == "<video 2 frames>: media/clip/step_1.npy"
    assert "pip install 'rl_logging[video]'" in caplog.text
    assert sender.history() == {"number": [(1, NUMBER)]}


ARRAYS = st.lists(st.integers(0, 4), max_size=4).map(lambda shape: np.ones(shape, np.float32))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NESTED = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
VALUES = st.one_of(
    PLAIN,
    NESTED,
    ARRAYS,
    st.lists(st.floats(width=64), max_size=5).map(np.array),
    st.builds(Image, ARRAYS, st.sampled_from(["HWC", "CHW", "HW", "NCHW", "XYZ", ""])),
    st.builds(Table, st.lists(st.text(), min_size=1, max_size=3)),
    st.builds(HParam, st.dictionaries(st.text(), NESTED, max_size=3), st.just({"beside": 0.0})),
)


@settings(max_examples=80)
@given(
    st.dictionaries(st.text(max_size=300), VALUES, max_size=4), st.dictionaries(st.text(), NESTED, max_size=4)
)
def test_nothing_raises_and_the_number_beside_it_arrives(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any], nested: dict[str, Any]
) -> None:
    """Names and values come from users' code, which may hold anything."""
    folder = tmp_path_factory.mktemp("run")
    record = metrics(folder, {**values, "beside": 0.5})
    sender = deliver(
        folder, record, about(HYPERPARAMETERS, nested), about(TAGS, dict.fromkeys(values, "tag"))
    )

    assert sender.history()["beside"] == [(1, 0.5)]
    counts, meant = sender.contents(), count([record])
    for kind in ("image", "histogram", "table", "text"):
        assert counts.get(kind) == meant.get(kind)
    assert counts.get("hyperparameter", 0) >= len(flatten(nested))
