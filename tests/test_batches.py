"""Batches as JSON Lines: every value comes back, every file is whole, none leaves the folder."""

import json
import math
import os
import re
import tracemalloc
from collections import UserDict, deque
from pathlib import Path

import numpy as np
import pytest
import torch
from awkward import FalseClass, Hostile, HostileText
from hypothesis import given
from hypothesis import strategies as st

from rl_logging import configure
from rl_logging.batches import append_lines, check_place, write_rows
from rl_logging.redaction import Redaction

NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.booleans()
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
CELLS = st.recursive(
    NUMBERS | TEXTS | st.none(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner)
)

WRITER = """
import itertools, sys
from pathlib import Path
from rl_logging import configure
from rl_logging.batches import write_rows
folder = Path(sys.argv[1])
for attempt in itertools.count():
    write_rows(folder, {"attempt": [attempt] * 300, "text": ["x" * 50] * 300}, "batch.jsonl")
    print(attempt, flush=True)
"""


def rows(path: Path) -> list:
    """What Python's own reader finds."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@given(st.lists(st.tuples(CELLS, CELLS), max_size=5))
def test_rows_come_back(tmp_path_factory, batch):
    """A batch is kept to be looked at later: what was in it must be in the file."""
    folder = tmp_path_factory.mktemp("folder")
    first, second = [row[0] for row in batch], [row[1] for row in batch]

    path = write_rows(folder, {"first": first, "second": second}, "batch.jsonl")

    assert rows(path) == [{"first": f, "second": s, "idx": i} for i, (f, s) in enumerate(batch)]


@pytest.mark.parametrize(
    "column",
    [
        [0.5, 1.0, -2.0],
        (0.5, 1.0, -2.0),
        deque([0.5, 1.0, -2.0]),
        iter([0.5, 1.0, -2.0]),
        np.array([0.5, 1.0, -2.0]),
        np.array([0.5, 1.0, -2.0], np.float16),
        np.array([0.5, 1.0, -2.0], np.longdouble),
        np.array([0.5, 1.0, -2.0], object),
        list(np.array([0.5, 1.0, -2.0], np.float32)),
        torch.tensor([0.5, 1.0, -2.0], requires_grad=True),
        torch.tensor([0.5, 1.0, -2.0], dtype=torch.bfloat16),
        list(torch.tensor([0.5, 1.0, -2.0], dtype=torch.bfloat16, requires_grad=True)),
        torch.tensor([0.5, 9.0, 1.0, 9.0, -2.0])[::2],
        torch.sparse_coo_tensor([[0, 1, 2]], [0.5, 1.0, -2.0], (3,), check_invariants=True),
    ],
    ids=range(14),
)
def test_column_is_of_any_kind(tmp_path, column):
    """Each library has its own arrays; a batch has several of them."""
    path = write_rows(tmp_path, {"reward": column}, "batch.jsonl")

    assert [row["reward"] for row in rows(path)] == [0.5, 1.0, -2.0]


def test_row_keeps_its_shape(tmp_path):
    """A row of one token is a list with one token, or else readers meet two types."""
    batch = {
        "ids": torch.tensor([[7], [8]]),
        "ragged": [torch.tensor([1]), np.array([[2, 3]])],
        "empty": np.zeros((2, 0)),
        "wide": np.arange(8, dtype=np.uint8).reshape(2, 2, 2),
    }

    path = write_rows(tmp_path, batch, "batch.jsonl")

    assert rows(path) == [
        {"ids": [7], "ragged": [1], "empty": [], "wide": [[0, 1], [2, 3]], "idx": 0},
        {"ids": [8], "ragged": [[2, 3]], "empty": [], "wide": [[4, 5], [6, 7]], "idx": 1},
    ]


def test_large_arrays_are_whole(tmp_path):
    """They are read in chunks: no row twice, none left out, at every edge."""
    ids = torch.arange(70_000 * 3).reshape(70_000, 3)

    path = write_rows(tmp_path, {"ids": ids, "n": np.arange(70_000)}, "batch.jsonl")

    read = rows(path)
    assert [row["ids"] for row in read] == ids.tolist()
    assert [row["n"] for row in read] == [row["idx"] for row in read] == list(range(70_000))


def test_records_of_numpy_are_rows(tmp_path):
    """Replay buffers are structured arrays."""
    records = np.array([(1, 2.5), (3, 4.5)], [("action", "i4"), ("reward", "f4")])

    assert [row["step"] for row in rows(write_rows(tmp_path, {"step": records}, "batch.jsonl"))] == [
        [1, 2.5],
        [3, 4.5],
    ]


def test_mapping_of_another_library_is_a_batch(tmp_path):
    """NeMo-RL's BatchedDataDict is a UserDict."""
    path = write_rows(tmp_path, UserDict(reward=[1.0], text=["a"]), "batch.jsonl")

    assert rows(path) == [{"reward": 1.0, "text": "a", "idx": 0}]


