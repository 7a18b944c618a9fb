"""``log_batch`` and ``log_lines``: files of a run that never lead out of it, nor stop training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rl_logging import Logger, configure
from rl_logging.compat.nemo_rl import Logger as NemoLogger


def rows(path: Path) -> list[Any]:
    """The lines of a file, each read by itself."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def logger(tmp_path: Path):
    with configure(tmp_path / "run", []) as logger:
        yield logger


def test_a_batch_is_an_object_a_row(logger: Logger, tmp_path: Path) -> None:
    """Columns of any kind; the same name again takes the place of the file."""
    logger.log_batch({"old": [1, 2, 3]}, "rollouts/step_3.jsonl")
    path = logger.log_batch(
        {"prompt": ["1+1", "2+2"], "reward": torch.tensor([1.0, 0.0]), "ids": np.arange(4).reshape(2, 2)},
        "rollouts/step_3.jsonl",
    )

    assert path == tmp_path / "run" / "rollouts" / "step_3.jsonl"
    assert rows(path) == [
        {"prompt": "1+1", "reward": 1.0, "ids": [0, 1], "idx": 0},
        {"prompt": "2+2", "reward": 0.0, "ids": [2, 3], "idx": 1},
    ]


def test_lines_are_appended(logger: Logger) -> None:
    """What is no JSON becomes a text of JSON, so that each line can be read."""
    logger.log_lines(['{"a": 1}'], "lines.jsonl")
    path = logger.log_lines((text for text in ["four words", "[2,\n3]"]), "lines.jsonl")

    assert path is not None
    assert rows(path) == [{"a": 1}, "four words", [2, 3]]


@pytest.mark.parametrize(
    "name", ["../x.jsonl", "/tmp/x.jsonl", "a/../../x", "journal.jsonl", "cursors/x", ""]
)
@pytest.mark.parametrize("method", ["log_batch", "log_lines"])
def test_a_name_that_leads_elsewhere_is_refused(
    logger: Logger, method: str, name: str, tmp_path: Path
) -> None:
    """Nothing of it is written, anywhere."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"not in the log folder|run's own files|no file's name"):
        getattr(logger, method)({"a": [1]} if method == "log_batch" else ["a"], name)

    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "columns", [{"a": [1], "b": [1, 2]}, {"a": 5}, None, {"a": torch.tensor(1.0)}], ids=str
)
def test_a_batch_that_is_none_is_said(logger: Logger, columns: Any, caplog: pytest.LogCaptureFixture) -> None:
    """In the middle of a training, it must not end it."""
    assert logger.log_batch(columns, "bad.jsonl") is None
    assert "log_batch: 'bad.jsonl' is not logged" in caplog.text


def test_secrets_are_hidden(logger: Logger, caplog: pytest.LogCaptureFixture) -> None:
    """A prompt may hold a key."""
    secret = "sk-" + "proj4bcdEFGH" * 4
    path = logger.log_batch({"prompt": [f"use {secret}"], "api_key": ["hush hush"]}, "rows.jsonl")
    lines = logger.log_lines([f"use {secret}", json.dumps({"password": "hush hush"})], "lines.jsonl")

    assert path is not None
    assert lines is not None
    assert secret not in path.read_text() + lines.read_text()
    assert "hush" not in path.read_text() + lines.read_text()
    assert "secrets in batches are replaced" in caplog.text


def test_after_close_nothing_is_written(tmp_path: Path) -> None:
    """And nothing raises, whatever the name."""
    logger = configure(tmp_path / "run", [])
    logger.close()

    assert logger.log_batch({"a": [1]}, "late.jsonl") is None
    assert not (tmp_path / "run" / "late.jsonl").exists()


def test_nemo_rls_methods_write_the_same(tmp_path: Path) -> None:
    """Its readers find ``idx``, and texts as they were."""
    with NemoLogger({"log_dir": str(tmp_path / "logs")}) as logger:
        logger.log_batched_dict_as_jsonl({"content": ["a", "b"], "rewards": [1.0, 0.5]}, "batch.jsonl")
        logger.log_string_list_as_jsonl(['{"x": 1}', '{"x": 2}'], "lines.jsonl")
        with pytest.raises(ValueError, match="not in the log folder"):
            logger.log_batched_dict_as_jsonl({"a": [1]}, "../x.jsonl")

    assert rows(tmp_path / "logs" / "batch.jsonl") == [
        {"content": "a", "rewards": 1.0, "idx": 0},
        {"content": "b", "rewards": 0.5, "idx": 1},
    ]
    assert (tmp_path / "logs" / "lines.jsonl").read_text() == '{"x": 1}\n{"x": 2}\n'


@pytest.mark.parametrize("name", ["tensorboard/x", "own/events/x", "swanlab/x", "wandb/x"])
def test_the_trackers_own_files_are_safe(name: str, tmp_path: Path) -> None:
    """Also where a tracker's folder has another name than usual."""
    config = {
        "log_dir": str(tmp_path / "logs"),
        "tensorboard_enabled": True,
        "tensorboard": {"log_dir": "own"},
    }
    with NemoLogger(config) as logger, pytest.raises(ValueError, match="run's own files"):
        logger.log_batched_dict_as_jsonl({"a": [1]}, name)


def test_a_name_that_no_file_can_have_is_a_value_error(logger: Logger) -> None:
    """The system's own error would not say what is wrong."""
    with pytest.raises(ValueError, match="is no file's name: File name too long"):
        logger.log_lines(["a"], "x" * 300)
    with pytest.raises(TypeError):
        logger.log_lines(["a"], None)  # type: ignore[arg-type]
