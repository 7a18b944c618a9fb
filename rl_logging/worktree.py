"""Which files of a repository a run may keep, and what they hold.

Never kept are files whose names say that they hold secrets, files that pass through a
filter of git (git-crypt, git-lfs: what lies in the folder is not what is committed), links,
binary files and those over 1 MiB. Each is named. What runs write themselves (the run's
folder, the runs beside it, trackers' local stores) is passed over without a word.
"""

import functools
import os
import stat
import time
from collections.abc import Iterable, Iterator, MutableMapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from rl_logging.git import Git, split

LARGEST = 1 << 20  # bytes of one file, or of the change of one
LeftOut = MutableMapping[str, str]
"""Why a file was left out, by its path as a diff shows it."""

SECRET_NAMES = (
    *(".env*", "*.env", ".netrc", "_netrc", ".npmrc", ".pypirc", ".git-credentials"),
    *(".htpasswd", ".dockercfg", "kubeconfig*", ".ssh", ".aws", ".gnupg", ".kube"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.ppk", "*.jks", "*.keystore", "*.kdbx", "*.gpg", "*.age"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
    *("credentials*", "*secret*", "service-account*", "service_account*"),
)
"""Files and folders, in lower case, that are never kept."""

_STORES = frozenset({"wandb", "mlruns", "mlartifacts", "swanlog"})
_OWN = ("provenance", "journal.jsonl")  # in a run folder that is the repository itself


class Source(NamedTuple):
    """One file as it is now."""

    content: bytes
    is_executable: bool


class Worktree:
    """The files of one repository.

    :param git: the repository
    :param run_folder: the folder of the run, wherever it is; resolved
    :param place: the path from the outermost repository to this one, with its slash
    """

    def __init__(self, git: Git, run_folder: Path, place: str = "") -> None:
        self.git, self.place = git, place
        self._run_folder = run_folder
        self._own = _own_paths(git.root, run_folder)

    @functools.cached_property
    def changes(self) -> tuple[list[str], list[str]]:
        """The tracked files that differ from the commit, and the untracked ones that are not ignored."""
        options = ("--untracked-files=all", "--no-renames", "--ignore-submodules=dirty")
        entries = split(self.git.read("status", "--porcelain", "-z", *options))
        paths = [(entry[:2] == "??", entry[3:]) for entry in entries if not self._is_own(entry[3:])]
        untracked = [path for is_new, path in paths if is_new and not _STORES & {*path.split("/")[:-1]}]
        return [path for is_new, path in paths if not is_new], untracked

    def tracked(self) -> list[str]:
        """The files that git tracks, without the submodules themselves."""
        return [path for mode, path in self._entries() if mode != "160000"]

    def kept(self, paths: Iterable[str], left_out: LeftOut) -> list[str]:
        """Those of the paths whose files may be kept, by their names."""
        several = [path for path in dict.fromkeys(paths) if not self._is_own(path)]
        filtered = self._filtered(several)
        kept = []
        for path in several:
            if is_secret(path):
                left_out[quoted(self.place + path)] = "its name says that it holds secrets"
            elif path in filtered:
                left_out[quoted(self.place + path)] = "it passes through a filter of git"
            else:
                kept.append(path)
        return kept

    def sources(self, paths: Iterable[str], left_out: LeftOut) -> Iterator[tuple[str, Source]]:
        """What the files hold, for those whose content may be kept.

        :raises TimeoutError: the time is up
        """
        for path in paths:
            if time.monotonic() > self.git.deadline:
                raise TimeoutError("the time is up")
            try:
                yield path, _source(self.git.root, path)
            except _NotKeptError as why:
                left_out[quoted(self.place + path)] = str(why)

    def with_submodules(self) -> Iterator["Worktree"]:
        """The tree itself, and those of its submodules that are checked out, at any depth."""
        yield self
        if not (self.git.root / ".gitmodules").is_file():
            return
        for path in (path for mode, path in self._entries() if mode == "160000"):
            folder = self.git.root / path
            if (folder / ".git").exists() and folder.resolve() == folder:
                inner = Git(folder, self.git.deadline)
                yield from Worktree(inner, self._run_folder, f"{self.place}{path}/").with_submodules()

    def _entries(self) -> Iterator[tuple[str, str]]:
        for entry in split(self.git.read("ls-files", "-z", "--stage")):
            about, path = entry.split("\t", 1)
            yield about.split(" ")[0], path

    def _filtered(self, paths: Iterable[str]) -> set[str]:
        if not self.git.filters:
            return set()
        answers = split(b"".join(self.git.in_batches("check-attr", "-z", "filter", paths=paths)))
        drivers = zip(answers[::3], answers[2::3], strict=True)  # between them stands "filter"
        return {path for path, driver in drivers if f"filter.{driver}" in self.git.filters}

    def _is_own(self, path: str) -> bool:
        parts = path.split("/")
        return any("/".join(parts[:n]) in self._own for n in range(1, len(parts) + 1))


def is_secret(path: str) -> bool:
    """Whether a path's name, or that of a folder in it, says that it holds secrets."""
    return any(fnmatchcase(part, name) for part in path.lower().split("/") for name in SECRET_NAMES)


def quoted(path: str) -> str:
    """A path as git writes it into a diff: in quotes, with escapes, where it has odd characters."""
    if not any(_is_odd(letter) for letter in path):
        return path
    return '"' + "".join(f"\\{ord(letter):03o}" if _is_odd(letter) else letter for letter in path) + '"'


def _is_odd(letter: str) -> bool:
    return letter in '"\\\x7f' or letter < " "


class _NotKeptError(Exception):
    """The file is there, and may not be kept; the text says why."""


def _source(root: Path, path: str) -> Source:
    place = root / path
    try:
        if not place.parent.resolve().is_relative_to(root):
            raise _NotKeptError("it lies outside of the repository")
        # Without O_NONBLOCK, a pipe that took the file's place would wait for a writer.
        number = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _NotKeptError("it is a link" if place.is_symlink() else _reason(error)) from error
    try:
        return _read(number)
    except OSError as error:
        raise _NotKeptError(_reason(error)) from error
    finally:
        os.close(number)


def _read(number: int) -> Source:
    mode = os.fstat(number).st_mode
    if stat.S_ISDIR(mode):
        raise _NotKeptError("it is a repository of its own")
    if not stat.S_ISREG(mode):
        raise _NotKeptError("it is no file")
    with open(number, "rb", closefd=False) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise _NotKeptError("it is over 1 MiB")
    if b"\0" in content:
        raise _NotKeptError("it is binary")
    return Source(content, bool(mode & stat.S_IXUSR))


def _reason(error: OSError) -> str:
    return "it is not there" if isinstance(error, FileNotFoundError) else str(error.strerror)


def _own_paths(root: Path, run_folder: Path) -> set[str]:
    """What runs write into the repository: the run's folder, and those beside it that hold a run."""
    if root.is_relative_to(run_folder):
        own = [run_folder / name for name in _OWN]
    elif run_folder.is_relative_to(root):
        beside = [journal.parent for journal in run_folder.parent.glob("*/journal.jsonl")]
        own = [run_folder, *beside]
    else:
        own = []
    return {path.relative_to(root).as_posix() for path in own if path.is_relative_to(root)}
