"""Every kind of value in ClearML, offline, read back from its session."""

import atexit
import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure as Drawing
from stable_baselines3.common.logger import Figure, HParam, Image, Video
from waiting import wait_until

from rl_logging import Histogram, Table
from rl_logging.artifacts import describe_artifact, keep_artifact
from rl_logging.contents import count
from rl_logging.encoding import read_frames
from rl_logging.formats.clearml import ClearMLSender
from rl_logging.formats.clearml_session import ClearMLSession
from rl_logging.media import MediaWriter
from rl_logging.record import ARTIFACT, HYPERPARAMETERS, PROVENANCE, TAGS, Record, make_record, now
from rl_logging.rich import Media

ACTIONS = np.random.default_rng(0).normal(size=(40, 25)).astype(np.float32)
LARGE = np.arange(400_000, dtype=np.float64)
PIXELS = np.random.default_rng(1).integers(0, 256, (12, 16, 3), dtype=np.uint8)
PARAMETERS = {
    "ppo": {"lr": 3e-4, "layers": [64, 64], "net": {"act": "tanh"}},
    "none": None,
    "nan": float("nan"),
    "huge": 10**40,
    "µ.$ x": True,
    "empty": {},
    "wrappers": [{"name": "Monitor"}, {"name": "TimeLimit"}],
}
FACTS = {
    "command": "python train.py",
    "script": "/code/agent/train.py",
    "python": "3.11.7",
    "git": {"commit": "abc", "branch": "wip", "remote": "https://host/agent.git", "root": "/code"},
}


def sender_in(folder: Path) -> ClearMLSender:
    return ClearMLSender(folder=folder / "clearml", offline=True)


def video(colours: list[int], size: int = 32) -> Video:
    frames = np.stack([np.full((3, size, size), colour, np.uint8) for colour in colours])
    return Video(frames[None], 10)  # type: ignore[arg-type]  # SB3 names a tensor, and takes what is like one


def drawing() -> Drawing:
    figure = Drawing(figsize=(2, 1))
    figure.subplots().plot([1, 3, 2])
    return figure


def about(kind: str, **values: Any) -> Record:
    return Record(9, now(), values, kind=kind)


def records_of_each_kind(folder: Path) -> Iterator[Record]:
    """One run with all there is."""

    def metrics(step: int, **values: Any) -> Record:
        named = {f"eval/{key}": value for key, value in values.items()}
        return make_record(named, {}, step, take=MediaWriter(folder).keep)

    (folder / "weights.bin").write_bytes(b"\x00\x01weights")
    (folder / "data" / "inner").mkdir(parents=True)
    (folder / "data" / "inner" / "rows.txt").write_text("rows")
    (folder / "provenance").mkdir()
    (folder / "provenance" / "uncommitted.diff").write_text("-old\n+new µ\n")
    (folder / "provenance" / "packages.txt").write_text("numpy==2.4.6\ntorch==2.13.0\n")
    results = Table(["episode", "return"], [[1, 2.5], [2, float("nan")]])
    yield metrics(5, reward=1.5, video=video([200, 40, 120]), image=Image(PIXELS, "HWC"), note="a text")
    yield metrics(5, figure=Figure(drawing(), True), actions=ACTIONS, large=LARGE)
    yield metrics(5, counted=Histogram(counts=[3, 0, 1], edges=[0, 1, 2, 4]), results=results)
    results.add("three", {"a": [2**60, None]})
    yield metrics(9, results=results, reward=2.5, image=Image(PIXELS[::-1].copy(), "HWC"))
    yield metrics(9, hp=HParam({"gamma": 0.9, "ppo": {"lr": 1e-3}}, {"eval/reward": 0.0}))
    yield about(HYPERPARAMETERS, **PARAMETERS, prompt="long " * 5000)
    yield about(TAGS, algorithm="ppo", note="a: b")
    model = keep_artifact(
        folder, folder / "weights.bin", "policy", "model", 9, {"load_by": "torch"}, ["best"]
    )
    yield about(ARTIFACT, policy=model)
    yield about(ARTIFACT, rows=keep_artifact(folder, folder / "data", "rows", "dataset", 9, {}, []))
    files = {
        name: describe_artifact(folder, folder / "provenance" / file, name, "provenance", {}, [])
        for name, file in (("uncommitted", "uncommitted.diff"), ("packages", "packages.txt"))
    }
    yield about(PROVENANCE, provenance=FACTS, **files)


