"""Files and folders that a run keeps: copied into its folder, so that whoever made them may go on."""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_logging.media import folder_name, step_names
from rl_logging.rich import Media

_BLOCK = 1 << 20


def keep_artifact(
    folder: Path,
    path: str | os.PathLike[str],
    name: str,
    type_: str,
    step: int,
    metadata: Mapping[str, Any],
    aliases: Sequence[str],
) -> Media:
    """Copy a file, or a folder with all that is in it, into a run folder.

    :param name: what the artifact is called; each step's is a version of it
    :return: where it is, its size, and the SHA-256 of its content
    :raises OSError: it is not there, or cannot be copied
    """
    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"there is no file or folder {str(path)!r}")
    target = new_place(folder, name, step) / (folder_name(source.absolute().name) or "file")
    try:
        if source.is_dir():
            ours = (folder / "artifacts").resolve()  # a run folder may keep itself, but not for ever
            shutil.copytree(
                source, target, ignore=lambda at, _: _ours(at, ours), ignore_dangling_symlinks=True
            )
        else:
            shutil.copyfile(source, target)
    except BaseException:
        shutil.rmtree(target.parent, ignore_errors=True)
        raise
    return describe_artifact(folder, target, name, type_, metadata, aliases)


def describe_artifact(
    folder: Path,
    target: Path,
    name: str,
    type_: str,
    metadata: Mapping[str, Any],
    aliases: Sequence[str],
) -> Media:
    """What is known of an artifact that stands in the run folder.

    :raises OSError: it cannot be read
    """
    size, digest = _read(target)
    about = {
        "type": type_,
        "size": size,
        "sha256": digest,
        "metadata": dict(metadata),
        "aliases": list(aliases),
    }
    file = target.relative_to(folder.absolute()).as_posix()
    return Media("artifact", f"<{type_} {target.name} {size} bytes>", file, about, folder.absolute())


def new_place(folder: Path, name: str, step: int) -> Path:
    """A new folder for one version of an artifact: ``artifacts/policy/step_2000``."""
    parent = folder.absolute() / "artifacts" / folder_name(name)
    parent.mkdir(parents=True, exist_ok=True)
    names = step_names(step)
    while True:
        place = parent / next(names)
        try:
            place.mkdir()
            return place
        except FileExistsError:
            continue


def _ours(at: str, ours: Path) -> list[str]:
    """What of a folder is not copied: the artifacts themselves."""
    return [ours.name] if Path(at).resolve() == ours.parent else []


def _read(target: Path) -> tuple[int, str]:
    """The size in bytes, and a digest: of a folder, of its files' names and digests."""
    if not target.is_dir():
        return target.stat().st_size, _digest(target)
    files = sorted(path for path in target.rglob("*") if path.is_file())
    lines = (f"{_digest(path)}  {path.relative_to(target).as_posix()}\n" for path in files)
    whole = hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape"))
    return sum(path.stat().st_size for path in files), whole.hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
