"""Every kind of value in a W&B run, offline, read back from its log and its files."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hypothesis
import matplotlib.figure
import numpy as np
import psutil
import pytest
from hypothesis import strategies as st
from stable_baselines3.common.logger import Figure, HParam, Image, Video
from waiting import wait_until

from rl_logging.artifacts import keep_artifact
from rl_logging.contents import count
from rl_logging.encoding import read_frames
from rl_logging.formats.bounds import environment, unpatched
from rl_logging.formats.wandb import WandBSender
from rl_logging.formats.wandb_config import (
    artifact_aliases,
    artifact_metadata,
    artifact_name,
    artifact_type,
    tag_of,
)
from rl_logging.formats.wandb_contents import config, tags
from rl_logging.formats.wandb_log import WandBLog
from rl_logging.media import MediaWriter
from rl_logging.record import ARTIFACT, HYPERPARAMETERS, PROVENANCE, TAGS, Record, make_record
from rl_logging.rich import Histogram, Media, Table

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
CLIP = np.full((1, 6, 3, 32, 32), 200, np.uint8)
CLIP[:, 3:] = 40
NUMBERS = np.random.default_rng(1).normal(size=500)
LONG = "x" * 30_000


def sender_in(folder: Path, **arguments: Any) -> WandBSender:
    return WandBSender(folder=folder, mode="offline", **arguments)


def metrics(folder: Path, seq: int, step: int, axis: str = "", **values: Any) -> Record:
    """A record of values, taken as the logger takes them."""
    record = make_record(
        {key.replace("__", "/"): value for key, value in values.items()}, {}, step, take(folder)
    )
    return replace(record, seq=seq, axis=axis)


def take(folder: Path) -> Any:
    return MediaWriter(folder).keep


def about(kind: str, seq: int, values: dict[str, Any], step: int = 20) -> Record:
    return Record(step, 0.0, values, kind=kind, seq=seq)


def artifact(folder: Path, seq: int, name: str, type_: str = "artifact", content: bytes = b"123") -> Record:
    source = folder / f"source_{seq}.bin"
    source.write_bytes(content)
    media = keep_artifact(folder, source, name, type_, 20, {"score": math.inf}, ["best", "v3"])
    return about(ARTIFACT, seq, {name: media})


def everything(folder: Path) -> list[Record]:
    """A record or more of each kind."""
    figure = matplotlib.figure.Figure()
    figure.subplots().plot([1, 2])
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "weights.bin").write_bytes(b"weights")
    (folder / "provenance").mkdir(exist_ok=True)
    (folder / "provenance" / "uncommitted.diff").write_text("+ a line\n")
    policy = keep_artifact(folder, folder / "model", "policy", "model", 20, {"load_by": "torch"}, ["best"])
    diff = Media("artifact", "<uncommitted>", "provenance/uncommitted.diff", {}, folder)
    rich = {
        "loss": 0.5,
        "note": "a text",
        "eval__video": Video(CLIP, 10),
        "image": Image(PIXELS, "HWC"),
        "figure": Figure(figure, close=False),
        "actions": NUMBERS,
        "lengths": Histogram(counts=[3, 9, 1], edges=[0, 10, 20, 30]),
        "wide": Histogram(counts=np.ones(1001), edges=np.arange(1002)),
        "empty": np.full(3, np.nan),
        "results": Table(["episode", "who"], [[1, "a"], [2.5, None]]),
        "mixed": Table(["cell"], [[1], ["a"], [[1, 2]]]),
        "hparam": HParam({"gamma": 0.9}, {"loss": 0.0}),
    }
    return [
        about(HYPERPARAMETERS, 1, {"model": {"lr": 0.1, "layers": [64, 64]}, "seed": 3}),
        about(TAGS, 2, {"phase": "first", "urgent": ""}),
        metrics(folder, 3, 20, **rich),
        artifact(folder, 4, "data"),
        about(ARTIFACT, 5, {"policy": policy}),
        about(HYPERPARAMETERS, 6, {"model": {"lr": 0.2}}),
        metrics(folder, 7, 7, axis="ray/updates", ray__updates=7, ray__loss=0.25),
        about(PROVENANCE, 8, {"provenance": {"script": "train.py", "git": {"is_dirty": True}}, "diff": diff}),
        metrics(folder, 9, 30, loss=0.25),
    ]


@dataclass
class Delivered:
    """A run that was delivered and closed, and what its log holds."""

    sender: WandBSender
    records: list[Record]

    @property
    def files(self) -> Path:
        return Path(self.sender.reference()["log"]).parent / "files"

    @property
    def entries(self) -> list[Any]:
        return list(WandBLog(self.sender.reference()["log"]).entries())

    @property
    def row(self) -> dict[str, Any]:
        rows = dict(WandBLog(self.sender.reference()["log"]).rows())
        return rows[3]

    def artifacts(self) -> dict[str, Any]:
        return {entry.artifact.name: entry.artifact for entry in self.entries if entry.HasField("artifact")}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    folder = tmp_path_factory.mktemp("run [1]")
    sender = sender_in(folder, tags=["given"])
    records = everything(folder)
    for record in records:
        sender.handle(record)
    sender.close()
    return Delivered(sender, records)


def deliver(folder: Path, *records: Record, earlier: dict[str, Any] | None = None) -> Delivered:
    sender = sender_in(folder)
    if earlier is not None:
        sender.resume(earlier)
    for record in records:
        sender.handle(record)
    sender.close()
    return Delivered(sender, list(records))


def bytes_of(entry: Any) -> dict[str, bytes]:
    """The files of an artifact, as the log says where they are."""
    return {file.path: Path(file.local_path).read_bytes() for file in entry.manifest.contents}


def test_an_image_arrives_pixel_by_pixel(run: Delivered) -> None:
    """W&B itself would make one of floats black, and takes no other layouts."""
    from imageio import v3

    shown = run.row["image"]

    assert (shown["_type"], shown["width"], shown["height"]) == ("image-file", 6, 8)
    assert np.array_equal(v3.imread(run.files / shown["path"]), PIXELS)


def test_a_figure_is_told_from_an_image(run: Delivered) -> None:
    """W&B has one kind for both; the page shows the file."""
    shown = run.row["figure"]
    (drawn,) = (run.records[2].values["figure"].folder / "media" / "figure").glob("*.png")

    assert Path(shown["path"]).parts[:3] == ("media", "images", "figures")
    assert (run.files / shown["path"]).read_bytes() == drawn.read_bytes()


def test_a_video_arrives_as_it_was(run: Delivered) -> None:
    """W&B encodes none without moviepy."""
    shown = run.row["eval/video"]
    frames, fps = read_frames(run.files / shown["path"])

    assert (shown["_type"], fps) == ("video-file", 10)
    assert np.abs(frames.astype(int) - CLIP[0].transpose(0, 2, 3, 1)).max() <= 8


def test_histograms_arrive_count_by_count(run: Delivered) -> None:
    """W&B refuses NaN, and counts in other bins than the rest."""
    counts, edges = np.histogram(NUMBERS, 30)

    assert run.row["actions"]["values"] == counts.tolist()
    assert np.allclose(run.row["actions"]["bins"], edges)
    assert (run.row["lengths"]["values"], run.row["lengths"]["bins"]) == ([3, 9, 1], [0, 10, 20, 30])
    assert run.row["empty"]["values"] == [0]
    assert run.row["wide"]["values"] == [2] * 500 + [1]
    assert run.row["wide"]["bins"] == [*range(0, 1001, 2), 1001]


def test_tables_arrive_cell_by_cell(run: Delivered) -> None:
    """The page reads the artifact; other programs read the file."""
    shown = run.row["results"]
    kept = json.loads((run.files / shown["path"]).read_text())
    (table,) = (entry for name, entry in run.artifacts().items() if name.endswith("-results"))
    (paged,) = bytes_of(table).items()

    assert kept == {"columns": ["episode", "who"], "data": [[1, "a"], [2.5, None]]}
    assert json.loads(paged[1])["data"] == [[1, "a"], [2.5, None]]
    assert shown["artifact_path"].endswith(paged[0])
    assert json.loads((run.files / run.row["mixed"]["path"]).read_text())["data"] == [[1], ["a"], [[1, 2]]]


def test_hyperparameters_stay_nested(run: Delivered) -> None:
    """What comes later is added; W&B alone would replace the whole of "model"."""
    found = config(run.sender.reference())

    assert found["model"] == {"lr": 0.2, "layers": [64, 64]}
    assert (found["seed"], found["gamma"]) == (3, 0.9)


def test_tags_join_those_that_were_given(run: Delivered) -> None:
    """A tag here is a text."""
    assert tags(run.sender.reference()) == ["given", "phase:first", "urgent"]


def test_artifacts_have_bytes_type_metadata_and_aliases(run: Delivered) -> None:
    """W&B's tool sends what the log says, and removes the files that it says."""
    found = run.artifacts()
    data, policy = found["data"], found["policy"]
    about_policy = json.loads(policy.metadata)

    assert (bytes_of(data), bytes_of(policy)) == ({"source_4.bin": b"123"}, {"weights.bin": b"weights"})
    assert (data.type, policy.type) == ("artifact", "model")
    assert {"best", "latest"} < set(data.aliases)
    assert set(policy.aliases) == {"best", "latest"}
    assert (about_policy["load_by"], about_policy["step"]) == ("torch", 20)
    assert json.loads(data.metadata)["score"] == "inf"


