"""Provenance: what produced a run, such as its command, its machine, its packages and its code.

Collecting never raises and ends by a deadline; what could not be had is named under
``problems``. Nothing is imported for it, torch least of all. Secrets are replaced before
anything is written (see :mod:`rl_logging.redaction`), and which files are left out says
:mod:`rl_logging.worktree`.
"""

import contextlib
import getpass
import importlib.metadata
import os
import platform
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rl_logging.diffs import against_main, uncommitted, write_code
from rl_logging.git import find_repository
from rl_logging.redaction import Redaction
from rl_logging.values import Value, describe, to_plain
from rl_logging.worktree import Worktree

_FILES = {
    "packages": "provenance/packages.txt",
    "uncommitted": "provenance/uncommitted.diff",
    "main": "provenance/main.diff",
    "code": "provenance/code.zip",
}


def collect(
    folder: str | os.PathLike[str], redaction: Redaction, *, code: bool = False, limit_s: float = 20
) -> dict[str, Value]:
    """What produced the run that is in a folder, as nested plain values.

    Its files are written to ``provenance`` in that folder, in place of those of an earlier
    call; ``files`` names those that exist. Call it off the training thread.

    :param folder: the run folder
    :param redaction: replaces the secrets
    :param code: also keep the files that git tracks, in ``provenance/code.zip``
    :param limit_s: seconds after which the rest is given up
    """
    provenance = _Provenance(redaction, time.monotonic() + limit_s)
    provenance.add_facts()
    with provenance.part("files"):
        target = _cleared(Path(folder).absolute())
        provenance.add_packages(target)
        provenance.add_repository(target, code)
    return provenance.values()


class _Provenance:
    """What was found so far, and what went wrong."""

    def __init__(self, redaction: Redaction, deadline: float) -> None:
        self._redaction, self._deadline = redaction, deadline
        self._found: dict[str, Any] = {"started": round(time.time(), 3)}
        self._files: dict[str, str] = {}
        self._problems: list[str] = []

    def values(self) -> dict[str, Value]:
        parts = {"files": self._files, "problems": self._problems}
        found = to_plain({**self._found, **{name: part for name, part in parts.items() if part}})
        hidden: dict[str, Value] = self._redaction.nested(found)
        return hidden

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever fails here, the run goes on; it is told in the values
            self._problems.append(f"{name}: {describe(error)}")

    def add_facts(self) -> None:
        facts: dict[str, Callable[[], Value]] = {
            "command": lambda: shlex.join(self._redaction.command(sys.orig_argv)),
            "script": _script,
            "working_folder": os.getcwd,
            "python": platform.python_version,
            "platform": platform.platform,
            "host": socket.gethostname,
            "user": getpass.getuser,
            "cpus": _cpus,
            "gpus": _gpus,
            "seed": _hash_seed,
        }
        for name, fact in facts.items():
            with self.part(name):
                value = fact()
                if value not in (None, "", []):
                    self._found[name] = value

    def add_packages(self, folder: Path) -> None:
        with self.part("packages"):
            packages = _packages(self._deadline)
            self._found["packages"] = len(packages)
            self._write(folder, "packages", "".join(f"{package}\n" for package in packages).encode())

    def add_repository(self, folder: Path, code: bool) -> None:
        with self.part("git"):
            git = find_repository(_places(), self._deadline)
            if git is None:
                return
            about = self._found["git"] = git.about()
            trees: list[Worktree] = []
            with self.part("submodules"):
                for tree in Worktree(git, folder.resolve()).with_submodules():
                    trees.append(tree)
            with self.part("uncommitted changes"):
                about["is_dirty"] = any(any(tree.changes) for tree in trees)
                self._write(folder, "uncommitted", uncommitted(trees, self._redaction))
            with self.part("changes since the main branch"):
                self._write(folder, "main", against_main(trees[0], self._redaction))
            if code:
                with self.part("code"), self._replaced(folder, "code") as draft:
                    write_code(draft, trees, self._redaction)

    def _write(self, folder: Path, name: str, content: bytes) -> None:
        if content:
            with self._replaced(folder, name) as draft:
                draft.write_bytes(content)

    @contextlib.contextmanager
    def _replaced(self, folder: Path, name: str) -> Iterator[Path]:
        """A draft, which takes its place when it is whole."""
        path = folder / _FILES[name]
        draft = path.with_name(f"{path.name}.draft")
        try:
            yield draft
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        self._files[name] = _FILES[name]


def _cleared(folder: Path) -> Path:
    (folder / "provenance").mkdir(parents=True, exist_ok=True)
    for name in _FILES.values():
        (folder / name).unlink(missing_ok=True)
    return folder


def _script() -> str | None:
    path = getattr(sys.modules.get("__main__"), "__file__", None) or next(iter(sys.argv), "")
    return os.path.abspath(path) if path and os.path.isfile(path) else None


def _places() -> Iterator[Path]:
    """Where the repository may be: that of the script, else that of the current folder."""
    script = _script()
    if script is not None:
        yield Path(script).parent
    with contextlib.suppress(FileNotFoundError):  # the current folder may have been removed
        yield Path.cwd()


def _cpus() -> int | None:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _gpus() -> list[str]:
    """The GPUs that torch uses already; asking it earlier would start CUDA in the user's process."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def _hash_seed() -> int | str | None:
    seed = os.environ.get("PYTHONHASHSEED")
    return int(seed) if seed and seed.isdecimal() else seed


def _packages(deadline: float) -> list[str]:
    """``name==version`` of what is installed; where it came from may hold a token, and is not said."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        if time.monotonic() > deadline:
            raise TimeoutError("the time is up")
        about = distribution.metadata
        name, version = about["Name"], about["Version"]
        if name:  # what an interrupted installation left has none
            found.setdefault(name.lower(), f"{name}=={version}")  # the first one is the one imported
    return [found[name] for name in sorted(found)]
