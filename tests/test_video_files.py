"""Videos become files that are whole, last as long as they did, and show what was recorded."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import imageio.v3
import numpy as np
import pytest
from waiting import wait_until

from rl_logging.encoding import mp4_to_gif, read_frames, write_gif, write_mp4
from rl_logging.errors import MissingBackendError

TOLERANCE = 12  # of 255: what H.264 and a palette change in plain colours


def blocks(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A red block that moves over a blue and a green half, by 2 pixels a frame."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[:, : height // 2, :, 2] = 255
    frames[:, height // 2 :, :, 1] = 200
    for index, frame in enumerate(frames):
        left = 2 * index % (width - 16)
        frame[8:24, left : left + 16] = (255, 0, 0)
    return frames


def inner(frames: np.ndarray) -> np.ndarray:
    """What is shown in the middles of plain surfaces, where codecs blur nothing."""
    lefts = [2 * index % (frames.shape[2] - 16) for index in range(len(frames))]
    block = [frame[12:20, left + 4 : left + 12] for frame, left in zip(frames, lefts, strict=True)]
    return np.concatenate([np.stack(block), frames[:, 36:44, 4:12]], axis=2).astype(int)


def duration_s(path: Path) -> float:
    frames, fps = read_frames(path)
    return len(frames) / fps


@pytest.mark.parametrize("name", ["video.mp4", "a:b %d 'µ'.mp4", "-y.mp4", "new/folder/video.mp4"])
def test_video_shows_what_was_given(name, tmp_path, capfd):
    """Colours, places and times are those of the episode, and the terminal is left alone."""
    frames, path = blocks(40), tmp_path / name

    write_mp4(path, frames, 25)
    mp4_to_gif(path, path.with_suffix(".gif"))
    write_gif(path.with_suffix(".2.gif"), frames, 25)

    for written in (path, path.with_suffix(".gif"), path.with_suffix(".2.gif")):
        shown, fps = read_frames(written)
        assert (shown.shape, shown.dtype, fps) == (frames.shape, np.uint8, 25)
        assert np.abs(inner(shown) - inner(frames)).max() <= TOLERANCE
    assert len(os.listdir(path.parent)) == 3
    assert capfd.readouterr() == ("", "")


def test_other_readers_can_read_the_video(tmp_path):
    """What only our own reader can read is of no use in a browser."""
    code = (
        "import sys, imageio.v3 as iio; path = sys.argv[1];"
        "about = iio.immeta(path, plugin='FFMPEG');"
        "frames = iio.imread(path, plugin='FFMPEG');"
        "print(about['codec'], about['pix_fmt'], about['fps'], frames.shape, frames[3, 40, 40].tolist())"
    )
    write_mp4(tmp_path / "video.mp4", np.full((7, 48, 64, 3), 200, np.uint8), 12.5)

    command = [sys.executable, "-c", code, str(tmp_path / "video.mp4")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert said.startswith("h264 yuv420p")
    assert said.endswith(" 12.5 (7, 48, 64, 3) [200, 200, 200]\n")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 1), (33, 48), (48, 33), (35, 51)])
@pytest.mark.parametrize("count", [1, 3])
def test_size_may_be_odd(height, width, count, tmp_path, capfd):
    """The codec wants even sizes; a warning or an error for every Atari frame would help nobody."""
    frames = np.full((count, height, width, 3), (200, 90, 30), np.uint8)

    write_mp4(tmp_path / "video.mp4", frames, 30)
    write_gif(tmp_path / "video.gif", frames, 30)
    mp4_to_gif(tmp_path / "video.mp4", tmp_path / "other.gif")

    even = (height + height % 2, width + width % 2)
    for name, shape in (("video.mp4", even), ("video.gif", (height, width)), ("other.gif", even)):
        shown, _ = read_frames(tmp_path / name)
        assert shown.shape[1:3] == shape
        assert np.abs(shown.astype(int) - frames[0, 0, 0]).max() <= TOLERANCE
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("fps", [0.5, 1, 12.5, 29.97, np.float32(60), 240])
def test_video_keeps_its_speed(fps, tmp_path):
    """A gif counts 1/100 s and shows at most 50 frames in a second, yet lasts as long."""
    frames = blocks(60)

    write_mp4(tmp_path / "video.mp4", frames, fps)
    mp4_to_gif(tmp_path / "video.mp4", tmp_path / "of_mp4.gif")
    write_gif(tmp_path / "of_frames.gif", frames, fps)

    shown, found = read_frames(tmp_path / "video.mp4")
    assert (len(shown), found) == (60, pytest.approx(float(fps), rel=1e-4))
    for name in ("of_mp4.gif", "of_frames.gif"):
        shown, found = read_frames(tmp_path / name)
        assert found <= 50.001
        assert len(shown) / found == pytest.approx(60 / fps, abs=0.03)
        assert imageio.v3.immeta(tmp_path / name)["loop"] == 0


@pytest.mark.parametrize(("fps", "clamped"), [(1e-300, 0.1), (1e300, 1000)])
def test_silly_speed_is_clamped(fps, clamped, tmp_path):
    """A wrong number must not lose the pictures."""
    write_mp4(tmp_path / "video.mp4", blocks(2), fps)
    write_gif(tmp_path / "video.gif", blocks(2), fps)
    mp4_to_gif(tmp_path / "video.mp4", tmp_path / "other.gif")

    assert read_frames(tmp_path / "video.mp4")[1] == clamped
    assert duration_s(tmp_path / "video.gif") == duration_s(tmp_path / "other.gif")


@pytest.mark.parametrize("write", [write_mp4, write_gif])
@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf])
def test_speed_that_is_none_is_refused(write, fps, tmp_path):
    """Before anything is written."""
    with pytest.raises(ValueError, match=f"positive number, not {fps}"):
        write(tmp_path / "video", blocks(2), fps)

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("write", [write_mp4, write_gif])
@pytest.mark.parametrize("frames", [np.zeros((2, 4, 4, 1), np.uint8), np.zeros((2, 4, 4, 3)), blocks(0)])
def test_what_are_no_frames_are_refused(write, frames, tmp_path):
    """The encoder takes bytes of any meaning and would write noise."""
    with pytest.raises(ValueError, match="frames are uint8 of shape"):
        write(tmp_path / "video", frames, 30)

    assert os.listdir(tmp_path) == []


def test_gif_of_a_long_standstill_is_written(tmp_path):
    """Equal frames become one, and the format's field for its time is too short for it."""
    write_gif(tmp_path / "video.gif", np.zeros((1000, 1, 1, 3), np.uint8), 1)

    assert duration_s(tmp_path / "video.gif") == 600


