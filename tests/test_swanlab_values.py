"""All kinds of values in SwanLab, read back from its own log and files."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml
from awkward import Hostile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.logger import Figure, HParam, Image, Video

from rl_logging import SwanLabOutputFormat
from rl_logging.artifacts import keep_artifact
from rl_logging.formats.swanlab_log import entries
from rl_logging.formats.swanlab_values import to_shown_text
from rl_logging.hyperparams import to_nested
from rl_logging.media import MediaWriter
from rl_logging.record import ARTIFACT, HYPERPARAMETERS, PROVENANCE, TAGS, Record, make_record
from rl_logging.rich import Histogram, Media, Table


def output_in(folder: Path, **arguments: object) -> SwanLabOutputFormat:
    return SwanLabOutputFormat(folder=folder / "swanlog", **{"mode": "offline", **arguments})  # type: ignore


def recorded(folder: Path, step: int = 1, **values: object) -> Record:
    return make_record(
        {key.replace("__", "/"): value for key, value in values.items()}, {}, step, kept(folder)
    )


def kept(folder: Path) -> Any:
    return MediaWriter(folder).keep


def about(kind: str, values: dict[str, Any], seq: int = 0) -> Record:
    return Record(7, 0.0, values, kind=kind, seq=seq)


def artifact(folder: Path, path: Path, type_: str = "dataset", **more: Any) -> Media:
    return keep_artifact(folder, path, path.stem, type_, 7, more.get("metadata", {}), more.get("aliases", ()))


def delivered(folder: Path, *records: Record, **arguments: object) -> SwanLabOutputFormat:
    output = output_in(folder, **arguments)
    for record in records:
        output.handle(record)
    output.close()
    return output


def shown(output: SwanLabOutputFormat) -> dict[tuple[str, int], Path]:
    """The files of what SwanLab shows, by name and step."""
    folder = Path(output.url())
    media = (entry.media for entry in entries(folder) if entry.HasField("media"))
    return {
        (each.key, each.step): next(folder.glob(f"media/*/{each.value.items[0].filename}")) for each in media
    }


def configuration(output: SwanLabOutputFormat) -> dict[str, Any]:
    told = yaml.safe_load(Path(output.url(), "files", "config.yaml").read_text("utf-8"))
    return {name: about["value"] for name, about in told.items()}


def saved(output: SwanLabOutputFormat) -> dict[str, Path]:
    """The files that SwanLab sends, by the names that it gives them."""
    saves = (entry.save for entry in entries(Path(output.url())) if entry.HasField("save"))
    return {save.name: Path(save.source_path) for save in saves if "/" in save.name}


@pytest.fixture
def figure() -> Iterator[Any]:
    drawn, axes = plt.subplots(figsize=(1, 1), dpi=40)
    axes.plot([1, 2])
    yield drawn
    plt.close(drawn)


def test_pictures_have_their_pixels(tmp_path: Path, figure: Any) -> None:
    """SwanLab takes neither channels first nor floats, which it shows black."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    record = recorded(
        tmp_path,
        bytes=Image(pixels, "HWC"),
        floats=Image(pixels.transpose(2, 0, 1) / np.float32(255), "CHW"),
        curve=Figure(figure, close=False),
    )
    output = delivered(tmp_path, record)

    found = {name: imageio.imread(path) for (name, _), path in shown(output).items()}
    assert set(found) == {"bytes (image)", "floats (image)", "curve (figure)"}
    assert np.array_equal(found["bytes (image)"], pixels)
    assert np.abs(found["floats (image)"].astype(int) - pixels).max() <= 1
    assert np.array_equal(found["curve (figure)"], imageio.imread(record.values["curve"].path))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".gif"])
def test_a_picture_that_is_a_file_is_shown(suffix: str, tmp_path: Path) -> None:
    """SwanLab shows a gif as a video only."""
    path = tmp_path / f"given{suffix}"
    imageio.imwrite(path, np.full((8, 8, 3), 200, np.uint8))
    output = delivered(tmp_path, recorded(tmp_path, picture=Image(str(path), "HWC")))

    assert np.abs(imageio.imread(shown(output)["picture (image)", 1]).astype(int) - 200).max() <= 3


