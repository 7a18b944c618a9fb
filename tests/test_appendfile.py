"""A file that grows by whole pieces."""

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rl_logging.appendfile import AppendFile, blocks_from_end


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """While it lasts, the system writes no file beyond so many bytes: a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[AppendFile]:
    file = AppendFile(tmp_path / "new" / "folder" / "file")
    yield file
    file.close()


def test_file_is_continued(file):
    """Starting a run again must not erase the first part, as SB3's outputs do."""
    file.append(b"one\n")
    file.close()

    again = AppendFile(file.path)
    again.append(b"two\n")
    again.close()

    assert file.path.read_bytes() == b"one\ntwo\n"


def test_piece_is_whole_or_not_there(file):
    """Half a line would damage what comes after it."""
    file.append(b"a" * 600)
    with _largest_file(1000):
        with pytest.raises(OSError, match="No space left"):
            file.append(b"b" * 600)
        size_when_full = file.path.stat().st_size
        file.append(b"c" * 100)
    file.append(b"d" * 600)

    assert size_when_full == 600
    assert file.path.read_bytes() == b"a" * 600 + b"c" * 100 + b"d" * 600
    assert file.size == 1300


def test_removed_file_is_an_error(file):
    """Writing into a removed file succeeds on Linux, and everything is lost."""
    file.append(b"one\n")
    shutil.rmtree(file.path.parent)

    with pytest.raises(FileNotFoundError, match="the file was removed"):
        file.append(b"two\n")


def test_closed_file_is_an_error(file):
    """The descriptor's number may belong to another file by now."""
    file.close()
    file.close()

    with pytest.raises(OSError, match="the file is closed"):
        file.append(b"two\n")


@pytest.mark.parametrize(
    ("content", "repaired"),
    [
        (b"", b""),
        (b"torn", b""),
        (b"one\n", b"one\n"),
        (b"one\ntorn", b"one\n"),
        (b"one\n" + b"x" * 200_000, b"one\n"),
        (b"x" * 200_000, b""),
    ],
    ids=range(6),
)
def test_last_line_without_a_newline_is_cut_off(tmp_path, content, repaired):
    """The next line must not continue what a killed process left, however long that is."""
    path = tmp_path / "file"
    path.write_bytes(content)

    file = AppendFile(path)
    file.repair()
    file.append(b"two\n")
    file.close()

    assert path.read_bytes() == repaired + b"two\n"


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_blocks_from_end_are_the_file(tmp_path, size):
    """No byte twice, none left out, at every edge of a block."""
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)

    blocks = list(blocks_from_end(tmp_path / "file"))

    assert b"".join(block for _, block in reversed(blocks)) == content
    assert all(content[start : start + len(block)] == block for start, block in blocks)


def test_file_is_not_inherited_by_children(file):
    """A child process of the user's must not keep the run's files open."""
    assert not os.get_inheritable(file._fd)
