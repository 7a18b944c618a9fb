"""Files on their way to an MLflow run's artifacts: a folder that holds links to them, sent as a whole."""

import json
import math
import re
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from rl_logging.formats.base import with_digest
from rl_logging.values import Value, short_text, to_utf8

PATH_BYTES = 200  # of a key that names a folder; file systems allow 255
_SAFE = re.compile(r"[^\w.\- +=@,()~:]")  # a server cuts a name at "#" and "?", and decodes "%"
_SMALL = (256, 256)  # pixels of a small picture, at most
_INT64 = 1 << 63
_Self = TypeVar("_Self", bound="Draft")


class Draft:
    """Files that are sent together, for use in ``with``; nothing is made where there are none."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def send(self, client: Any, run_id: str) -> None:
        """Put all into the run, in place of what is there under the same paths."""
        if self._folder is not None:
            client.log_artifacts(run_id, self._folder.name)

    def write(self, path: str, text: str) -> None:
        """Add a text."""
        self._place(path).write_bytes(text.encode("utf-8", "backslashreplace"))

    def write_json(self, path: str, value: Value) -> None:
        """Add plain values."""
        self.write(path, json.dumps(_strict(value), ensure_ascii=False, allow_nan=False))

    def link(self, path: str, source: Path) -> None:
        """Add a file."""
        self._place(path).symlink_to(source)

    def link_all(self, folder: str, source: Path) -> None:
        """Add a file, or a folder with all that is in it, under names that a server takes."""
        for file in source.rglob("*") if source.is_dir() else [source]:
            if file.is_file():
                parts = file.relative_to(source.parent).parts
                self.link("/".join([folder, *map(safe_name, parts)]), file)

    def write_small(self, path: str, picture: Path) -> None:
        """Add a small version of a picture; of a file that is none, nothing."""
        from PIL import Image

        place = self._place(path)
        try:
            with Image.open(picture) as image:
                small = image.convert("RGBA")
            small.thumbnail(_SMALL)
            small.save(place, "WEBP")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            place.unlink(missing_ok=True)  # the picture itself is there

    def _place(self, path: str) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="rl_logging-")
        place = Path(self._folder.name, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)  # what is written must not go through a link
        return place


def safe_name(name: str) -> str:
    """A file's name as every server takes it."""
    safe = _SAFE.sub("_", name)
    if safe == name:
        return name
    suffix = Path(safe).suffix[:20]
    return with_digest(safe.removesuffix(suffix)[: PATH_BYTES // 4], to_utf8(name)) + suffix


def _strict(value: Value) -> Value:
    """Plain values as every reader of JSON takes them: numbers that it has none for, as texts."""
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    is_long = isinstance(value, int) and not -_INT64 <= value < _INT64
    return short_text(value) if is_long or not isinstance(value, (str, int, float, type(None))) else value
