"""Batches as JSON Lines in a folder: columns as one object a row, texts as one line each.

Both are written as they are read, so that a large batch takes no more memory than a small
one. Every line is JSON in ASCII, as Python's ``json`` writes and reads it: with ``NaN`` and
``Infinity``, which other readers may refuse.
"""

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from rl_logging.appendfile import AppendFile
from rl_logging.jsonable import Hide, listed, named, row_line
from rl_logging.values import is_array, to_numpy, to_utf8

INDEX = "idx"  # the key of a row's number, which NeMo-RL's readers expect
_RECORDS = ("journal.jsonl", "hyperparams.yaml", "outputs.json", "train.log", "progress.csv", "progress.json")
_PRT_RL = ("parameters.json", "scalars.json", "scalars_before.json")  # of its FileLogger
_DRAFTS = ("hyperparams.new", "outputs.json.new", ".progress.csv.new", "journal.lock", "courier.log")
_FOLDERS = ("cursors", "media", "artifacts", "provenance", "tb", "wandb", "clearml", "swanlog", "samples")
_NEMO_RL = ("tensorboard", "swanlab")  # where its loggers keep theirs
_MLFLOW = ("mlflow.db", "mlartifacts", "mlruns")  # of a run that has its store in its own folder
_OWN = frozenset({*_RECORDS, *_PRT_RL, *_DRAFTS, *_FOLDERS, *_NEMO_RL, *_MLFLOW})
_CHUNK = 1 << 16  # numbers of an array that are Python's at a time
_PIECE_BYTES = 1 << 20  # of lines that are written together
_ONE_LINE = str.maketrans({"\n": " ", "\r": " ", "\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})
_END = object()


def check_place(
    folder: Path, filename: str | os.PathLike[str], owners: Iterable[str | os.PathLike[str]] = ()
) -> Path:
    """The path of a file in a folder.

    :param owners: folders of which all that lies in the given one is the run's own, too
    :param filename: its name, which may begin with folders: ``val/step_3.jsonl``
    :raises TypeError: it is no text and no path
    :raises ValueError: it would not be in the folder, is none of a file, or is one of the run's own
    """
    name, folder = os.fspath(filename), Path(folder)
    if not isinstance(name, str):
        raise TypeError(f"a file's name is a text, not {type(name).__name__}")
    inner = PurePath(name)
    if not inner.name or name.endswith("/") or "\0" in name:
        raise ValueError(f"{name!r} is no file's name; give one such as 'val/step_3.jsonl'")
    path = folder / inner
    try:
        whole, place, is_else = folder.resolve(), path.resolve(), path.exists() and not path.is_file()
    except OSError as error:  # such as one that is too long
        raise ValueError(f"{name[:80]!r} is no file's name: {error.strerror}") from error
    if inner.is_absolute() or ".." in inner.parts or not place.is_relative_to(whole):
        raise ValueError(f"{name!r} is not in the log folder; give a name such as 'val/step_3.jsonl'")
    if is_else:
        raise ValueError(f"{name!r} is there already, and is no file")
    firsts = {inner.parts[0].lower(), place.relative_to(whole).parts[0].lower()}
    owned = (Path(owner).resolve() for owner in owners)
    if firsts & _OWN or any(place.is_relative_to(owner) and owner != whole for owner in owned):
        raise ValueError(f"{name!r} is a name of the run's own files, which nothing may overwrite")
    return path


def write_rows(
    folder: Path,
    columns: Mapping[str, Any],
    filename: str | os.PathLike[str],
    hide: Hide = lambda value: value,
) -> Path:
    """Write a batch, one object a row, with the row's number as ``idx``. ::

        write_rows(folder, {"prompt": ["1+1=", "2+2="], "reward": rewards}, "train_3.jsonl")
        # {"prompt": "1+1=", "reward": 1.0, "idx": 0}
        # {"prompt": "2+2=", "reward": 0.0, "idx": 1}

    The file appears, or takes the place of the old one, when it is whole. It has one writer at a
    time. A batch without rows is an empty file. A column that is called ``idx`` becomes ``idx_``.

    :param columns: lists, tuples, arrays, tensors on any device, or iterators, all of one length. A
        row's value is a number, a text, None, or a nested list or mapping of them; of any
        other object, its ``str()``
    :param filename: where, from the folder on; a folder in it is made if missing
    :param hide: takes the secrets out of plain values
    :return: the file
    :raises TypeError: the columns are no mapping
    :raises ValueError: they are of different lengths, or one is no column; or the name is none for
        a file in the folder, see :func:`check_place`
    :raises OSError: it cannot be written; the old file is still there then
    """
    _check_columns(columns)
    path = check_place(folder, filename)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Always the same name: what a kill leaves of it is overwritten by the next.
    draft = path.with_name(f".{path.name}.new")
    try:
        with draft.open("wb") as file:
            file.writelines(row_line(row, hide) for row in _rows(columns))
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return path


def append_lines(
    folder: Path,
    texts: Iterable[str],
    filename: str | os.PathLike[str],
    hide: Hide = lambda value: value,
) -> Path:
    """Append texts to a file, one line each.

    A text that is a value in JSON stays as it is, on one line; any other becomes a text of JSON.
    All of them arrive, or none; a kill leaves whole lines.

    :param texts: any iterable, also one that makes them as it goes
    :param filename: where, from the folder on; a folder in it is made if missing
    :param hide: takes the secrets out of plain values
    :return: the file
    :raises TypeError: one of them is no text, or all of them are a single one
    :raises ValueError: the name is none for a file in the folder, see :func:`check_place`
    :raises OSError: they cannot be written
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError("this is one text; give a list of texts, one for each line")
    path = check_place(folder, filename)
    with closing(AppendFile(path)) as file:
        file.repair()
        before = file.size
        try:
            for piece in _pieces(_text_line(text, hide) for text in texts):
                file.append(piece)
        except BaseException:
            file.truncate(before)
            raise
    return path


def _check_columns(columns: Mapping[str, Any]) -> None:
    if not isinstance(columns, Mapping):
        raise TypeError(f"a batch is a mapping of columns by name, not {type(columns).__name__}")
    lengths = {}
    for name, column in columns.items():
        if not _is_column(column):
            told = f"{name!r} is {_what(column)}, no column; give a list of one value for each row"
            raise ValueError(told)
        if hasattr(column, "__len__"):
            lengths[name] = len(column)
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise ValueError(f"the columns of a batch are of one length, not {told}")


def _is_column(column: Any) -> bool:
    if is_array(column):
        return bool(column.ndim)
    return isinstance(column, Iterable) and not isinstance(column, (str, bytes, Mapping, Set))


def _what(column: Any) -> str:
    return "a single number" if is_array(column) else f"of the type {type(column).__name__}"


def _rows(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    names = named(columns, taken=INDEX)
    for index, cells in enumerate(itertools.zip_longest(*map(_cells, columns.values()), fillvalue=_END)):
        if ended := [name for name, cell in zip(names, cells, strict=True) if cell is _END]:
            told = f"{', '.join(map(repr, ended))} end after {index} rows, others go on"
            raise ValueError(f"the columns of a batch are of one length, but {told}")
        yield {**dict(zip(names, cells, strict=True)), INDEX: index}


def _cells(column: Any) -> Iterator[Any]:
    """The values of a column; an array's in chunks, each in one transfer from its device."""
    if not is_array(column):
        yield from column
        return
    column = column.to_dense() if getattr(column, "is_sparse", False) else column  # it has no slices
    rows = max(1, _CHUNK * len(column) // max(1, int(np.prod(column.shape))))
    for start in range(0, len(column), rows):
        yield from listed(to_numpy(column[start : start + rows]))


def _text_line(text: str, hide: Hide) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"each line is a text, not {type(text).__name__}")
    text = to_utf8(text)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or nested deeper than Python reads
        return json.dumps(hide(text)).encode() + b"\n"
    safe = hide(value)
    if safe == value and hide(text) == text:  # both: JSON may give a key twice, and Python keeps one
        return text.strip().translate(_ONE_LINE).encode() + b"\n"
    return json.dumps(safe).encode() + b"\n"


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines put together, so that many short ones are few writes."""
    piece, size = [], 0
    for line in lines:
        piece.append(line)
        size += len(line)
        if size >= _PIECE_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
    if piece:
        yield b"".join(piece)