class Session:
    """What a sender has left, read without its code."""

    def __init__(self, archive: Path) -> None:
        self.archive = zipfile.ZipFile(archive)
        self.task: dict[str, Any] = json.loads(self.archive.read("task.json"))

    def events(self, key: str = "", kind: str = "") -> list[dict[str, Any]]:
        lines = self.archive.read("metrics.jsonl").decode().splitlines()
        events = [event for line in lines for event in json.loads(line)]
        return [e for e in events if kind in e["type"] and key in ("", f"{e['metric']}/{e['variant']}")]

    def plots(self, key: str) -> dict[int, dict[str, Any]]:
        return {event["iter"]: json.loads(event["plot_str"]) for event in self.events(key, "plot")}

    def sample(self, event: dict[str, Any]) -> bytes:
        return self.archive.read(f"data/{event['key']}")

    def artifacts(self) -> dict[str, dict[str, Any]]:
        return {artifact["key"]: artifact for artifact in self.task["execution"]["artifacts"]}

    def content(self, artifact: dict[str, Any]) -> bytes:
        """As ClearML finds it when it imports the session."""
        return self.archive.read(
            "data/" + artifact["uri"].replace(f"{self.task['offline_folder']}/data/", "", 1)
        )


def deliver(sender: ClearMLSender, records: list[Record]) -> Session:
    for record in records:
        sender.handle(record)
    sender.close()
    return Session(Path(f"{sender.url()}.zip"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, ClearMLSender, list[Record]]:
    folder = tmp_path_factory.mktemp("run")
    sender, records = sender_in(folder), list(records_of_each_kind(folder))
    return deliver(sender, records), sender, records


@pytest.fixture(scope="module")
def session(run: tuple[Session, ClearMLSender, list[Record]]) -> Session:
    return run[0]


def test_an_image_is_a_debug_sample(session: Session) -> None:
    """Each step's image must be there; a process that continues the run must not write over it."""
    events = session.events("eval/image")

    shown = {event["iter"]: imageio.imread(session.sample(event)) for event in events}
    assert [event["type"] for event in events] == ["training_debug_image"] * 2
    assert [Path(event["key"]).suffixes for event in events] == [[".step_5", ".png"], [".step_9", ".png"]]
    assert shown[5].tolist() == PIXELS.tolist()
    assert shown[9].tolist() == PIXELS[::-1].tolist()


def test_a_video_can_be_played(session: Session, tmp_path: Path) -> None:
    """An evaluation is watched, in the order in which it happened."""
    (event,) = session.events("eval/video")
    (tmp_path / "video.mp4").write_bytes(session.sample(event))
    frames, fps = read_frames(tmp_path / "video.mp4")

    means = frames.mean(axis=(1, 2, 3))
    assert (event["iter"], fps, len(frames)) == (5, 10, 3)
    assert np.abs(means - [200, 40, 120]).max() < 6


def test_a_figure_is_a_plot_that_holds_it(session: Session) -> None:
    """ClearML shows figures among the plots; a link to a file would break when the session is sent."""
    layout = session.plots("eval/figure")[5]["layout"]
    (image,) = layout["images"]
    kind, _, data = image["source"].partition(",")
    pixels = imageio.imread(io.BytesIO(base64.b64decode(data)))

    assert kind == "data:image/png;base64"
    assert (pixels.shape[1], pixels.shape[0]) == (200, 100) == (image["sizex"], image["sizey"])
    assert pixels[..., :3].min() < 100 < pixels[..., :3].max()


@pytest.mark.parametrize(
    ("key", "counts", "edges"),
    [
        ("eval/actions", *np.histogram(ACTIONS.astype(float), 30)),
        ("eval/large", *np.histogram(LARGE, 30)),
        ("eval/counted", np.array([3, 0, 1]), np.array([0, 1, 2, 4])),
    ],
)
def test_a_histogram_has_its_counts_between_its_edges(
    session: Session, key: str, counts: np.ndarray, edges: np.ndarray
) -> None:
    """Bins need not be equally wide; one value more in a bin is a wrong picture."""
    (bars,) = session.plots(key)[5]["data"]

    assert bars["type"] == "bar"
    assert bars["y"] == counts.tolist()
    assert bars["offset"] == 0
    np.testing.assert_allclose(bars["x"], edges[:-1], rtol=1e-6)
    np.testing.assert_allclose(np.add(bars["x"], bars["width"]), edges[1:], rtol=1e-6)


def test_a_table_is_shown_as_it_was_at_its_step(session: Session) -> None:
    """Rows that came later are not in the earlier table; JSON has no NaN, and browsers no long integers."""
    tables = {step: plot["data"][0] for step, plot in session.plots("eval/results").items()}

    assert tables[5]["header"]["values"] == ["episode", "return"]
    assert tables[5]["cells"]["values"] == [[1, 2], [2.5, "nan"]]
    assert tables[9]["cells"]["values"] == [
        [1, 2, "three"],
        [2.5, "nan", '{"a": [1152921504606846976, null]}'],
    ]


def test_parameters_are_nested_and_a_long_one_is_whole_in_an_artifact(session: Session) -> None:
    """ClearML makes sections of slashes; a run is not to be lost for a long prompt, nor the prompt."""
    section = session.task["hyperparams"]["General"]
    values = {name: item["value"] for name, item in section.items()}
    prompt = values.pop("prompt")
    (key,) = (key for key in session.artifacts() if key.startswith("hyperparameters/"))
    whole = json.loads(session.content(session.artifacts()[key]))

    assert values == {
        "gamma": "0.9",
        "ppo/lr": "0.0003",
        "ppo/layers": "[64, 64]",
        "ppo/net/act": "tanh",
        "none": "",
        "nan": "nan",
        "huge": str(10**40),
        "µ.$ x": "True",
        "empty": "{}",
        "wrappers": '[{"name": "Monitor"}, {"name": "TimeLimit"}]',
    }
    assert session.task["hyperparams"]["Metrics"]["eval/reward"]["value"] == "0.0"
    assert len(prompt) == 10_001
    assert whole["prompt"] == "long " * 5000


def test_tags_can_be_seen_and_read(session: Session) -> None:
    """Tasks are filtered by tags; a property tells a name from a text."""
    properties = session.task["hyperparams"]["properties"]

    assert sorted(session.task["tags"]) == ["algorithm: ppo", "note: a: b"]
    assert {name: item["value"] for name, item in properties.items()} == {"algorithm": "ppo", "note": "a: b"}


def test_an_artifact_has_its_bytes_and_says_what_it_is(session: Session) -> None:
    """Who downloads a policy must know which one it is."""
    policy = session.artifacts()["policy/step_9"]

    assert session.content(policy) == b"\x00\x01weights"
    assert dict(policy["display_data"]) == {
        "kind": "model",
        "name": "policy",
        "step": "9",
        "type": "model",
        "aliases": "best",
        "sha256": hashlib.sha256(b"\x00\x01weights").hexdigest(),
        "metadata/load_by": "torch",
    }


def test_a_folder_is_an_archive(session: Session) -> None:
    """ClearML unpacks it again by itself."""
    rows = session.artifacts()["rows/step_9"]
    with zipfile.ZipFile(io.BytesIO(session.content(rows))) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}

    assert rows["type"] == "archive"
    assert found == {"inner/rows.txt": b"rows"}