def test_numbers_are_exact(tmp_path):
    """Seeds and hashes have 64 bits, which a float does not hold; NaN is a result too."""
    batch = {"id": np.array([2**63 - 1, -(2**63)]), "hash": [2**64 - 1, 10**30], "x": [math.nan, -math.inf]}

    first, second = rows(write_rows(tmp_path, batch, "batch.jsonl"))

    assert (first["id"], first["hash"]) == (2**63 - 1, 2**64 - 1)
    assert (second["id"], second["hash"], second["x"]) == (-(2**63), 10**30, -math.inf)
    assert math.isnan(first["x"])


def test_any_text_is_one_line(tmp_path):
    """Model outputs hold all that ends a line for some reader, and halves of characters."""
    texts = ["a\nb\r\n", "\u2028\x85\x0b", "漢字🎉", "\x1b[31m", "half \ud83d"]

    path = write_rows(tmp_path, {"text": texts}, "batch.jsonl")

    assert path.read_bytes().isascii()
    assert len(path.read_text().splitlines()) == 5
    assert [row["text"] for row in rows(path)] == [*texts[:4], "half \\ud83d"]


def test_any_object_is_written(tmp_path):
    """One odd value must not lose the batch."""
    itself: list = [1]
    itself.append(itself)
    odd = [
        Hostile(),
        FalseClass(),
        HostileText("text"),
        itself,
        1 + 2j,
        np.datetime64("2024-05-01"),
        Path("a/b"),
    ]

    read = [row["odd"] for row in rows(write_rows(tmp_path, {"odd": odd}, "batch.jsonl"))]

    assert read[0] == "<Hostile whose text failed: RuntimeError>"
    assert read[2:] == ["text", [1, "[1, [...]]"], "(1+2j)", "2024-05-01", "a/b"]


def test_keys_are_texts_and_none_is_lost(tmp_path):
    """1 and "1" are two keys, and a column may have the name of the row's number."""
    batch = {1: ["a"], "1": ["b"], "idx": [77], "meta": [{2: "c", "2": "d"}]}

    path = write_rows(tmp_path, batch, "batch.jsonl")

    assert rows(path) == [{"1": "a", "1_": "b", "idx_": 77, "meta": {"2": "c", "2_": "d"}, "idx": 0}]


@pytest.mark.parametrize("batch", [{}, {"a": []}, {"a": np.zeros((0, 3)), "b": torch.zeros(0)}], ids=range(3))
def test_empty_batch_is_an_empty_file(tmp_path, batch):
    """A step without samples is no error."""
    assert write_rows(tmp_path, batch, "batch.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"a": [1], "b": [1, 2]}, "of one length, not 'a' 1, 'b' 2"),
        ({"a": [1], "b": iter([1, 2])}, "'a' end after 1 rows, others go on"),
        ({"a": torch.tensor(1.0)}, "'a' is a single number, no column; give a list"),
        ({"a": np.array(1)}, "'a' is a single number, no column"),
        ({"a": 3}, "'a' is of the type int, no column"),
        ({"a": "text"}, "'a' is of the type str, no column"),
        ({"a": {"b": [1]}}, "'a' is of the type dict, no column"),
        ({"a": None}, "'a' is of the type NoneType, no column"),
    ],
    ids=range(8),
)
def test_what_is_no_batch_is_refused(tmp_path, batch, message):
    """Rows that do not belong together would be worse than none."""
    (tmp_path / "batch.jsonl").write_text("old")

    with pytest.raises(ValueError, match=message):
        write_rows(tmp_path, batch, "batch.jsonl")

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("batch.jsonl", "old")]


def test_what_is_no_mapping_is_refused(tmp_path):
    """A list of rows is a likely slip."""
    with pytest.raises(TypeError, match="a batch is a mapping of columns by name, not list"):
        write_rows(tmp_path, [{"a": 1}], "batch.jsonl")  # type: ignore[arg-type]


