"""Taking rich values: into files of the run folder, as they are, when they are recorded.

What is heavy, such as a video's encoding, is left to whoever delivers them
(:mod:`rl_logging.media_files`). A figure alone is drawn here, once for all outputs:
nobody else has it.
"""

import io
import itertools
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rl_logging.errors import Trouble, caller
from rl_logging.line import ARRAY_BYTES
from rl_logging.rich import BINS, Histogram, Media, Table, rich_kind
from rl_logging.values import Value, describe, is_array, short_text, to_numpy, to_plain

_NAME_BYTES = 100  # of a key that names a folder; file systems allow 255
_FINAL = {"video": ".mp4", "image": ".png"}
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")


class MediaWriter:
    """Keeps the rich values of a run in its folder.

    A value is in its file when :meth:`keep` returns, so that its buffer may be used again.

    :param folder: the run folder
    :param hide: takes the secrets out of plain values
    """

    def __init__(self, folder: str | Path, hide: Callable[[Value], Value] = lambda value: value) -> None:
        self.folder = Path(folder).absolute()
        self._hide = hide
        self._trouble = Trouble()
        self._ways: dict[str, Callable[[str, Any, int], Media]] = {
            "video": self._take_video,
            "image": self._take_image,
            "figure": self._take_figure,
            "histogram": self._take_histogram,
            "table": self._take_table,
            "hparam": self._take_hparam,
        }

    def keep(self, key: str, value: Any, step: int) -> Value:
        """Keep a value. One that cannot be kept, which is told, leaves a word.

        :param key: what it is recorded under, which names its folder
        :return: a plain value; :class:`Media` for rich values and large arrays
        """
        try:
            return self._take(key, value, step)
        except Exception as error:  # a full disk; or it is not what its type promises, such as no figure
            told = f"{key!r} of step {step} is kept as a word only: {describe(error)}{caller()}"
            self._trouble.tell(f"media {key[:100]} {type(error).__name__}", f"{told}. Training goes on.")
            kind = rich_kind(value) or "array"
            return Media(kind, f"<{kind} not kept>")

    def _take(self, key: str, value: Any, step: int) -> Value:
        kind = rich_kind(value)
        if kind is not None and type(value) is not Media:
            return self._ways[kind](key, value, step)
        if is_array(value) and value.nbytes > ARRAY_BYTES:
            array = to_numpy(value)
            return self._take_array(key, array, step) if array.dtype.kind in "biuf" else to_plain(value)
        plain = to_plain(value)
        if isinstance(plain, np.ndarray) and plain.nbytes > ARRAY_BYTES:  # of another library's kind
            return self._take_array(key, plain, step)
        is_safe = isinstance(plain, (int, float, np.ndarray, Media))  # there is no secret in numbers
        return plain if is_safe else next(iter(self._hide({key: plain}).values()))

    def _take_video(self, key: str, value: Any, step: int) -> Media:
        frames = _array(value.frames)
        if frames.ndim not in (4, 5) or not all(frames.shape):
            allowed = "(N, T, C, H, W) or (T, C, H, W)"
            raise ValueError(f"a video's frames have the shape {allowed}, not {frames.shape}")
        if not isinstance(value.fps, (int, float)) or not 0 < value.fps < math.inf:
            raise ValueError(f"a video's fps is a number above 0, not {value.fps!r}")
        file, raw = self._keep_raw(key, frames, step, ".mp4")
        text = f"<video {frames.shape[-4]} frames>"
        return self._media("video", text, file, raw=raw, fps=float(value.fps))

    def _take_image(self, key: str, value: Any, step: int) -> Media:
        if isinstance(value.image, (str, os.PathLike)):
            return self._take_picture(key, Path(value.image), step)
        image = _array(value.image)
        file, raw = self._keep_raw(key, image, step, ".png")
        return self._media("image", short_text(value), file, raw=raw, dataformats=str(value.dataformats))

    def _take_picture(self, key: str, path: Path, step: int) -> Media:
        if path.suffix.lower() not in _PICTURES:
            raise ValueError(f"an image file is one of {', '.join(_PICTURES)}, not {path.name!r}")
        with path.open("rb") as source, self._new(key, step, path.suffix.lower()) as target:
            shutil.copyfileobj(source, target)
        return self._media("image", f"<image {path.suffix[1:].lower()}>", self._from_here(target.name))

    def _take_figure(self, key: str, value: Any, step: int) -> Media:
        drawn = io.BytesIO()  # first: what fails leaves no file
        value.figure.savefig(drawn, format="png")
        with self._new(key, step, ".png") as file:
            file.write(drawn.getbuffer())
        pyplot = sys.modules.get("matplotlib.pyplot")
        if value.close and pyplot is not None:
            pyplot.close(value.figure)
        return self._media("figure", "<figure>", self._from_here(file.name))

    def _take_histogram(self, key: str, value: Histogram, step: int) -> Value:
        if value.values is None:
            text = f"<histogram {len(value.counts or ())} bins>"
            return self._media("histogram", text, counts=value.counts, edges=value.edges)
        array = _array(value.values)
        if value.bins == BINS and array.nbytes <= ARRAY_BYTES:
            return array.copy()
        return self._media("histogram", *self._take_numbers(key, array, step, "histogram"), bins=value.bins)

    def _take_array(self, key: str, value: np.ndarray, step: int) -> Media:
        return self._media("array", *self._take_numbers(key, value, step, "array"))

    def _take_numbers(self, key: str, array: np.ndarray, step: int, word: str) -> tuple[str, str]:
        shape = "x".join(map(str, array.shape))
        return f"<{word} {shape} {array.dtype}>", self._keep(key, array, step)

    def _take_table(self, key: str, value: Any, step: int) -> Media:
        table = Table.of(value)
        rows = table.rows
        if table.kept is None or not table.kept.is_relative_to(self.folder) or not table.kept.is_file():
            with self._new(key, step, ".jsonl") as file:
                size = file.write(b"".join(map(self._row, [table.columns, *rows])))
            table.kept = Path(file.name)
        else:
            with table.kept.open("r+b") as file:
                file.truncate(table.kept_bytes)  # what a full disk has cut off
                file.seek(table.kept_bytes)
                size = table.kept_bytes + file.write(b"".join(map(self._row, rows[table.kept_rows :])))
        table.kept_rows, table.kept_bytes = len(rows), size
        about = {"columns": len(table.columns), "rows": len(rows), "bytes": size}
        return self._media("table", short_text(table), self._from_here(str(table.kept)), **about)

    def _row(self, cells: Any) -> bytes:
        """A row as a line of JSON, with Python's words for NaN and infinities."""
        plain = self._hide(to_plain(list(cells)))
        return json.dumps(plain, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"

    def _take_hparam(self, key: str, value: Any, step: int) -> Media:
        hparams = self._hide(to_plain(dict(value.hparam_dict)))
        return self._media("hparam", "<hparam>", hparams=hparams, metrics=to_plain(dict(value.metric_dict)))

    # Files

    def _media(self, kind: str, text: str, file: str = "", **about: Any) -> Media:
        return Media(kind, text, file, {k: v for k, v in about.items() if v is not None}, self.folder)

    def _keep_raw(self, key: str, array: np.ndarray, step: int, suffix: str) -> tuple[str, str]:
        """Write what a file is to be made of; the file's name, and that of what is written."""
        raw = self._keep(key, array, step, suffix)
        return raw.removesuffix(".npy") + suffix, raw

    def _keep(self, key: str, array: np.ndarray, step: int, later: str = "") -> str:
        with self._new(key, step, ".npy", later) as file:
            np.save(file, array, allow_pickle=False)
        return self._from_here(file.name)

    @contextmanager
    def _new(self, key: str, step: int, suffix: str, later: str = "") -> Iterator[BinaryIO]:
        """A new file, such as ``media/eval_video/step_2000.mp4``; none is left if it is not written whole."""
        folder = self.folder / "media" / folder_name(key)
        folder.mkdir(parents=True, exist_ok=True)
        stems = step_names(step)
        while True:
            stem = next(stems)
            if later and (folder / f"{stem}{later}").exists():
                continue
            try:
                file = (folder / f"{stem}{suffix}").open("xb")
                break
            except FileExistsError:
                continue
        try:
            with file:
                yield file
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise

    def _from_here(self, path: str) -> str:
        return Path(path).relative_to(self.folder).as_posix()


def step_names(step: int) -> Iterator[str]:
    """Names for what belongs to a step, the first of which that is free is to be taken."""
    yield f"step_{step}"
    yield from (f"step_{step}_{number}" for number in itertools.count(2))


def folder_name(key: str) -> str:
    """A key as the name of a folder, which is no path of its own."""
    name = re.sub(r"[^\w.-]+", "_", key).encode("utf-8", "replace")[:_NAME_BYTES]
    return name.decode("utf-8", "ignore").strip("._") or "_"


def _array(value: Any) -> np.ndarray:
    """The numbers in an array, tensor or list, not copied.

    :raises ValueError: they are none
    """
    array = to_numpy(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"it holds {array.dtype}, not numbers")
    return array