def test_provenance_is_the_script_section(session: Session) -> None:
    """ClearML's own page of what was run, from which it can run it again."""
    configuration = session.task["configuration"]["provenance"]["value"]
    artifacts = session.artifacts()

    assert session.task["script"] == {
        "repository": "https://host/agent.git",
        "branch": "wip",
        "version_num": "abc",
        "diff": "-old\n+new µ\n",
        "working_dir": ".",
        "entry_point": "agent/train.py",
        "binary": "python3.11",
        "requirements": {"pip": "numpy==2.4.6\ntorch==2.13.0\n"},
    }
    assert json.loads(configuration) == FACTS
    assert session.content(artifacts["provenance/uncommitted"]) == "-old\n+new µ\n".encode()


def test_what_stands_there_is_what_was_recorded(run: tuple[Session, ClearMLSender, list[Record]]) -> None:
    """The comparison of all trackers is worth nothing if one counts differently."""
    _, sender, records = run

    assert sender.history() == sender.expected(records)
    assert sender.contents() == sender.expected_contents(records) == count(records)
    assert sender.contents() == {
        "image": 2,
        "figure": 1,
        "video": 1,
        "histogram": 3,
        "table": 2,
        "text": 1,
        "hyperparameter": 11,
        "tag": 2,
        "artifact": 1,
        "model": 1,
    }


def test_what_is_delivered_again_is_there_once(tmp_path: Path) -> None:
    """A crash may repeat all; the task is the same one, without what its first session had."""
    records = list(records_of_each_kind(tmp_path))
    first = sender_in(tmp_path)
    before = deliver(first, records)
    second = sender_in(tmp_path)
    stays = second.resume(first.reference())
    after = deliver(second, [*records[:5], replace(records[5], values={"other": 1})])

    assert not stays
    assert (after.task["id"], sorted(after.artifacts())) == (before.task["id"], [])
    assert second.contents() == count([*records[:5], replace(records[5], values={"other": 1})])