def test_killed_encoding_leaves_no_half_file(tmp_path):
    """Half a video under its own name would be taken for the whole, and sent."""
    path, draft = tmp_path / "video.mp4", tmp_path / "video.mp4.new"
    code = (
        "import sys, pathlib, numpy as np; from rl_logging.encoding import write_mp4;"
        "noise = np.random.default_rng(0).integers(0, 256, (600, 256, 256, 3), np.uint8);"
        "write_mp4(pathlib.Path(sys.argv[1]), noise, 30)"
    )

    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as child:
        wait_until(draft.exists, timeout_s=60)
        child.send_signal(signal.SIGKILL)

    assert child.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == [draft.name]
    write_mp4(path, blocks(3), 30)
    assert os.listdir(tmp_path) == [path.name]
    assert len(read_frames(path)[0]) == 3


def test_full_disk_is_an_error_and_leaves_nothing(small_disk):
    """ffmpeg knows that the disk was full; what it wrote until then is no video."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 128, 128, 3), np.uint8)

    with pytest.raises(OSError, match=r"(?s)ffmpeg ended with .*No space left on device"):
        write_mp4(small_disk / "video.mp4", noise, 30)

    assert os.listdir(small_disk) == []


def test_failed_conversion_keeps_what_was_there(tmp_path):
    """ffmpeg's own words are in the error, and nowhere else."""
    (tmp_path / "video.mp4").write_bytes(b"no video")
    write_gif(tmp_path / "video.gif", blocks(3), 10)

    with pytest.raises(OSError, match=r"(?s)ffmpeg ended with .*Invalid data found"):
        mp4_to_gif(tmp_path / "video.mp4", tmp_path / "video.gif")

    assert len(read_frames(tmp_path / "video.gif")[0]) == 3
    assert sorted(os.listdir(tmp_path)) == ["video.gif", "video.mp4"]


@pytest.mark.parametrize(
    ("package", "written"), [("imageio", ["b.mp4"]), ("imageio_ffmpeg", ["a.png", "c.gif"])]
)
def test_missing_package_names_the_pip_line(package, written, tmp_path):
    """Without one of the two packages, what needs only the other is still written."""
    code = """
import sys, numpy as np
from importlib.machinery import PathFinder
from pathlib import Path

class Without(PathFinder):  # what an environment without the package finds
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == sys.argv[1] else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
from rl_logging.encoding import write_gif, write_mp4, write_png
frames, folder = np.zeros((2, 4, 4, 3), np.uint8), Path(sys.argv[2])
for write, arguments in ((write_png, ("a.png", frames[0])), (write_mp4, ("b.mp4", frames, 9)),
                         (write_gif, ("c.gif", frames, 9))):
    try:
        write(folder / arguments[0], *arguments[1:])
    except ImportError as error:
        print(type(error).__name__, error, sep=": ")
"""
    command = [sys.executable, "-c", code, package, str(tmp_path)]

    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    message = "MissingBackendError: video is not installed; pip install 'rl_logging[video]'"
    assert said == [message] * (3 - len(written))
    assert sorted(os.listdir(tmp_path)) == written


def test_missing_ffmpeg_is_a_missing_package(monkeypatch, tmp_path):
    """imageio-ffmpeg can be installed without the program, and the environment can name another."""
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "ffmpeg"))

    with pytest.raises(MissingBackendError, match="video is not installed"):
        write_mp4(tmp_path / "video.mp4", blocks(2), 30)

    assert os.listdir(tmp_path) == []


def test_encoding_imports_nothing_heavy_at_first():
    """The process that trains imports this module and encodes nothing."""
    code = (
        "import sys, rl_logging.encoding, rl_logging.histograms;"
        "print([name for name in ('imageio', 'imageio_ffmpeg', 'PIL', 'torch') if name in sys.modules])"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout == "[]\n"
