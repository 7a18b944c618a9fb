"""Diffs and an archive of the code that produced a run, without its secrets.

A diff can be applied with ``git apply``, except for a file where a secret was hidden in a
line that the change removes or stands beside. What is left out of a diff stands in its first
lines, which ``git apply`` passes over; what is left out of an archive, in a file of it.
"""

import itertools
import re
import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

from rl_logging.git import split
from rl_logging.redaction import Redaction
from rl_logging.worktree import LARGEST, LeftOut, Source, Worktree, quoted

LEFT_OUT_NAME = "LEFT_OUT.txt"
"""The file of an archive that says what is not in it."""

_MOST_DIFF, _MOST_CODE = 10 << 20, 100 << 20
_MOST_NAMES = 1000  # of what is left out
_FILE = b"diff --git "
_HUNK = re.compile(rb"^(@@ -\S+ \+\S+ @@)[^\n]*", re.MULTILINE)
_LATE = "the time was up"
_OPTIONS = (
    *("--no-ext-diff", "--no-textconv", "--no-renames", "--ignore-submodules=dirty"),
    *("--submodule=short", "--unified=3", "--full-index"),
)
_Files = Generator[bytes, None, None]


def uncommitted(trees: Iterable[Worktree], redaction: Redaction) -> bytes:
    """What differs from the commit: changes, staged or not, and new files.

    :param trees: a repository's, and those of its submodules
    :return: nothing where all is committed
    """
    left_out: LeftOut = {}
    files = (file for tree in trees for file in _uncommitted(tree, left_out))
    return _diff(files, left_out, redaction)


def against_main(tree: Worktree, redaction: Redaction) -> bytes:
    """What was committed since the main branch was left.

    :return: nothing where no main branch is known, or where it holds the commit
    """
    git = tree.git
    base = git.word("merge-base", git.commit, git.main) if git.commit and git.main else ""
    if base in ("", git.commit):
        return b""
    left_out: LeftOut = {}
    changed = split(git.read("diff", "--name-only", "-z", *_OPTIONS, base, git.commit))
    options = (*_OPTIONS, *_prefixes(tree.place), base, git.commit)
    pieces = git.in_batches("diff", *options, paths=tree.kept(changed, left_out))
    return _diff(_by_file(pieces), left_out, redaction)


def write_code(path: Path, trees: Iterable[Worktree], redaction: Redaction) -> None:
    """Write an archive of the files that git tracks, as they are now."""
    left_out: LeftOut = {}
    size = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        try:
            for name, source in _code(trees, left_out):
                content = _redacted(source.content, redaction)
                size += len(content)
                if size > _MOST_CODE:
                    left_out[quoted(name)] = "with it and what follows, the code is over 100 MiB"
                    break
                archive.writestr(_entry(name, source.is_executable), content)
        except TimeoutError:
            left_out["what follows"] = _LATE
        if left_out:
            archive.writestr(LEFT_OUT_NAME, _redacted(_told(left_out), redaction))


def _uncommitted(tree: Worktree, left_out: LeftOut) -> Iterator[bytes]:
    git = tree.git
    changed, new = tree.changes
    commit = git.commit or git.word("hash-object", "-t", "tree", "--stdin")  # that of no files at all
    options = (*_OPTIONS, *_prefixes(tree.place), commit)
    yield from _by_file(git.in_batches("diff", *options, paths=tree.kept(changed, left_out)))
    for path, source in tree.sources(tree.kept(new, left_out), left_out):
        yield _new_file(tree.place + path, source)


def _code(trees: Iterable[Worktree], left_out: LeftOut) -> Iterator[tuple[str, Source]]:
    for tree in trees:
        for path, source in tree.sources(tree.kept(tree.tracked(), left_out), left_out):
            yield tree.place + path, source


def _by_file(pieces: Iterable[bytes]) -> _Files:
    """A diff, file by file; of a change that is too large there is only the beginning."""
    file, is_line_start = bytearray(), True
    for piece in pieces:
        if is_line_start and piece.startswith(_FILE) and file:
            yield bytes(file)
            file.clear()
        if len(file) <= LARGEST:
            file += piece
        is_line_start = piece.endswith(b"\n")
    if file:
        yield bytes(file)


def _diff(files: _Files, left_out: LeftOut, redaction: Redaction) -> bytes:
    kept, size = [], 0
    try:
        for file in files:
            if why := _why_not(file):
                left_out[_name(file)] = why
                continue
            # After a place stands a line from above it, cut off at 80 bytes: a secret's shape may be gone.
            text = _redacted(_HUNK.sub(rb"\1", file), redaction)
            size += len(text)
            if size > _MOST_DIFF:
                left_out[_name(file)] = "with it and what follows, the diff is over 10 MiB"
                break
            kept.append(text)
    except TimeoutError:
        left_out["what follows"] = _LATE
    finally:
        files.close()  # git ends, too
    # A value that only a later file gave a name to is hidden in the earlier ones now.
    return b"".join(_recoded(text, redaction.text) for text in (_told(left_out), *kept))


def _why_not(file: bytes) -> str:
    if len(file) > LARGEST:
        return "its change is over 1 MiB"
    is_binary = b"\nBinary files " in file and b"\n@@ " not in file
    return "it is binary" if is_binary else ""


def _name(file: bytes) -> str:
    names = file.partition(b"\n")[0].removeprefix(_FILE)  # a/name b/name
    return names[: len(names) // 2].decode("utf-8", "surrogateescape").replace("a/", "", 1)


def _new_file(path: str, source: Source) -> bytes:
    """What git writes for a file that was added."""
    old, new = quoted(f"a/{path}"), quoted(f"b/{path}")
    head = f"{_FILE.decode()}{old} {new}\nnew file mode {'100755' if source.is_executable else '100644'}\n"
    *lines, rest = source.content.split(b"\n")
    body = b"".join(b"+%b\n" % line for line in lines)
    if rest:
        body += b"+%b\n\\ No newline at end of file\n" % rest
    if body:
        head += f"--- /dev/null\n+++ {new}\n@@ -0,0 +1,{len(lines) + bool(rest)} @@\n"
    return head.encode("utf-8", "surrogateescape") + body


def _told(left_out: LeftOut) -> bytes:
    lines = [f"# left out: {name} ({why})\n" for name, why in itertools.islice(left_out.items(), _MOST_NAMES)]
    if len(left_out) > _MOST_NAMES:
        lines.append(f"# left out: {len(left_out) - _MOST_NAMES} more\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def _redacted(content: bytes, redaction: Redaction) -> bytes:
    return _recoded(content, redaction.source)


def _recoded(content: bytes, change: Callable[[str], str]) -> bytes:
    # Bytes that are no text stay as they are, and so do the ends of lines.
    return change(content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _prefixes(place: str) -> tuple[str, str]:
    return f"--src-prefix=a/{place}", f"--dst-prefix=b/{place}"


def _entry(name: str, is_executable: bool) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name.encode("utf-8", "backslashreplace").decode("utf-8"))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o755 if is_executable else 0o644) << 16
    return entry