def test_a_video_moves(tmp_path: Path) -> None:
    """SwanLab plays gif files only."""
    frames = np.zeros((1, 4, 3, 16, 16), np.uint8)
    for moment in range(4):
        frames[0, moment, :, :, 4 * moment : 4 * moment + 4] = 255
    output = delivered(tmp_path, recorded(tmp_path, 20_000, eval__video=Video(frames, 10)))

    movie = imageio.imread(shown(output)["eval/video (video)", 20_000])[..., :3]
    assert movie.shape == (4, 16, 16, 3)
    assert np.abs(movie.astype(int) - frames[0].transpose(0, 2, 3, 1)).max() < 48
    assert output.contents() == {"video": 1}


def test_histograms_have_their_counts(tmp_path: Path) -> None:
    """What was counted here is shown, be it an array in the record or a file beside it."""
    values = np.random.default_rng(0).normal(size=1000)
    record = recorded(
        tmp_path,
        small=values,
        large=np.repeat(values, 300),
        counted=Histogram(counts=[3, 9, 0.5], edges=[0, 10, 20, 30]),
        nothing=np.array([np.nan, np.inf]),
    )
    output = delivered(tmp_path, record)

    charts = {name: json.loads(path.read_text()) for (name, _), path in shown(output).items()}
    counts = {name.split()[0]: chart["series"][0]["data"] for name, chart in charts.items()}
    small = np.histogram(values, 30)[0]
    assert record.values["large"].kind == "array"
    assert counts == {
        "small": small.tolist(),
        "large": (300 * small).tolist(),
        "counted": [3, 9, 0.5],
        "nothing": [],
    }
    assert charts["counted (histogram)"]["xAxis"][0]["data"] == ["0 … 10", "10 … 20", "20 … 30"]
    assert output.contents() == {"histogram": 4}


def test_tables_have_their_cells(tmp_path: Path) -> None:
    """SwanLab finds cells by their column's name, and JSON has no NaN and no long integers."""
    table = Table(["a", "a", "µ"], [(1, "", None), (float("nan"), 2**60, {"x": [1]})])
    first = recorded(tmp_path, 1, results=table)
    table.add(0.5, True, "late")
    output = delivered(tmp_path, first, recorded(tmp_path, 2, results=table))

    rows = [json.loads(path.read_text())["rowData"] for path in shown(output).values()]
    whole = [
        {"a": 1, "a (2)": "", "µ": None},
        {"a": "nan", "a (2)": str(2**60), "µ": '{"x": [1]}'},
        {"a": 0.5, "a (2)": True, "µ": "late"},
    ]
    assert rows == [whole[:2], whole]
    assert output.contents() == {"table": 2}


def test_one_key_may_hold_every_kind(tmp_path: Path) -> None:
    """A key of SwanLab cannot change its type, and drops without a word what is of another."""
    kinds = ["a text", 0.5, Image(np.zeros((4, 4, 3), np.uint8), "HWC"), np.arange(9.0), Table(["x"]), 1.5]
    records = [recorded(tmp_path, step, key=value) for step, value in enumerate(kinds)]
    records.append(make_record({"key (text)": 2.5, "messages": 3.5}, {}, 9))
    output = delivered(tmp_path, *records)

    originals = output.renamed()
    assert {originals.get(key, key): points for key, points in output.history().items()} == {
        "key": [(1, 0.5), (5, 1.5)],
        "key (text)": [(9, 2.5)],
        "messages": [(9, 3.5)],
    }
    assert output.contents() == {"text": 1, "image": 1, "histogram": 1, "table": 1}
    assert output.contents() == output.expected_contents(records)


def test_a_step_holds_one_value_of_a_name(tmp_path: Path) -> None:
    """What SwanLab would drop without a word is counted, and not expected."""
    records = [
        recorded(tmp_path, step, note=note, values=np.arange(note))
        for step, note in ((1, 8), (1, 9), (-1, 10), (2, 11))
    ]
    records = [replace(each, values={**each.values, "note": str(each.values["note"])}) for each in records]
    output = delivered(tmp_path, *records)

    assert output.refused == {"note": 2, "values": 2}
    assert output.contents() == output.expected_contents(records) == {"text": 2, "histogram": 2}


