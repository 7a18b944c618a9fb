"""Tables for people: the console, and ``train.log`` to be inspected later.

One table a dump, keys sorted and grouped by what stands before their first slash::

    -- step 2048 ---------------------- 14:03:22 --
    | rollout/                 |              |
    |    ep_rew_mean           | 22.1         |
    -----------------------------------------------

A file is never truncated. A console's table fits the terminal; where a key must be
shortened, both its ends stay. Control characters are shown, not sent to the terminal.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from stable_baselines3.common.logger import HumanOutputFormat

from rl_logging import texttable
from rl_logging.appendfile import AppendFile
from rl_logging.formats.base import History, Sender
from rl_logging.formats.sb3 import OutputFormat
from rl_logging.hyperparams import FILE_NAME
from rl_logging.record import Record
from rl_logging.texttable import Layout, keep_both_ends, keep_start, visible
from rl_logging.values import Value, number_text, short_text, to_float

_CONSOLE_DIGITS, _FILE_DIGITS = 5, 7  # 7 is what a float32 holds
_NARROWEST = 20


class FixedHumanOutputFormat(OutputFormat, HumanOutputFormat):
    """Write each dump as a table of text.

    :param filename_or_file: a path, which is appended to, or an open text stream; None, as
        ``sys.stdout`` is in a daemon, is shown to nobody
    :param max_length: the longest key and value to show; by default what the terminal's
        width allows, and no limit in a file
    :param name: what ``exclude`` calls it; by default ``"log"`` for a path, else ``"stdout"``
    :raises ValueError: ``filename_or_file`` is neither a path nor a stream, or a length below 1
    """

    unsupported = frozenset({"video", "image", "figure", "hparam"})

    def __init__(
        self,
        filename_or_file: str | Path | TextIO | None,
        max_length: int | None = None,
        *,
        name: str | None = None,
    ) -> None:
        self.filename_or_file = filename_or_file
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be at least 1, or None for no limit, not {max_length!r}")
        self.max_length = max_length  # type: ignore[assignment]
        self.own_file = isinstance(filename_or_file, (str, Path))
        super(HumanOutputFormat, self).__init__()
        Sender.__init__(self, name=name or ("log" if self.own_file else "stdout"))
        self._layout = Layout()
        self._digits = _FILE_DIGITS if self.own_file else _CONSOLE_DIGITS
        if isinstance(filename_or_file, (str, Path)):
            self._file = AppendFile(filename_or_file)
            self._file.repair()
        elif filename_or_file is None or hasattr(filename_or_file, "write"):
            self.file = filename_or_file  # type: ignore[assignment]
        else:
            raise ValueError(f"expected a path or a text stream, got {filename_or_file!r}")

    @classmethod
    def in_folder(cls, folder: Path, /, **arguments: Any) -> Sender:
        usual = sys.stdout if arguments["name"] == "stdout" else folder / "train.log"
        return cls(**{"filename_or_file": usual, **arguments})

    def emit(self, record: Record) -> None:
        rows = texttable.group((self.rename(k), self._shown(v)) for k, v in record.values.items())
        if self.max_length is not None:
            rows = [(keep_both_ends(k, self.max_length), keep_start(v, self.max_length)) for k, v in rows]
        room = self._room()
        widths = self._layout.widths(rows, room)
        if room is not None:
            rows = [(keep_both_ends(k, widths[0]), keep_start(v, widths[1])) for k, v in rows]
        self._write(texttable.draw(rows, widths, f"step {record.step}", self._clock(record)))

    def emit_text(self, record: Record) -> None:
        self._say(record, record.values["message"], record.values["level"])

    def _say(self, record: Record, message: str, level: str = "info") -> None:
        # Lines after the first are indented, so that no message can pass for a table.
        text = "\n  ".join(map(visible, message.expandtabs(4).split("\n")))
        if self.own_file:
            text = f"{self._clock(record)} {level.upper():5} {text}"
        self._write(text + "\n")

    def emit_hyperparameters(self, record: Record) -> None:
        names = ", ".join(record.values)
        self._say(record, f"hyperparameters ({FILE_NAME}): {names}")

    def emit_artifact(self, record: Record) -> None:
        for name, value in record.values.items():
            kind = value.about.get("type", "artifact")
            self._say(record, f"{name if kind == name else f'{name} ({kind})'}: {value.file}")

    def rename(self, key: str) -> str:
        if (shown := self._names.get(key)) is None:
            shown = self._names[key] = visible(key)
        return shown

    def held(self, value: float, step: int) -> float:
        return to_float(value) if isinstance(value, int) else float(number_text(value, self._digits))

    def history(self) -> History:
        if self.own_file:
            text = self._file.path.read_text("utf-8")
        else:
            text = self.file.getvalue()  # type: ignore[attr-defined]
        return texttable.read(text, self._names.values())

    def close(self) -> None:
        if self.own_file:
            self._file.close()

    def _shown(self, value: Value) -> str:
        if isinstance(value, (int, float)):
            return number_text(value, self._digits)
        return visible(value if isinstance(value, str) else short_text(value))

    def _clock(self, record: Record) -> str:
        return time.strftime(
            "%Y-%m-%d %H:%M:%S" if self.own_file else "%H:%M:%S", time.localtime(record.time)
        )

    def _room(self) -> int | None:
        """The terminal's width, or None where nothing needs to fit."""
        if self.own_file:
            return None
        stream: Any = self._stream()
        try:
            columns = os.get_terminal_size(stream.fileno()).columns
            return max(columns, _NARROWEST) if columns else None  # 0 where nobody has told the terminal
        except (OSError, ValueError, AttributeError):  # no terminal, or no file behind the stream
            return None

    def _stream(self) -> TextIO | None:
        # Progress bars and notebooks replace sys.stdout to keep their line free of ours.
        is_stdout = getattr(self.file, "name", None) == "<stdout>"
        return sys.stdout if is_stdout else self.file

    def _write(self, text: str) -> None:
        if self.own_file:
            self._file.append(text.encode())
            return
        if (stream := self._stream()) is None:
            return
        encoding = getattr(stream, "encoding", None) or "utf-8"
        if not text.isascii():
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        tqdm = sys.modules.get("tqdm")
        if tqdm is not None and stream is sys.stdout:
            tqdm.tqdm.write(text, file=stream, end="")  # clears a bar and draws it again below
        else:
            stream.write(text)
        stream.flush()