def test_file_is_replaced(tmp_path):
    """The same step logged again after a resumed run is one batch, not two."""
    write_rows(tmp_path, {"a": [1, 2, 3]}, "val/batch.jsonl")
    path = write_rows(tmp_path, {"a": [4]}, "val/batch.jsonl")

    assert path == tmp_path / "val/batch.jsonl"
    assert rows(path) == [{"a": 4, "idx": 0}]
    assert [file.name for file in path.parent.iterdir()] == ["batch.jsonl"]


def test_failing_column_leaves_the_old_file(tmp_path):
    """Half a batch looks like a whole one."""
    path = write_rows(tmp_path, {"a": [1]}, "batch.jsonl")

    with pytest.raises(ZeroDivisionError):
        write_rows(tmp_path, {"a": (1 / (3 - n) for n in range(5))}, "batch.jsonl")

    assert rows(path) == [{"a": 1, "idx": 0}]
    assert list(tmp_path.iterdir()) == [path]


def test_kill_leaves_a_whole_file(tmp_path, killed_child):
    """A run that is preempted while it writes keeps the batch before."""
    done = killed_child(WRITER, tmp_path)

    found = {row["attempt"] for row in rows(tmp_path / "batch.jsonl")}
    assert len(rows(tmp_path / "batch.jsonl")) == 300
    assert found <= {int(done[-1]), int(done[-1]) + 1}
    assert len(found) == 1


def test_full_disk_leaves_the_old_file(small_disk):
    """And no draft, which would keep the disk full."""
    path = write_rows(small_disk, {"a": [1]}, "batch.jsonl")

    with pytest.raises(OSError, match="No space left"):
        write_rows(small_disk, {"a": ["x" * 1000] * 1000}, "batch.jsonl")

    assert rows(path) == [{"a": 1, "idx": 0}]
    assert list(small_disk.iterdir()) == [path]


def test_secrets_are_hidden(tmp_path):
    """A prompt may hold a key; and its name may come after it."""
    secrets = Redaction()
    key = "q8w7e8qw7e8qw7eqwe55"
    batch = {"prompt": [f"use {key}"], "env": [{"api_key": key}], "tokens": [[1, 2]], "reward": [1.0]}

    path = write_rows(tmp_path, batch, "batch.jsonl", hide=secrets.nested)
    append_lines(
        tmp_path, [f"use {key}", json.dumps({"api_key": key}), '{"n": 1.50}'], "lines.jsonl", secrets.nested
    )

    hidden = {
        "prompt": "use <hidden>",
        "env": {"api_key": "<hidden>"},
        "tokens": [1, 2],
        "reward": 1.0,
        "idx": 0,
    }
    assert rows(path) == [hidden]
    assert rows(tmp_path / "lines.jsonl") == ["use <hidden>", {"api_key": "<hidden>"}, {"n": 1.5}]


def test_memory_is_flat(tmp_path):
    """Batches of a large run are larger than what is free beside the model."""
    ids = np.zeros((6_000, 100), np.int64)
    tracemalloc.start()
    write_rows(tmp_path, {"ids": ids, "text": ("x" * 4000 for _ in range(len(ids)))}, "batch.jsonl")
    append_lines(tmp_path, ("y" * 4000 for _ in range(6_000)), "lines.jsonl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (tmp_path / "batch.jsonl").stat().st_size + (tmp_path / "lines.jsonl").stat().st_size > 45_000_000
    assert peak < 8_000_000


@given(st.lists(st.text(), max_size=6))
def test_every_line_is_json(tmp_path_factory, texts):
    """A reader need not know which texts were JSON before."""
    folder = tmp_path_factory.mktemp("folder")

    path = append_lines(folder, texts, "lines.jsonl")

    assert len(rows(path)) == len(path.read_text().splitlines()) == len(texts)


@given(st.lists(CELLS, max_size=6), st.sampled_from([None, 2]))
def test_json_stays_as_it_is(tmp_path_factory, values, indent):
    """A text that is JSON is a row, not a text about one."""
    folder = tmp_path_factory.mktemp("folder")
    texts = [json.dumps(value, indent=indent, ensure_ascii=False) for value in values]

    path = append_lines(folder, texts, "lines.jsonl")

    assert rows(path) == values
    assert len(path.read_text().splitlines()) == len(texts)


def test_lines_are_appended(tmp_path):
    """Each step adds its own; a line that a kill left unfinished is cut off first."""
    append_lines(tmp_path, ['{"step": 1}'], "val/lines.jsonl")
    with (tmp_path / "val/lines.jsonl").open("a") as file:
        file.write('{"step": ')
    path = append_lines(tmp_path, ["{'step': 2}", ""], "val/lines.jsonl")

    assert path.read_text() == '{"step": 1}\n"{\'step\': 2}"\n""\n'


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "this is one text"),
        (["a", None], "a text, not NoneType"),
        (["a", {"b": 1}], "a text, not dict"),
    ],
)
def test_what_are_no_texts_is_refused(tmp_path, texts, message):
    """A text for a list of texts would be a line for each letter."""
    append_lines(tmp_path, ["old"], "lines.jsonl")

    with pytest.raises(TypeError, match=message):
        append_lines(tmp_path, texts, "lines.jsonl")

    assert rows(tmp_path / "lines.jsonl") == ["old"]


