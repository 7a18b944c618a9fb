"""Arrays of whatever layout become the picture that they mean."""

import math
import os
import tracemalloc

import imageio.v3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch.utils.tensorboard.summary import image as tensorboard_image

from rl_logging.encoding import to_frames, to_image, write_png

DTYPES = [np.uint8, np.int8, np.int64, np.uint16, np.bool_, np.float16, np.float32, np.float64]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def plain_pixel(value: object) -> int:
    """What one value is as a pixel, in the words of the documentation."""
    if isinstance(value, (bool, np.bool_)):
        return 255 if value else 0
    if isinstance(value, np.floating):
        return 0 if math.isnan(value) else int(min(max(value, type(value)(0)), type(value)(1)) * 255)
    return int(min(max(value, 0), 255))


def any_array(*shape: st.SearchStrategy[int]) -> st.SearchStrategy[np.ndarray]:
    return st.tuples(st.sampled_from(DTYPES), st.tuples(*shape)).flatmap(lambda given: arrays.arrays(*given))


@given(any_array(st.integers(1, 5), st.integers(1, 3), st.sampled_from([1, 3]), st.just(2), st.just(3)))
def test_videos_are_tiled_as_pixels(video):
    """Any numbers make a picture, without a warning, and each video keeps its place in all frames."""
    frames = to_frames(video)

    columns = {1: 1, 2: 2, 3: 2, 4: 2, 5: 3}[len(video)]
    pixels = np.array([plain_pixel(value) for value in video.flat], np.uint8).reshape(video.shape)
    assert frames.shape == (video.shape[1], -(-len(video) // columns) * 2, columns * 3, 3)
    for index, clip in enumerate(pixels):
        row, column = divmod(index, columns)
        tile = frames[:, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
        assert (tile == clip.transpose(0, 2, 3, 1)).all()
    assert frames.sum() == pixels.sum() * (3 // video.shape[2])


def test_alpha_is_laid_over_black():
    """A video file has no transparency; what was half there is half as bright."""
    video = np.array([[200, 100, 50, 255], [200, 100, 50, 51], [200, 100, 50, 0]], np.uint8)

    frames = to_frames(video.T.reshape(1, 1, 4, 1, 3))

    assert frames.tolist() == [[[[200, 100, 50], [40, 20, 10], [0, 0, 0]]]]


@pytest.mark.parametrize("axes", [(0, 1, 4, 2, 3), (0, 1, 2, 3, 4)], ids=["channels first", "channels last"])
@pytest.mark.parametrize("several", [True, False])
def test_layouts_that_can_mean_one_thing_are_taken(axes, several):
    """What an environment renders has its channels last; refusing it would lose the episode."""
    frames = noise(5, 8, 9, 3)

    video = frames[np.newaxis].transpose(axes)

    assert (to_frames(video if several else video[0]) == frames).all()


@pytest.mark.parametrize(
    "shape", [(4, 4), (9, 3, 4), (1, 0, 3, 4, 4), (0, 2, 3, 4, 4), (1, 2, 5, 4, 7), (2,) * 6]
)
def test_what_is_no_video_is_refused(shape):
    """The error names the shape that was given and those that can be."""
    with pytest.raises(ValueError, match=r"\(N, T, C, H, W\) or \(T, C, H, W\).* not \(" + str(shape)[1:-1]):
        to_frames(np.zeros(shape))


@pytest.mark.parametrize("array", [np.full((1, 1, 1, 1, 1), "a"), np.full((1, 1, 1, 1, 1), 1j)])
def test_pixels_are_numbers(array):
    """What else an array can hold has no colour."""
    with pytest.raises(ValueError, match=f"pixels are numbers, not {array.dtype}"):
        to_frames(array)


def test_long_video_of_floats_is_converted_in_pieces():
    """A copy in floats would take four to eight times the memory of the pixels."""
    video = np.zeros((2, 60, 3, 64, 64), np.float32)

    tracemalloc.start()
    frames = to_frames(video)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1.5 * frames.nbytes


@given(
    any_array(st.just(2), st.just(3), st.just(4), st.sampled_from([1, 3, 4])),
    st.sampled_from(["HWC", "HW", "NHWC", "NHW"]).flatmap(st.permutations),
)
def test_every_order_of_the_dimensions_is_the_same_image(pictures, letters):
    """Each library has its own order; the image must not depend on it."""
    image = to_image(pictures[:, :, :, :1] if "C" not in letters else pictures, "NHWC")
    images = pictures
    for letter, axis in (("C", 3), ("N", 0)):
        images = images if letter in letters else images.take(0, axis)
    kept = [letter for letter in "NHWC" if letter in letters]

    turned = to_image(images.transpose([kept.index(letter) for letter in letters]), "".join(letters).lower())

    assert turned.dtype == np.uint8
    assert (turned == (image if "N" in letters else image[:, :4])).all()


@pytest.mark.parametrize(
    ("dataformats", "shape"),
    [("HW", (5, 7)), ("HWC", (5, 7, 3)), ("CHW", (1, 5, 7)), ("CHW", (4, 5, 7)), ("NCHW", (2, 3, 5, 7))],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_image_is_what_torch_shows(dataformats, shape, dtype, tmp_path):
    """Whoever comes from TensorBoard's own writer finds the same pixels."""
    numbers = np.random.default_rng(0).uniform(-0.2, 1.2, shape)
    image = (numbers.clip(0, 1) * 255).astype(dtype) if dtype == np.uint8 else numbers.astype(dtype)

    write_png(tmp_path / "image.png", to_image(image, dataformats))

    (theirs,) = tensorboard_image("image", image, dataformats=dataformats).value
    expected = imageio.v3.imread(theirs.image.encoded_image_string)
    assert (imageio.v3.imread(tmp_path / "image.png") == expected).all()


@pytest.mark.parametrize(
    ("shape", "dataformats"),
    [
        ((4, 4), "HWC"),
        ((4, 4, 3), "HW"),
        ((4, 4, 3), "HHC"),
        ((4, 4, 3), "HWX"),
        ((4, 4), "HC"),
        ((4, 4, 2), "HWC"),
        ((0, 4), "HW"),
    ],
)
def test_what_is_no_image_is_refused(shape, dataformats):
    """The error names the shape and the dimensions, one of which is wrong."""
    with pytest.raises(ValueError, match=rf"an image .*{str(shape)[1:-1]}.* '{dataformats}'"):
        to_image(np.zeros(shape), dataformats)


@pytest.mark.parametrize("name", ["image.png", "a:b %d 'µ'.png", "-y.png", "new/folder/image.png"])
def test_image_is_written_under_any_name(name, tmp_path):
    """Names come from the keys of a run."""
    image = noise(5, 7, 3)
    path = tmp_path / name

    for shown in (255 - image, image):  # the second replaces the first
        write_png(path, shown)

    assert (imageio.v3.imread(path) == image).all()
    assert os.listdir(path.parent) == [path.name]


def test_transparent_image_stays_so(tmp_path):
    """A page shows its own background through it."""
    image = noise(3, 5, 4)

    write_png(tmp_path / "image.png", to_image(image, "HWC"))

    assert (imageio.v3.imread(tmp_path / "image.png") == image).all()
