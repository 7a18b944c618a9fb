"""Pictures and videos: arrays of the usual layouts become pixels, and pixels become files.

A file appears under its name when it is whole: it is written as ``NAME.new`` beside its
place and renamed, so that a process killed meanwhile leaves at most the draft, which the
next attempt replaces.
"""

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np

from rl_logging.encoders import ffmpeg, imageio

_CHANNELS = (1, 3, 4)
_SLOWEST_FPS, _FASTEST_FPS = 0.1, 1000.0
_GIF_FPS = 50.0  # browsers show frames of less than 2/100 s much slower
_LONGEST_GIF_S = 600.0  # equal frames become one, whose time has 16 bits of 1/100 s
_H264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-threads", "2"]  # training needs the rest
_COLOURS = ["-pix_fmt", "yuv420p", "-colorspace", "smpte170m"]  # unsaid, players guess by the size
_Y4M = re.compile(rb"YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)")


def to_frames(video: np.ndarray) -> np.ndarray:
    """The frames of a video as SB3 takes it, (N, T, C, H, W), in the layout (T, H, W, 3), uint8.

    N videos are tiled, nearly in a square. Floats go from 0 to 1; what is beyond is clipped,
    and NaN is black, as is what an alpha channel lets through. One video may come without
    its N, and channels may be last where they cannot be meant as first.

    :raises ValueError: the array has another shape, nothing in it, or no numbers
    """
    clips = video[np.newaxis] if video.ndim == 4 else video
    if clips.ndim == 5 and clips.shape[2] not in _CHANNELS and clips.shape[4] in _CHANNELS:
        clips = clips.transpose(0, 1, 4, 2, 3)
    if clips.ndim != 5 or clips.shape[2] not in _CHANNELS or clips.size == 0:
        raise ValueError(
            f"a video has the shape (N, T, C, H, W) or (T, C, H, W), with 1, 3 or 4 channels"
            f" and nothing empty, not {video.shape}"
        )
    count, length, _, height, width = clips.shape
    rows, columns = _grid(count)
    frames = np.empty((length, rows * height, columns * width, 3), np.uint8)
    for moment in range(length):  # one by one, since floats take more memory than their pixels
        frames[moment] = _over_black(_tiled(_to_bytes(clips[:, moment].transpose(0, 2, 3, 1))))
    return frames


def to_image(image: np.ndarray, dataformats: str) -> np.ndarray:
    """An image in the layout (H, W, 3), or (H, W, 4) with an alpha channel, uint8.

    Values are taken as in :func:`to_frames`. The result may share the memory of ``image``.

    :param dataformats: what each dimension is, ``"HWC"`` or any order of ``H``, ``W`` and, where
        there are, ``C`` and ``N``, whose images are tiled
    :raises ValueError: the image does not have these dimensions, nothing in it, or no numbers
    """
    letters = dataformats.upper()
    present = [letter for letter in "NHWC" if letter in letters]
    if sorted(present) != sorted(letters) or not {"H", "W"} <= set(letters) or len(letters) != image.ndim:
        raise ValueError(f"an image of shape {image.shape} cannot have the dataformats {dataformats!r}")
    pictures = image.transpose([letters.index(letter) for letter in present])
    pictures = pictures if "C" in letters else pictures[..., np.newaxis]
    pictures = pictures if "N" in letters else pictures[np.newaxis]
    if pictures.shape[3] not in _CHANNELS or pictures.size == 0:
        shape = f"{image.shape} as {dataformats!r}"
        raise ValueError(f"an image has 1, 3 or 4 channels and nothing empty, not the shape {shape}")
    picture = _tiled(_to_bytes(pictures))
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture


def _to_bytes(array: np.ndarray) -> np.ndarray:
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return array
    if kind == "b":
        return np.asarray(array * np.uint8(255))
    if kind == "f":
        known = np.fmin(np.fmax(array, 0), 1)  # these two ignore NaN
        return np.asarray((known * 255).astype(np.uint8))
    if kind in "iu":
        return np.asarray(array.clip(0, min(255, np.iinfo(array.dtype).max)).astype(np.uint8))
    raise ValueError(f"pixels are numbers, not {array.dtype}")


def _grid(count: int) -> tuple[int, int]:
    """Rows and columns for so many tiles."""
    columns = math.ceil(math.sqrt(count))
    return math.ceil(count / columns), columns


def _tiled(pictures: np.ndarray) -> np.ndarray:
    """One picture of many, from (N, H, W, C), row by row; what is left over is black."""
    count, height, width, channels = pictures.shape
    rows, columns = _grid(count)
    if rows * columns > count:
        empty = np.zeros((rows * columns - count, height, width, channels), np.uint8)
        pictures = np.concatenate([pictures, empty])
    table = pictures.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return np.asarray(table.reshape(rows * height, columns * width, channels))