def test_lines_are_all_there_or_none(small_disk):
    """Of many pieces, the first ones fit on a disk that becomes full."""
    path = append_lines(small_disk, ["old"], "lines.jsonl")

    with pytest.raises(OSError, match="No space left"):
        append_lines(small_disk, ("x" * 1000 for _ in range(3000)), "lines.jsonl")

    assert rows(path) == ["old"]


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "/etc/x",
        "",
        ".",
        "./",
        "a/",
        "..",
        "a/..",
        "a\0b",
        "folder",
        "out/x",
        "out",
        "link",
    ],
)
def test_name_that_is_none_in_the_folder_is_refused(tmp_path, name):
    """Names come from configurations; a batch must not end up in the home folder."""
    run = tmp_path / "run"
    (run / "folder").mkdir(parents=True)
    (run / "out").symlink_to(tmp_path)
    (run / "link").symlink_to(tmp_path / "secret")

    with pytest.raises(ValueError, match=r"name|log folder|no file"):
        check_place(run, name)
    with pytest.raises(ValueError, match=r"name|log folder|no file"):
        append_lines(run, ["x"], name)

    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "link", "out", "run"]


@pytest.mark.parametrize(
    "name",
    [
        "journal.jsonl",
        "./journal.jsonl",
        "Journal.JSONL",
        "media/x/y.jsonl",
        "tb",
        "cursors/x",
        "samples/val.jsonl",
        "hyperparams.yaml",
        "here/x",
    ],
)
def test_own_files_of_a_run_are_refused(tmp_path, name):
    """One batch under the journal's name would be the end of the run's numbers."""
    (tmp_path / "media").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "media")

    with pytest.raises(ValueError, match="the run's own files"):
        check_place(tmp_path, name)


def test_run_folder_holds_no_name_that_is_free(tmp_path):
    """What a run leaves on the disk is known here, also what is added later."""
    with configure(tmp_path / "run", ["log", "csv", "json", "tensorboard"], provenance=True) as logger:
        logger.log_hyperparams({"a": 1})
        logger.log_histogram("h", np.zeros(1_000_000))
        logger.log_artifact(__file__)
        logger.log_metrics({"a": 1}, 1)
    home = (Path(__file__).parents[1] / "wiki/Home.md").read_text()
    listed = home.partition("\nruns/ppo_001/\n")[2].partition("```")[0]
    names = {
        name.rstrip("/") for line in listed.splitlines() for name in re.findall(r"(?:^|  )([\w./]+)", line)
    }

    free = []
    for name in {path.name for path in (tmp_path / "run").iterdir()} | {n for n in names if "." in n}:
        try:
            free.append(check_place(tmp_path, name).name)
        except ValueError:
            continue
    assert free == []
    assert {"journal.jsonl", "train.log", "courier.log"} < names


@pytest.mark.parametrize(
    "name", ["step_3.jsonl", "val/step_3.jsonl", "./a.jsonl", "漢字 1.jsonl", "..a", "val/media"]
)
def test_other_names_are_free(tmp_path, name):
    """NeMo-RL's own names among them."""
    assert check_place(tmp_path, name) == tmp_path / name
    assert check_place(tmp_path, Path(name)) == tmp_path / name


def test_folder_may_be_a_relative_one(tmp_path, monkeypatch):
    """As NeMo-RL's log_dir is by default."""
    monkeypatch.chdir(tmp_path)

    assert write_rows(Path("logs"), {"a": [1]}, "b.jsonl") == Path("logs/b.jsonl")
    assert os.listdir("logs") == ["b.jsonl"]