def test_what_cannot_be_shown_is_there_as_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two channels are no picture; the numbers are still somebody's data."""
    strange = np.random.default_rng(0).random((4, 4, 2))
    records = [recorded(tmp_path, step, loss=0.5, odd=Image(strange, "HWC")) for step in (1, 2)]
    output = delivered(tmp_path, *records)

    text = shown(output)["odd (image file)", 2].read_text()
    assert text == "<image 4x4x2>: media/odd/step_2.npy"
    assert np.array_equal(np.load(saved(output)["media/odd/step_2.npy"]), strange)
    assert output.history() == {"loss": [(1, 0.5), (2, 0.5)]}
    assert output.contents() == output.expected_contents(records) == {"image": 2}
    assert caplog.text.count("odd (image) is there as a file") == 1


def test_what_is_too_large_is_there_as_a_file(tmp_path: Path) -> None:
    """SwanLab leaves out what has more than 10 MiB, without a word to the program."""
    noise = np.random.default_rng(0).integers(0, 256, (1900, 1900, 3), np.uint8)
    output = delivered(
        tmp_path, recorded(tmp_path, loss=0.5, noise=Image(noise, "HWC"), text="é" * 6_000_000)
    )

    kept_pixels = imageio.imread(saved(output)["media/noise/step_1.png"])
    texts = {name: path.read_text("utf-8") for (name, _), path in shown(output).items()}
    assert np.array_equal(kept_pixels, noise)
    assert texts["noise (image file)"] == "<image 1900x1900x3>: media/noise/step_1.png"
    assert len(texts["text (text)"].encode()) <= 10 << 20
    assert set("é…") == set(texts["text (text)"])


def test_a_lost_file_leaves_its_word(tmp_path: Path) -> None:
    """Whoever tidies up the run folder must not stop what is still to be delivered."""
    record = recorded(
        tmp_path,
        loss=0.5,
        video=Video(np.zeros((1, 2, 3, 16, 16), np.uint8), 5),
        large=np.zeros(200_000),
        table=Table(["a"]),
        torn=Image(np.zeros((4, 4), np.uint8), "HW"),
        odd=Media("image", "<odd>", "../secret.png", folder=tmp_path),
    )
    for file in (path for path in (tmp_path / "media").rglob("*") if path.is_file()):
        file.unlink()
    record.values["torn"].path.write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    output = delivered(tmp_path, record)

    assert output.history() == {"loss": [(1, 0.5)]}
    assert {name: path.read_text() for (name, _), path in shown(output).items()} == {
        "video (video file)": "<video 2 frames>",
        "large (histogram file)": "<array 200000 float64>",
        "table (table file)": "<table 1 columns 0 rows>",
        "torn (image file)": "<image 4x4>: media/torn/step_1.png",
        "odd (image file)": "<odd>",
    }


def test_hyperparameters_stay_nested(tmp_path: Path) -> None:
    """What came before under other names stays, and no value is lost to JSON or to names of ours."""
    records = [
        about(HYPERPARAMETERS, {"ppo": {"lr": 0.1, "clip": {"vf": None}}, "tags": ["a"], "empty": {}}),
        about(HYPERPARAMETERS, {"ppo": {"lr": float("-inf"), "n": 10**30}, "1": "x"}),
        recorded(tmp_path, hp=HParam({"gamma": 0.99, "seed": 3}, {"eval/return": 0.0}), loss=0.5),
    ]
    output = delivered(tmp_path, *records)

    assert configuration(output) == {
        "ppo": {"lr": "-inf", "n": str(10**30), "clip": {"vf": None}},
        "tags_": ["a"],
        "empty": {},
        "1": "x",
        "gamma": 0.99,
        "seed": 3,
        "hparam_metrics": {"eval/return": 0.0},
    }
    assert output.contents() == output.expected_contents(records) == {"hyperparameter": 8}
    assert output.history() == {"loss": [(1, 0.5)]}


def test_a_group_may_take_a_values_place(tmp_path: Path) -> None:
    """A configuration that changed its shape must not be reported as lost."""
    records = [about(HYPERPARAMETERS, {"a": 1}), about(HYPERPARAMETERS, {"a": {"b": 1, "c": 2}})]
    output = delivered(tmp_path, *records)

    assert configuration(output) == {"a": {"b": 1, "c": 2}}
    assert output.contents() == output.expected_contents(records) == {"hyperparameter": 2}


def test_tags_are_in_the_configuration(tmp_path: Path) -> None:
    """SwanLab's own tags can be given at the start only."""
    records = [about(TAGS, {"env": "Hopper", "who": "me"}), about(TAGS, {"who": "you"})]
    output = delivered(tmp_path, *records)

    assert configuration(output) == {"tags": {"env": "Hopper", "who": "you"}}
    assert output.contents() == output.expected_contents(records) == {"tag": 2}