def test_artifacts_are_copies_beside_the_log(run: Delivered) -> None:
    """``wandb sync`` removes the files that it has sent, and the home folder is not the run's."""
    folder = Path(run.sender.reference()["log"]).parents[1]
    places = [Path(file.local_path) for entry in run.artifacts().values() for file in entry.manifest.contents]

    assert len(places) == 5
    assert [place for place in places if not place.is_relative_to(folder / "artifacts")] == []


def test_provenance_has_its_places(run: Delivered) -> None:
    """Facts to filter runs by, code to find again, a diff to read."""
    found = config(run.sender.reference())["provenance"]
    code = run.artifacts()["code-train.py"]

    assert found == {"script": "train.py", "git": {"is_dirty": True}}
    assert (code.type, bytes_of(code)) == ("code", {"uncommitted.diff": b"+ a line\n"})
    assert (run.files / "provenance" / "uncommitted.diff").read_text() == "+ a line\n"


def test_a_curve_has_its_own_axis(run: Delivered) -> None:
    """The training step stands still in such a row: 7 updates are no 7 steps."""
    defined = {
        entry.metric.name: entry.metric.step_metric for entry in run.entries if entry.HasField("metric")
    }
    rows = dict(WandBLog(run.sender.reference()["log"]).rows())

    assert defined["ray/loss"] == "ray/updates"
    assert rows[7]["global_step"] == 20
    assert run.sender.history()["ray/loss"] == [(7, 0.25)]


