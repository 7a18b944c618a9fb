"""The programs that encode pictures and videos, from the packages of the extra ``video``.

Nothing that ffmpeg says reaches the terminal; when it fails, its words are in the error.
"""

import shutil
import subprocess
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from rl_logging.errors import MissingBackendError


def imageio() -> Any:
    """The module ``imageio.v3``.

    :raises MissingBackendError: imageio is not installed
    """
    return _package("imageio", "imageio.v3")


def ffmpeg(arguments: list[str], given: memoryview | bytes = b"") -> bytes:
    """Run ffmpeg, out of reach of Ctrl-C, and give what it writes to its standard output.

    :param given: its standard input
    :raises MissingBackendError: imageio-ffmpeg is not installed, or finds no ffmpeg
    :raises OSError: ffmpeg failed
    """
    command = [_ffmpeg_program(), "-v", "error", "-y", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, start_new_session=True, check=False)
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace")
        raise OSError(f"ffmpeg ended with {done.returncode}: {words.strip()}")
    return done.stdout


def _ffmpeg_program() -> str:
    try:
        program: str = _package("imageio_ffmpeg", "imageio_ffmpeg").get_ffmpeg_exe()
    except RuntimeError as error:
        raise MissingBackendError("video", extra="video") from error
    if shutil.which(program) is None:
        raise MissingBackendError("video", extra="video")
    return program


def _package(name: str, module: str) -> Any:
    if find_spec(name) is None:
        raise MissingBackendError("video", extra="video")
    return import_module(module)