@pytest.mark.parametrize("folder", ["run", "run [seed=1] *"])
def test_artifacts_are_copied(folder: str, tmp_path: Path) -> None:
    """SwanLab links to a file, which the user may delete, and takes names for patterns."""
    run = tmp_path / folder
    data = tmp_path / "data 1"
    (data / "in [1]").mkdir(parents=True)
    (data / "in [1]" / ".hidden").write_bytes(b"\x00hidden")
    (tmp_path / "policy.zip").write_bytes(b"weights")
    policy = artifact(run, tmp_path / "policy.zip", "model", metadata={"load_by": "PPO"}, aliases=["best"])
    records = [
        about(ARTIFACT, {"my/policy": policy}, seq=4),
        about(ARTIFACT, {"d": artifact(run, data)}, seq=5),
    ]
    output = delivered(run, *records)
    for path in sorted((run / "artifacts").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()

    found = {name.rpartition("artifacts/")[2]: path.read_bytes() for name, path in saved(output).items()}
    assert found == {
        "policy/step_7/policy.zip": b"weights",
        "data_1/step_7/data_1/in [1]/.hidden": b"\x00hidden",
    }
    assert not any(path.is_symlink() for path in saved(output).values())
    card = shown(output)["my/policy (model)", 4].read_text()
    assert card.splitlines() == [
        "name: my/policy",
        "type: model",
        "file: artifacts/policy/step_7/policy.zip",
        "size: 7 bytes",
        f"sha256: {policy.about['sha256']}",
        "aliases: best",
        'metadata: {"load_by": "PPO"}',
    ]
    assert output.contents() == output.expected_contents(records) == {"artifact": 1, "model": 1}


def test_a_missing_artifact_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A text that promises a file which nobody has would be worse than none."""
    (tmp_path / "data.csv").write_text("1")
    lost, there = artifact(tmp_path, tmp_path / "data.csv"), artifact(tmp_path, tmp_path / "data.csv")
    assert lost.path is not None
    lost.path.unlink()
    output = delivered(tmp_path, about(ARTIFACT, {"lost": lost}), about(ARTIFACT, {"there": there}))

    assert output.refused == {"lost": 1}
    assert "leaves out 'lost' at step 7: its file is gone" in caplog.text
    assert output.contents() == {"artifact": 1}


def test_provenance_is_in_the_configuration_and_its_files_are_kept(tmp_path: Path) -> None:
    """Runs are compared by their configuration; what belongs to an earlier process must not stay in it."""
    (tmp_path / "provenance").mkdir()
    (tmp_path / "provenance" / "uncommitted.diff").write_text("+ changed")
    diff = Media("artifact", "<diff>", "provenance/uncommitted.diff", {}, tmp_path)
    gone = Media("artifact", "<diff>", "provenance/main.diff", {}, tmp_path)
    told: dict[str, Any] = {"command": "python a.py", "git": {"commit": "abc", "is_dirty": True}}
    output = delivered(
        tmp_path,
        about(PROVENANCE, {"provenance": told, "uncommitted": diff, "main": gone}, seq=1),
        about(PROVENANCE, {"provenance": {"command": "python b.py"}}, seq=9),
    )

    assert configuration(output) == {"provenance": {"command": "python b.py"}}
    assert saved(output)["provenance/uncommitted.diff"].read_text() == "+ changed"
    texts = {place: json.loads(path.read_text()) for place, path in shown(output).items()}
    assert texts["provenance", 1] == {"provenance": told, "files": ["provenance/uncommitted.diff"]}
    assert texts["provenance", 9]["provenance"] == {"command": "python b.py"}
    assert output.refused == {"main": 1}
    assert output.contents() == {}


def everything(folder: Path) -> list[Record]:
    (folder / "model.zip").write_bytes(b"weights")
    values = {
        "loss": 0.5,
        "note": "text",
        "image": Image(np.zeros((4, 4, 3), np.uint8), "HWC"),
        "video": Video(np.zeros((1, 2, 3, 16, 16), np.uint8), 5),
        "values": np.arange(9.0),
        "table": Table(["a"], [(1,)]),
        "odd": Image(np.zeros((4, 4, 2)), "HWC"),
    }
    records = [make_record(values, {}, step, kept(folder)) for step in (1, 2)]
    records += [
        about(HYPERPARAMETERS, {"lr": 0.1}),
        about(TAGS, {"env": "Hopper"}),
        about(ARTIFACT, {"model": artifact(folder, folder / "model.zip", "model")}),
        about(PROVENANCE, {"provenance": {"command": "python a.py"}}),
    ]
    return [replace(record, seq=seq) for seq, record in enumerate(records, 1)]


def test_a_second_delivery_shows_nothing_twice(tmp_path: Path) -> None:
    """After a crash all is delivered again; SwanLab's own tool would send what the first session has."""
    records = everything(tmp_path)
    first = delivered(tmp_path, *records)
    again = output_in(tmp_path)
    kept_there = again.resume(first.reference())
    for record in records:
        again.handle(record)
    again.close()

    assert not kept_there
    assert again.contents() == again.expected_contents(records)
    assert len(list((tmp_path / "swanlog").glob("run-*"))) == 1
    assert sorted(shown(again)) == sorted(
        [
            *((f"{key} ({kind})", step) for step in (1, 2) for key, kind in KINDS_BY_KEY.items()),
            ("model (model)", 5),
            ("provenance", 6),
        ]
    )


KINDS_BY_KEY = {
    "note": "text",
    "image": "image",
    "video": "video",
    "values": "histogram",
    "table": "table",
    "odd": "image file",
}


def test_nothing_of_it_is_safe_before_the_end(tmp_path: Path) -> None:
    """SwanLab keeps the last of its log in memory; a courier may not tick off what is only there."""
    settled = []
    for number, record in enumerate(everything(tmp_path)[1:]):
        output = output_in(tmp_path / str(number))
        output.handle(record)
        settled.append(output.settle())
        output.close()
        settled.append(output.settle())

    assert settled == [False, True] * 5


def test_a_disabled_run_takes_everything(tmp_path: Path) -> None:
    """Who switches SwanLab off wants no files either."""
    records = everything(tmp_path)
    delivered(tmp_path, *records, mode="disabled")

    assert not list(tmp_path.rglob("swanlog/**/*.zip"))


def test_local_mode_keeps_it_all(tmp_path: Path) -> None:
    """Local mode is what SwanLab's own page shows."""
    records = everything(tmp_path)
    output = delivered(tmp_path, *records, mode="local")

    assert output.contents() == output.expected_contents(records)


def test_an_ordinary_text_is_whole() -> None:
    """Only what SwanLab would drop is cut."""
    assert to_shown_text("é" * 1000).content == "é" * 1000


NAMES = st.one_of(
    st.text(max_size=20),
    st.text("a./ ", max_size=3),
    st.sampled_from(["key", "key (text)", "messages", "provenance", "tags", "x" * 600, "__swanlab__"]),
)
NESTED = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)
VALUES = st.one_of(
    NESTED,
    st.lists(st.floats(), min_size=2, max_size=5).map(np.array),
    st.sampled_from([(1,), (4, 4), (4, 4, 3), (0, 4, 3)]).map(lambda s: Image(np.zeros(s), "HWC")),
    st.sampled_from([(1, 2, 3, 8, 8), (2, 2), (1, 0, 3, 8, 8)]).map(lambda s: Video(np.zeros(s), 3)),
    st.lists(st.lists(NESTED, min_size=2, max_size=2), max_size=3).map(lambda r: Table(["a", "a"], r)),
    st.dictionaries(NAMES, NESTED, max_size=3).map(lambda hparams: HParam(hparams, {"m": 1.0})),
    st.builds(Hostile),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    rows=st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=3),
    params=st.dictionaries(NAMES, NESTED, max_size=3),
    tags=st.dictionaries(NAMES, NAMES, max_size=2),
)
def test_whatever_is_given_arrives(
    rows: list[dict[str, Any]],
    params: dict[str, Any],
    tags: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Nothing raises, the numbers beside a bad value arrive, and what stands is what is expected."""
    folder = tmp_path_factory.mktemp("run")
    records = [
        make_record({**row, "beside it": step}, {}, step, kept(folder)) for step, row in enumerate(rows)
    ]
    records += [about(HYPERPARAMETERS, to_nested(params)), about(TAGS, tags)]
    output = delivered(folder, *records)

    assert output.history().get("beside it", []) == [(step, float(step)) for step in range(len(rows))]
    assert repr(output.history()) == repr(output.expected(records))
    assert output.contents() == output.expected_contents(records)