def test_what_arrived_is_what_was_delivered(run: Delivered) -> None:
    """The demo's table compares the trackers by these counts."""
    assert run.sender.contents() == run.sender.expected_contents(run.records) == count(run.records)
    assert run.sender.history() == run.sender.expected(run.records)


def test_wandbs_own_reader_agrees(run: Delivered) -> None:
    """What only our reader could read would not be there."""
    session = Path(run.sender.reference()["log"]).parent
    tool = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(session)]
    process = subprocess.run(tool, capture_output=True, text=True, timeout=60, check=True)

    kinds = [json.loads(line)["type"] for line in process.stdout.splitlines()]

    assert (kinds.count("history"), kinds.count("artifact")) == (3, 5)


def test_a_second_delivery_shows_nothing_twice(tmp_path: Path) -> None:
    """After a crash all is delivered again, into a session that replaces the torn one."""
    first = deliver(tmp_path, *everything(tmp_path))
    history, path = first.sender.history(), first.row["image"]["path"]
    second = deliver(tmp_path, *first.records, earlier=first.sender.reference())

    assert second.sender.contents() == count(first.records)
    assert second.sender.history() == history
    assert second.row["image"]["path"] == path


def sent(kept: Delivered) -> dict[str, Any]:
    """Leave the mark that W&B's tool leaves."""
    reference = kept.sender.reference()
    Path(reference["log"]).with_suffix(".wandb.synced").touch()
    return reference


def test_what_was_sent_is_not_sent_again(tmp_path: Path) -> None:
    """An artifact behind the last row may be: W&B knows it by its content."""
    records = [*everything(tmp_path), artifact(tmp_path, 10, "last")]
    first = deliver(tmp_path, *records)
    history = first.sender.history()
    second = deliver(tmp_path, *records, earlier=sent(first))

    assert list(second.artifacts()) == ["last"]
    assert second.sender.contents() == count(records)
    assert second.sender.history() == history


def test_what_comes_later_joins_what_was_sent(tmp_path: Path) -> None:
    """W&B replaces the tags, and each top-level name of the config, by what a later session has."""
    first = deliver(tmp_path, *everything(tmp_path))
    later = about(TAGS, 10, {"phase": "second"}), about(HYPERPARAMETERS, 11, {"model": {"new": 1}})
    second = deliver(tmp_path, *later, earlier=sent(first))

    assert sorted(tags(second.sender.reference())) == ["phase:second", "urgent"]
    assert config(second.sender.reference())["model"] == {"lr": 0.2, "layers": [64, 64], "new": 1}
    assert second.sender.contents() == count([*first.records, *later])