def test_what_is_repeated_replaces_its_equal(tmp_path: Path) -> None:
    """At most one batch comes twice; changed parameters, tags and files must not raise, nor stay beside."""
    (tmp_path / "file").write_text("1")
    kept = [keep_artifact(tmp_path, tmp_path / "file", "a", "artifact", 1, {}, []) for _ in range(2)]
    sender = sender_in(tmp_path)
    for value in (1, "two"):
        sender.handle(about(HYPERPARAMETERS, x={"lr": value}))
        sender.handle(about(TAGS, stage=str(value)))
        for artifact in kept:
            sender.handle(about(ARTIFACT, a=artifact))
    session = deliver(sender, [])

    assert session.task["hyperparams"]["General"]["x/lr"]["value"] == "two"
    assert session.task["tags"] == ["stage: two"]
    assert sorted(session.artifacts()) == ["a/step_1", "a/step_1_2"]
    assert sender.contents() == {"hyperparameter": 1, "tag": 1, "artifact": 2}


def test_what_is_acknowledged_is_on_the_disk(tmp_path: Path) -> None:
    """The process may be killed right after; its cursor says that all has arrived."""
    records = list(records_of_each_kind(tmp_path))
    sender = sender_in(tmp_path)
    for record in records:
        sender.handle(record)
    at_once = sender.settle()
    wait_until(sender.settle, timeout_s=60)
    found = ClearMLSession(sender.url()).contents()
    sender.close()

    assert not at_once
    assert found == count(records)


def test_an_image_that_no_disk_holds_is_not_acknowledged(tmp_path: Path, small_disk: Path) -> None:
    """ClearML drops an event whose file it cannot copy, and says nothing."""
    noise = np.random.default_rng(2).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    record = make_record({"a": Image(noise, "HWC")}, {}, 1, take=MediaWriter(tmp_path).keep)
    sender = ClearMLSender(folder=small_disk, offline=True)
    sender.handle(record)

    with pytest.raises(RuntimeError, match="ClearML has not written all into"):
        sender.close()
    atexit.unregister(sender.close)
    assert ClearMLSession(sender.url()).contents() == {}


def lost(media: Media) -> None:
    for path in (media.path, media.raw):
        if path is not None:
            path.unlink(missing_ok=True)


def damaged(media: Media) -> None:
    for path in (media.path, media.raw):
        if path is not None and path.exists():
            path.write_bytes(b"\x93NUMPY damaged")


def test_a_value_without_its_file_is_a_word(tmp_path: Path) -> None:
    """A number beside it is not to blame, nor is the output."""
    values = {
        "video": video([1, 2]),
        "image": Image(PIXELS, "HWC"),
        "table": Table(["a"], [[1]]),
        "array": LARGE,
    }
    sender, points, words = sender_in(tmp_path), [], set()
    for step, spoil in enumerate((lost, damaged), start=1):
        named = {f"{key}/{spoil.__name__}": value for key, value in {**values, "number": step}.items()}
        record = make_record(named, {}, step, take=MediaWriter(tmp_path).keep)
        for media in record.values.values():
            if isinstance(media, Media):
                spoil(media)
        sender.handle(record)
        points += list(sender.numbers(record))
    outside = Media("image", "<image>", "../outside.png", {}, tmp_path / "run")
    sender.handle(Record(3, now(), {"image/outside": outside, "number/outside": 3}))
    session = deliver(sender, [])
    for line in session.archive.read("log.jsonl").decode().splitlines():
        words |= {line for event in json.loads(line) for line in event["msg"].split("\n")}

    assert sender.history() == {
        "number/lost": [(1, 1.0)],
        "number/damaged": [(2, 2.0)],
        "number/outside": [(3, 3.0)],
    }
    assert {
        "[step 1] video/lost: <video 2 frames>",
        "[step 1] image/lost: <image 12x16x3>",
        "[step 1] table/lost: <table 1 columns 1 rows>",
        "[step 1] array/lost: <array 400000 float64>",
        "[step 2] table/damaged: <table 1 columns 1 rows>",
        "[step 2] array/damaged: <array 400000 float64>",
        "[step 3] image/outside: <image>",
    } <= words


