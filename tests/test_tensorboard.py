"""TensorBoard, read back by its own reader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common import logger as sb3

from rl_logging import Figure, HParam, Image, Logger, TensorBoardOutputFormat
from rl_logging.formats.tensorboard import TensorBoardSender
from rl_logging.record import make_record


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def dump(folder: Path, values: dict[str, Any]) -> Any:
    """Dump the values once; return what TensorBoard's reader finds."""
    with Logger(None, [TensorBoardOutputFormat(folder)]) as logger:
        for key, value in values.items():
            logger.record(key, value)
        logger.dump(1)
    return events(folder)


def test_is_sb3s_class_with_its_writer(tmp_path: Path) -> None:
    """SB3 documents this way to reach the writer; its users' code must go on working."""
    with Logger(None, [TensorBoardOutputFormat(str(tmp_path))]) as logger:
        found = next(f for f in logger.output_formats if isinstance(f, sb3.TensorBoardOutputFormat))
        found.writer.add_text("direct", "by the user", 7)

    assert events(tmp_path).Tags()["tensors"] == ["direct/text_summary"]


def test_a_dump_is_one_event(tmp_path: Path) -> None:
    """An event a value costs six times as much."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    dump(tmp_path, {f"key/{n}": n for n in range(50)})

    counts = [len(event.summary.value) for event in EventFileLoader(str(next(tmp_path.iterdir()))).Load()]

    assert counts == [0, 50]  # the file's own first event, and ours


def test_shows_what_sb3_shows(tmp_path: Path) -> None:
    """Histograms, images, figures and hyperparameters stay where SB3's users look for them."""
    from matplotlib.figure import Figure as Drawing

    values = {
        "weights": np.array([0.0, 1.0, 1.0, np.nan]),
        "image": Image(torch.rand(3, 8, 8), "CHW"),
        "figure": Figure(Drawing(), close=True),
        "hparams": HParam({"lr": 0.1}, {"loss": 0.0}),
    }

    found = dump(tmp_path, values)
    histogram = found.Histograms("weights")[0].histogram_value

    assert sorted(found.Tags()["images"]) == ["figure", "image"]
    assert "_hparams_/experiment" in found.summary_metadata
    assert (histogram.num, histogram.sum, sum(histogram.bucket)) == (3.0, 2.0, 3.0)


def test_a_refused_image_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The numbers recorded beside it, and the image after it, still arrive."""
    values = {"bad": Image(torch.rand(2, 8, 8), "HW"), "good": Image(torch.rand(8, 8), "HW"), "loss": 0.5}

    found = dump(tmp_path, values)

    assert found.Tags()["images"] == ["good"]
    assert found.Tags()["scalars"] == ["loss"]
    assert found.Tensors("bad/text_summary")[0].step == 1
    assert "tensorboard: 'bad' at step 1 is shown as a text only" in caplog.text


def test_text_is_not_markdown(tmp_path: Path) -> None:
    """A model's output must not become an image or a link on somebody's page."""
    found = dump(tmp_path, {"sample": "![x](http://h/i.png)\n# big\r# more"})

    assert found.Tensors("sample/text_summary")[0].tensor_proto.string_val[0] == (
        b"    ![x](http://h/i.png)\n    # big\n    # more"
    )


def test_a_later_file_is_read_after_an_earlier_one(tmp_path: Path) -> None:
    """Two processes that deliver to a run within a second must not swap their points."""
    for step in range(1, 12):  # more than nine, for names that count
        output = TensorBoardSender(tmp_path)
        output.handle(make_record({"a": step}, {}, step=step))
        output.close()

    assert [event.step for event in events(tmp_path).Scalars("a")] == list(range(1, 12))


def fill(output: TensorBoardSender) -> None:
    for step in range(2, 500):
        output.handle(make_record({"a": step}, {}, step=step))


def test_goes_on_when_the_disk_has_room_again(small_disk: Path) -> None:
    """TensorBoard's own writer dies with its first error, and would refuse all that follows."""
    output = TensorBoardSender(small_disk / "tb")
    output.handle(make_record({"a": 1}, {}, step=1))
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * (1 << 20))
    with pytest.raises(OSError, match="No space left"):
        fill(output)

    filler.unlink()
    output.handle(make_record({"a": 500}, {}, step=500))
    output.close()

    steps = [event.step for event in events(small_disk / "tb").Scalars("a")]
    assert (steps[0], steps[-1]) == (1, 500)