@pytest.mark.parametrize("kind", [HYPERPARAMETERS, TAGS, ARTIFACT, PROVENANCE])
def test_what_is_no_row_is_safe_when_it_is_in_the_file(kind: str, tmp_path: Path) -> None:
    """What W&B's own process has and did not write is lost with ours, and must be delivered again."""
    record = {each.kind: each for each in everything(tmp_path)}[kind]
    sender = sender_in(tmp_path)
    sender.handle(metrics(tmp_path, 1, 1, a=1))
    wait_until(sender.settle, timeout_s=20)
    (writer,) = (child for child in psutil.Process().children() if child.name() == "wandb-core")
    writer.suspend()
    try:
        sender.handle(replace(record, seq=2))
        before = sender.settle()
    finally:
        writer.resume()
    wait_until(sender.settle, timeout_s=20)
    sender.close()

    assert not before


def test_a_refused_value_does_not_cost_the_numbers(tmp_path: Path) -> None:
    """What W&B cannot show goes there as a file; where that is lost, a word stands for it."""
    (tmp_path / "broken.png").write_bytes(b"no picture")
    record = metrics(
        tmp_path,
        1,
        5,
        loss=0.5,
        broken=Image(str(tmp_path / "broken.png"), ""),
        layout=Image(PIXELS, "HW"),
        lost=Table(["a"], [[1]]),
        torn=Table(["a"], [[1], [2]]),
        gone=Video(CLIP, 10),
        unkept=Video(None, 10),  # type: ignore[arg-type]
    )
    record.values["lost"].path.unlink()
    record.values["gone"].raw.unlink()
    torn = record.values["torn"].path
    torn.write_bytes(torn.read_bytes()[:-3])
    kept = deliver(tmp_path, record)

    found = {name: (entry.type, *bytes_of(entry)) for name, entry in kept.artifacts().items()}
    assert kept.sender.history() == {"loss": [(5, 0.5)]}
    assert found == {
        "image-broken": ("media", "step_5.png"),
        "image-layout": ("media", "step_5.npy"),
        "table-torn": ("media", "step_5.jsonl"),
    }
    assert kept.sender.contents() == {"image": 2, "table": 1, "text": 3}
    (row,) = dict(WandBLog(kept.sender.reference()["log"]).rows()).values()
    assert (row["gone"], row["lost"]) == ("<video 6 frames>", "<table 1 columns 1 rows>")


def test_a_missing_artifact_is_counted(tmp_path: Path) -> None:
    """The user may have removed it; the rest goes on."""
    missing = artifact(tmp_path, 1, "data")
    missing.values["data"].path.unlink()
    outside = about(ARTIFACT, 2, {"other": replace(missing.values["data"], file="../other")})
    kept = deliver(tmp_path, missing, outside, metrics(tmp_path, 3, 1, a=1.0))

    assert kept.sender.refused == {"data": 1, "other": 1}
    assert kept.sender.history() == {"a": [(1, 1.0)]}


def test_kinds_under_one_key_do_not_break_each_other(tmp_path: Path) -> None:
    """A key may be a number at one step, and an image or a text at another."""
    values = [0.5, Image(PIXELS, "HWC"), "a text", NUMBERS, 0.25, Table(["a"], [[1]])]
    records = [metrics(tmp_path, seq, 10 * seq, a=value) for seq, value in enumerate(values, 1)]
    kept = deliver(tmp_path, *records)

    assert kept.sender.history() == {"a": [(10, 0.5), (50, 0.25)]}
    assert kept.sender.contents() == {"image": 1, "text": 1, "histogram": 1, "table": 1}


def test_limits_lose_no_hyperparameter(tmp_path: Path) -> None:
    """What W&B takes for a link, keeps for itself or shows badly is there all the same."""
    given = {
        "prompt": LONG,
        "dataset": "wandb-artifact://entity/project/name:v0",
        "nested": {"_type": "artifactVersion", "id": "wandb-artifact://x"},
        "_wandb": 1,
        "--lr": math.nan,
        "": None,
        "big": 10**400,
    }
    kept = deliver(tmp_path, about(HYPERPARAMETERS, 1, given), about(HYPERPARAMETERS, 2, {"prompt": 5}))

    found = config(kept.sender.reference())
    (whole,) = kept.files.glob("hyperparams-*.json")
    assert json.loads(whole.read_text())["prompt"] == LONG
    assert found["prompt"] == 5
    assert found["dataset"] == " wandb-artifact://entity/project/name:v0"
    assert {"nan", None, 1, str(10**400)} <= {
        value for value in found.values() if not isinstance(value, dict)
    }
    assert kept.sender.contents() == {"hyperparameter": 8}