def _over_black(picture: np.ndarray) -> np.ndarray:
    if picture.shape[2] < 4:
        return picture
    return np.asarray(picture[..., :3].astype(np.uint16) * picture[..., 3:] // 255)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an image as :func:`to_image` gives it.

    :raises MissingBackendError: imageio is not installed
    :raises OSError: the file cannot be written
    """
    data = imageio().imwrite("<bytes>", image, extension=".png", plugin="pillow", is_batch=False)
    with _draft(path) as draft:
        draft.write_bytes(data)


def write_gif(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write frames as :func:`to_frames` gives them, to be shown over and over.

    The format has no more than 50 frames per second: of more, some are left out, and the whole
    lasts as long as before. A video of over ten minutes is shown faster, within these.

    :raises MissingBackendError: imageio is not installed
    :raises ValueError: these are no frames, or no frames per second
    :raises OSError: the file cannot be written
    """
    _check_frames(frames)
    shown, delays = _gif_times(len(frames), max(_checked(fps), len(frames) / _LONGEST_GIF_S))
    data = imageio().imwrite(
        "<bytes>",
        frames[shown],
        extension=".gif",
        plugin="pillow",
        is_batch=True,
        duration=delays if len(delays) > 1 else delays[0],
        loop=0,
    )
    with _draft(path) as draft:
        draft.write_bytes(data)


def _gif_times(count: int, fps: float) -> tuple[np.ndarray, list[int]]:
    """Which of so many frames to show, and how many milliseconds each: whole 1/100 s."""
    shown_fps = min(fps, _GIF_FPS)
    length = max(1, round(count * shown_fps / fps))
    shown = np.floor(np.arange(length) * fps / shown_fps).astype(np.intp)
    starts = [round(index * 100 / shown_fps) for index in range(length + 1)]
    return shown, [10 * (end - start) for start, end in pairwise(starts)]


def write_mp4(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write frames as :func:`to_frames` gives them, in H.264, which every browser shows.

    The format wants even sizes: of an odd one, the last row or column is there twice.

    :raises MissingBackendError: imageio-ffmpeg is not installed, or has no program
    :raises ValueError: these are no frames, or no frames per second
    :raises OSError: the file cannot be written
    """
    _check_frames(frames)
    odd = [size % 2 for size in frames.shape[1:3]]
    if any(odd):
        frames = np.pad(frames, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
    height, width = frames.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{_checked(fps):.6g}"]
    pixels = np.ascontiguousarray(frames).reshape(-1).data
    with _draft(path) as draft:
        output = [*_H264, *_COLOURS, "-movflags", "+faststart", "-f", "mp4", str(draft)]
        ffmpeg([*raw, "-i", "-", *output], pixels)


def mp4_to_gif(mp4: Path, gif: Path) -> None:
    """Write the gif of a video that :func:`write_mp4` wrote; it is never in memory as a whole.

    :raises MissingBackendError: imageio-ffmpeg is not installed, or has no program
    :raises OSError: the video cannot be read, or the gif not written
    """
    source = ["-i", str(mp4.absolute())]
    palette = ffmpeg([*source, "-vf", "palettegen", "-f", "image2pipe", "-c:v", "png", "-"])
    chain = rf"[0:v]fps=min(source_fps\,{_GIF_FPS:g}):round=up[slow];[slow][1:v]paletteuse"
    with _draft(gif) as draft:
        given = ["-f", "png_pipe", "-i", "-", "-lavfi", chain]
        ffmpeg([*source, *given, "-loop", "0", "-f", "gif", str(draft)], palette)


def read_frames(path: Path) -> tuple[np.ndarray, float]:
    """The frames of an mp4 or a gif, (T, H, W, 3), uint8, and how many there are per second.

    Of a gif, whose frames may last differently, that is the mean.

    :raises MissingBackendError: imageio or imageio-ffmpeg is not installed
    :raises OSError: the file cannot be read
    """
    return _read_gif(path) if path.suffix == ".gif" else _read_mp4(path)


def _read_gif(path: Path) -> tuple[np.ndarray, float]:
    with imageio().imopen(path.read_bytes(), "r", plugin="pillow") as file:
        frames = np.stack(list(file.iter(mode="RGB")))
        total_ms = sum(file.metadata(index)["duration"] for index in range(len(frames)))
    return frames, 1000 * len(frames) / total_ms


def _read_mp4(path: Path) -> tuple[np.ndarray, float]:
    source = ["-i", str(path.absolute())]
    header = ffmpeg([*source, "-frames:v", "1", "-f", "yuv4mpegpipe", "-"])
    found = _Y4M.match(header)
    if found is None:
        raise OSError(f"{path} holds no frame")
    width, height, count, seconds = map(int, found.groups())
    pixels = ffmpeg([*source, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
    return np.frombuffer(pixels, np.uint8).reshape(-1, height, width, 3), count / seconds


def _check_frames(frames: np.ndarray) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or frames.size == 0:
        raise ValueError(f"frames are uint8 of shape (T, H, W, 3), not {frames.dtype} of {frames.shape}")


def _checked(fps: float) -> float:
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"the frames per second are a positive number, not {fps}")
    return min(max(float(fps), _SLOWEST_FPS), _FASTEST_FPS)


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place at the end, or is removed."""
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)  # the ffmpeg of a killed process may still write to it
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
