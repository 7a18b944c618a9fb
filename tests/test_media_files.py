"""The files of rich values: encoded once, whoever needs them first, whoever dies meanwhile."""

import signal
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from waiting import wait_until

from rl_logging import Image, Video
from rl_logging.encoding import read_frames
from rl_logging.line import encode
from rl_logging.media import MediaWriter
from rl_logging.media_files import encoded, file_of, gif_of
from rl_logging.record import make_record
from rl_logging.rich import Media

ENCODE = """
import sys
from pathlib import Path
from rl_logging.line import decode
from rl_logging.media_files import encoded

record = decode(sys.stdin.buffer.readline(), Path(sys.argv[1]))
print(encoded(record.values["clip"]))
"""


def video(folder: Path, frames: int = 10, size: int = 64) -> Media:
    moving = np.zeros((1, frames, 3, size, size), np.uint8)
    for number in range(frames):
        moving[0, number, 0, :, : (number + 1) * size // frames] = 200
    kept = MediaWriter(folder).keep("clip", Video(torch.from_numpy(moving), fps=10), 1)
    assert isinstance(kept, Media)
    return kept


def start(folder: Path, kept: Media) -> "subprocess.Popen[bytes]":
    """Another process, such as a courier, that needs the file."""
    line = folder / "line"
    line.write_bytes(encode(make_record({"clip": kept}, {}, 1)))
    with line.open("rb") as stdin:
        command = [sys.executable, "-c", ENCODE, str(folder)]
        return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE)


def test_what_a_file_was_made_of_is_gone_when_it_is_there(tmp_path: Path) -> None:
    """Raw frames take a hundred times the room."""
    kept = video(tmp_path)

    assert encoded(kept) == encoded(kept) == tmp_path / "media/clip/step_1.mp4"
    assert [path.name for path in (tmp_path / "media/clip").iterdir()] == ["step_1.mp4"]


def test_pixels_arrive(tmp_path: Path) -> None:
    """A codec may be a little off, not more."""
    frames, fps = read_frames(encoded(video(tmp_path)))

    assert (frames.shape, fps) == ((10, 64, 64, 3), 10.0)
    assert abs(int(frames[4][32, 10, 0]) - 200) < 12
    assert frames[4][32, 60].max() < 12


def test_a_video_is_a_moving_picture_for_trackers_that_show_no_other(tmp_path: Path) -> None:
    """TensorBoard and SwanLab show gifs only."""
    kept = video(tmp_path)

    assert len(imageio.imread(gif_of(kept), index=None)) == 10
    assert gif_of(kept).name == "step_1.gif"


def test_two_processes_encode_once(tmp_path: Path) -> None:
    """A courier and sync may need it at the same moment."""
    kept = video(tmp_path, frames=60, size=256)
    processes = [start(tmp_path, kept) for _ in range(2)]

    answers = {process.communicate(timeout=60)[0] for process in processes}

    assert answers == {f"{tmp_path}/media/clip/step_1.mp4\n".encode()}
    assert [path.name for path in (tmp_path / "media/clip").iterdir()] == ["step_1.mp4"]


def test_a_kill_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    """The next one who needs it begins again, from what is still there."""
    kept = video(tmp_path, frames=300, size=512)
    folder = tmp_path / "media/clip"
    process = start(tmp_path, kept)
    wait_until(lambda: len(list(folder.iterdir())) > 2, 60)  # raw frames, the lock, and a draft
    process.send_signal(signal.SIGKILL)
    process.wait()
    was_there = (folder / "step_1.mp4").exists()

    path = encoded(kept)

    assert not was_there
    assert len(read_frames(path)[0]) == 300
    process.stdout.close()  # type: ignore[union-attr]


def test_a_lost_file_is_no_error(tmp_path: Path) -> None:
    """Somebody made room on the disk."""
    kept = video(tmp_path)
    kept.raw.unlink()  # type: ignore[union-attr]

    assert (encoded(kept), file_of(kept), gif_of(kept)) == (None, None, None)


@pytest.mark.parametrize("dataformats", ["HW", "XYZ", ""])
def test_what_cannot_be_encoded_stays_as_it_was_recorded(tmp_path: Path, dataformats: str) -> None:
    """Nothing is lost: its author can still load the array."""
    kept = MediaWriter(tmp_path).keep("clip", Image(np.ones((4, 4, 3), np.uint8), dataformats), 1)

    with pytest.raises(ValueError, match="dataformats"):
        encoded(kept)
    assert np.load(file_of(kept)).shape == (4, 4, 3)