def test_a_users_own_run_keeps_what_is_theirs(tmp_path: Path) -> None:
    """Their config, tags and axes stay; ours are added."""
    import wandb

    settings = wandb.Settings(console="off", silent=True, x_transaction_log_flush_interval=0.1)
    given = {"mode": "offline", "dir": str(tmp_path), "config": {"mine": 1}, "tags": ["mine"]}
    with environment(), unpatched(), wandb.init(**given, settings=settings) as run:
        sender = WandBSender(folder=tmp_path / "ours")
        for record in everything(tmp_path):
            sender.handle(replace(record, seq=0))
        wait_until(sender.settle, timeout_s=20)
        run.tags += ("later",)
        sender.handle(about(TAGS, 0, {"phase": "second"}))
        found = run.config["mine"], run.config["seed"], sorted(run.tags)
        wait_until(sender.settle, timeout_s=20)
        contents = sender.contents()
        sender.close()

    assert found == (1, 3, ["later", "mine", "phase:second", "urgent"])
    assert contents == {**count(everything(tmp_path)), "tag": 4, "hyperparameter": 5}


def test_a_disabled_run_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who switches W&B off wants no files of it either."""
    monkeypatch.chdir(tmp_path)
    sender = WandBSender(folder=tmp_path / "run", mode="disabled")
    (tmp_path / "run").mkdir()
    for record in everything(tmp_path / "run"):
        sender.handle(record)
    sender.close()

    assert not (tmp_path / "artifacts").exists()
    assert not (tmp_path / "run" / "wandb").exists()


NAMES = st.text(max_size=300) | st.sampled_from(
    ["job", "wandb-x", "run-a", "source-a", "v3", "a/b", "", ".", ".."]
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
ARRAYS = st.sampled_from([NUMBERS, np.full(3, np.inf), np.arange(6, dtype=np.int8), np.zeros((2, 0))])
RICH = (
    PLAIN
    | ARRAYS
    | st.builds(
        lambda array, form: Image(array, form),
        st.sampled_from([PIXELS, NUMBERS]),
        st.sampled_from(["HWC", "CHW"]),
    )
    | st.builds(lambda cells: Table(["a", "a"], [cells[:2]]), st.lists(PLAIN, min_size=2, max_size=2))
    | st.builds(lambda n: Histogram(counts=range(n), edges=range(n + 1)), st.integers(1, 2000))
)


@hypothesis.given(name=NAMES, type_=NAMES, aliases=st.lists(NAMES), metadata=st.dictionaries(NAMES, PLAIN))
@hypothesis.settings(max_examples=50)
def test_wandb_takes_any_name_of_an_artifact(
    name: str, type_: str, aliases: list[str], metadata: dict[str, Any]
) -> None:
    """It raises for most characters, long names, its own types and NaN."""
    import wandb
    from wandb.sdk.artifacts._validators import validate_aliases, validate_artifact_types

    kind = artifact_type(type_)
    made = wandb.Artifact(artifact_name(name, kind), kind, metadata=artifact_metadata(metadata))

    assert made.type == validate_artifact_types(kind)[0]
    assert validate_aliases(artifact_aliases(aliases)) == artifact_aliases(aliases)
    assert 1 <= len(tag_of(name, type_)) <= 64


def test_nothing_raises_and_the_number_beside_arrives(tmp_path: Path) -> None:
    """Any name and any value: the worst is that a word stands for it."""
    sender = sender_in(tmp_path)

    @hypothesis.given(key=NAMES, value=RICH, nested=st.dictionaries(st.text(max_size=20), PLAIN, max_size=4))
    @hypothesis.settings(max_examples=40)
    def deliver_any(key: str, value: Any, nested: dict[str, Any]) -> None:
        seq = sender._number + 1
        record = make_record({key: value, "beside": seq / 2}, {}, seq, take(tmp_path))
        sender.handle(replace(record, seq=seq))
        sender.handle(about(HYPERPARAMETERS, 0, dict(make_record(nested, {}, 0).values)))
        sender.handle(about(TAGS, 0, {key: key[:20]}))
        wait_until(sender.settle, timeout_s=20)

        assert sender.history()["beside"][-1] == (seq, seq / 2)

    deliver_any()
    sender.close()
