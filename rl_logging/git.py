"""The git program, asked so that it can neither hang, nor prompt, nor run what a repository configures.

All calls end by one deadline. Nothing is written: no index is refreshed, and no hook,
pager, filter, external diff or network transport is used, whatever the repository's own
configuration names. Paths are relative to ``root``; bytes that are no text stand in them
as :func:`os.fsdecode` shows them.
"""

import contextlib
import functools
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from rl_logging.program import ProgramError, answer
from rl_logging.values import Value, to_utf8, without_users

_MOST_TEXT = 64 << 20  # bytes of an answer that is held as a whole
_ARGUMENTS = 100_000  # bytes of paths that one command line takes safely
_MAIN_BRANCHES = (
    "refs/remotes/origin/main",
    "refs/remotes/origin/master",
    "refs/heads/main",
    "refs/heads/master",
)
_SETTINGS = (
    "color.ui=false",
    "core.bigFileThreshold=8m",  # a larger file counts as binary: its lines are never read
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.quotePath=false",
    "diff.autoRefreshIndex=false",  # it would take the index's lock
    "diff.orderFile=/dev/null",
    "protocol.allow=never",  # a partial clone would fetch what it lacks
)


class Git:
    """A repository, read by the git program.

    :param folder: a folder of its working tree
    :param deadline: when every call has ended, by the clock of :func:`time.monotonic`
    :raises ProgramError: there is no git program, or it finds no working tree
    :raises TimeoutError: the deadline has passed; every method may raise it
    """

    def __init__(self, folder: Path, deadline: float) -> None:
        program = _program()
        if program is None:
            raise ProgramError("there is no git program")
        self.root, self.deadline = folder, deadline
        self._command = [program, "--no-pager", *_options(_SETTINGS)]
        self.root = Path(os.fsdecode(self.read("rev-parse", "--show-toplevel")).removesuffix("\n"))
        self.filters = self._filters()
        self._command += _options(_switched_off(self.filters))

    def read(self, *arguments: str) -> bytes:
        """All that git answers.

        :raises ProgramError: it refused, or answered more than 64 MiB
        """
        whole = bytearray()
        for piece in self.pieces(*arguments):
            whole += piece
            if len(whole) > _MOST_TEXT:
                raise ProgramError(f"git {arguments[0]} answered more than 64 MiB")
        return bytes(whole)

    def word(self, *arguments: str) -> str:
        """An answer of one line, or nothing where git has none."""
        with contextlib.suppress(ProgramError):
            return os.fsdecode(self.read(*arguments)).strip()
        return ""

    def pieces(self, *arguments: str) -> Iterator[bytes]:
        """The answer line by line, see :func:`rl_logging.program.answer`."""
        return answer([*self._command, *arguments], self.root, _environment(), self.deadline)

    def in_batches(self, *arguments: str, paths: Iterable[str]) -> Iterator[bytes]:
        """What :meth:`pieces` gives for these paths, by as many calls as they need; none for no path."""
        batch: list[str] = []
        size = 0
        for path in paths:
            batch.append(path)
            size += len(os.fsencode(path)) + 1
            if size > _ARGUMENTS:
                yield from self.pieces(*arguments, "--", *batch)
                batch, size = [], 0
        if batch:
            yield from self.pieces(*arguments, "--", *batch)

    @functools.cached_property
    def commit(self) -> str:
        """The commit that is checked out; nothing before the first one."""
        return self.word("rev-parse", "--quiet", "--verify", "HEAD^{commit}")

    @functools.cached_property
    def main(self) -> str:
        """The main branch, such as ``refs/remotes/origin/main``; nothing where none is known."""
        head = self.word("symbolic-ref", "--quiet", "refs/remotes/origin/HEAD")
        for name in filter(None, (head, *_MAIN_BRANCHES)):
            if self.word("rev-parse", "--quiet", "--verify", f"{name}^{{commit}}"):
                return name
        return ""

    def about(self) -> dict[str, Value]:
        """What is checked out, without what is not known."""
        facts = {
            "commit": self.commit,
            "branch": self.word("symbolic-ref", "--quiet", "--short", "HEAD"),
            "main": re.sub(r"^refs/\w+/", "", self.main),
            "remote": _address(self.word("config", "--get", "remote.origin.url")),
            "root": str(self.root),
        }
        return {name: to_utf8(text) for name, text in facts.items() if text}

    def _filters(self) -> set[str]:
        """The configured programs that files pass through, such as those of git-lfs and git-crypt."""
        try:
            names = split(self.read("config", "-z", "--name-only", "--get-regexp", r"^filter\."))
        except ProgramError:  # it refuses where there is none
            return set()
        return {name.rpartition(".")[0] for name in names}


def find_repository(folders: Iterable[Path], deadline: float) -> Git | None:
    """The repository of the first of these folders that is in one, if there is a git program.

    :raises ProgramError: git refuses to read it, such as one that belongs to somebody else
    """
    if _program() is None:
        return None
    for folder in filter(os.path.isdir, folders):
        try:
            return Git(folder, deadline)
        except ProgramError as error:
            if "not a git repository" not in str(error):
                raise
    return None


def split(names: bytes) -> list[str]:
    """The names in what git answers to ``-z``."""
    return [os.fsdecode(name) for name in names.split(b"\0") if name]


def _program() -> str | None:
    """The git program; never one from the current folder, which may be that of the repository."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return shutil.which("git", path=os.pathsep.join(filter(os.path.isabs, folders)))


def _switched_off(filters: Iterable[str]) -> list[str]:
    if any("=" in name for name in filters):  # git would cut the setting there
        raise ProgramError("the repository configures a filter that cannot be switched off")
    settings = ("clean=", "smudge=", "process=", "required=false")
    return [f"{name}.{setting}" for name in sorted(filters) for setting in settings]


def _options(settings: Iterable[str]) -> list[str]:
    return [word for setting in settings for word in ("-c", setting)]


def _environment() -> dict[str, str]:
    """The user's, without what would lead git to another repository or to a program."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG")
    }
    return {
        **kept,
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }


def _address(remote: str) -> str:
    """A remote's address without its user, in both of the ways in which git writes one."""
    return without_users(remote) if "://" in remote else re.sub(r"^[^/:]*@", "", remote)