def test_what_cannot_be_encoded_is_an_artifact(tmp_path: Path) -> None:
    """The frames are kept as they were recorded; the same for what is too large for a plot."""
    odd = Video(np.zeros((1, 2, 7, 8, 8), np.uint8), 10)  # type: ignore[arg-type]  # seven channels
    rows = Table(["text"], [["x" * 1000]] * 1200)
    record = make_record({"a/odd": odd, "a/rows": rows}, {}, 4, take=MediaWriter(tmp_path).keep)
    sender = sender_in(tmp_path)
    session = deliver(sender, [record])

    frames = np.load(io.BytesIO(session.content(session.artifacts()["a/odd/step_4"])))
    table = session.content(session.artifacts()["a/rows/step_4"]).splitlines()
    assert (frames.shape, len(table)) == ((1, 2, 7, 8, 8), 1201)
    assert sender.contents() == count([record]) == {"video": 1, "table": 1}


def test_an_artifact_that_the_user_removed_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """ClearML would upload the file's name as a text, and call it a success."""
    (tmp_path / "file").write_text("1")
    kept = keep_artifact(tmp_path, tmp_path / "file", "a", "artifact", 1, {}, [])
    lost(kept)
    sender = sender_in(tmp_path)
    sender.handle(about(ARTIFACT, a=kept))
    session = deliver(sender, [])

    assert sender.refused == {"a": 1}
    assert "clearml: leaves out 'a' at step 9: its file is not in the run folder any more" in caplog.text
    assert not session.task.get("execution", {}).get("artifacts")


def test_names_that_are_no_folders_are_told_apart(tmp_path: Path) -> None:
    """ClearML makes folders of them: one too long would be lost, and ``..`` would leave the session."""
    keys = [
        "../../x",
        "..",
        "a/..",
        "/a",
        "a/",
        "a//b",
        "a\x00b",
        "a\\b",
        "\N{SNOWMAN}" * 200,
        "y/" * 90,
        "a: b/c#",
    ]
    images = {key: Image(np.full((2, 2, 3), number, np.uint8), "HWC") for number, key in enumerate(keys)}
    record = make_record(images, {}, 1, take=MediaWriter(tmp_path).keep)
    sender = sender_in(tmp_path)
    session = deliver(sender, [record])

    shown = [imageio.imread(session.sample(event)).max() for event in session.events()]
    assert sorted(shown) == list(range(len(keys)))
    assert sender.contents() == {"image": len(keys)}


def test_two_kinds_under_one_key_do_not_meet(tmp_path: Path) -> None:
    """What a key stands for may change from step to step."""
    results = Table(["a"], [[1]])
    values = [
        1.5,
        ACTIONS,
        "text",
        results,
        Image(PIXELS, "HWC"),
        video([1, 2]),
        Figure(drawing(), True),
        2.5,
    ]
    take: Callable[[str, Any, int], Any] = MediaWriter(tmp_path).keep
    records = [make_record({"a/b": value}, {}, step, take=take) for step, value in enumerate(values)]
    sender = sender_in(tmp_path)
    deliver(sender, records)

    assert sender.history() == {"a/b": [(0, 1.5), (7, 2.5)]}
    assert sender.contents() == count(records)


TEXTS = st.text(max_size=300)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.integers(10**4299, 10**4301)
NESTED = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)
ARRAYS = st.lists(st.floats(), max_size=5).map(np.asarray)
VALUES = NESTED | ARRAYS | TEXTS.map(lambda text: Table([text], [[text]])) | st.just(Image(None, "HWC"))


def test_no_name_and_no_value_breaks_what_stands_beside(tmp_path: Path) -> None:
    """Names and values come from outside; the numbers of the same dump must arrive."""
    sender, writer, steps = sender_in(tmp_path), MediaWriter(tmp_path), []

    @settings(max_examples=40)
    @given(
        TEXTS, VALUES, st.dictionaries(TEXTS, NESTED, max_size=3), st.dictionaries(TEXTS, TEXTS, max_size=3)
    )
    def handle(key: str, value: Any, parameters: dict[str, Any], tags: dict[str, str]) -> None:
        steps.append(len(steps))
        record = make_record({"beside/it": steps[-1], f"x{key}": value}, {}, steps[-1], take=writer.keep)
        sender.handle(record)
        sender.handle(Record(steps[-1], now(), parameters, kind=HYPERPARAMETERS))
        sender.handle(Record(steps[-1], now(), tags, kind=TAGS))

    handle()
    deliver(sender, [])

    assert sender.history()["beside/it"] == [(step, float(step)) for step in steps]
