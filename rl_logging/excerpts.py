"""Texts laid out for a console: nothing in them is obeyed, and of a long one the middle is left out."""

import re
from itertools import islice

from rich.console import Console
from rich.text import Text

from rl_logging.texttable import cells, visible

_CHARACTERS = 100_000  # of a text that are looked at: laying out more takes long
_TOKEN = re.compile(r"\w{1,8}|[^\w\s]")


class Excerpts:
    """Lays out texts for one console.

    :param max_lines: how many lines of a text to show at most; None for no limit
    :param max_tokens: likewise; a token is a word, a mark, or eight letters of a longer word
    :raises ValueError: a limit below 1
    """

    def __init__(self, console: Console, max_lines: int | None, max_tokens: int | None) -> None:
        for name, limit in (("max_lines", max_lines), ("max_tokens", max_tokens)):
            if limit is not None and (not isinstance(limit, int) or limit < 1):
                raise ValueError(f"{name} is at least 1, or None for no limit, not {limit!r}")
        self._console, self._max_lines, self._max_tokens = console, max_lines, max_tokens
        self.is_cut = False
        """Whether something of any text was left out."""

    def lines(self, text: str, width: int) -> list[Text]:
        """A text as lines of a width; of too many, both ends, and what is left out between."""
        start, end, left_out = _ends(text, self._max_tokens)
        first, last = self._wrapped(start, width), self._wrapped(end, width) if end else []
        if self._max_lines is not None and (more := len(first) + len(last) - self._max_lines) > 0:
            first, last = _both_ends(first, last, self._max_lines)
            left_out.insert(0, counted(more, "line"))
        if not left_out:
            return first
        self.is_cut = True
        notice = Text(f"... {' and '.join(left_out)} left out ...", style="dim")
        return [*first, *notice.wrap(self._console, width), *last]

    def _wrapped(self, text: str, width: int) -> list[Text]:
        lines: list[Text] = []
        for line in map(self.visible, text.expandtabs(4).split("\n")):
            is_wide = cells(line) > width
            lines += Text(line).wrap(self._console, width) if is_wide else [Text(line)]
        return lines

    def visible(self, line: str) -> str:
        """A line with all written out that this console obeys or cannot show."""
        encoding = self._console.encoding
        return visible(line).encode(encoding, "backslashreplace").decode(encoding)


def _ends(text: str, max_tokens: int | None) -> tuple[str, str, list[str]]:
    """Both ends of a text that is too long, and what is left out between; else all of it."""
    start, end, left_out = text, "", list[str]()
    if max_tokens is not None and (left := sum(1 for _ in _TOKEN.finditer(text)) - max_tokens) > 0:
        head = max_tokens - max_tokens // 2
        start = text[: _token(text, head - 1).end()]
        end = text[_token(text, head + left).start() :] if max_tokens > 1 else ""
        left_out.append(counted(left, "token"))
    half, length = _CHARACTERS // 2, len(start) + len(end)
    if length > _CHARACTERS:
        start, end = start[:half], (end if left_out else start)[-half:]
        left_out.append(counted(length - len(start) - len(end), "character"))
    return start, end, left_out


def _token(text: str, place: int) -> re.Match[str]:
    return next(islice(_TOKEN.finditer(text), place, None))


def _both_ends(first: list[Text], last: list[Text], most: int) -> tuple[list[Text], list[Text]]:
    """So many lines of both: what was left out between them stays where it was."""
    tail = most // 2
    if not last:
        return first[: most - tail], first[len(first) - tail :]
    head = min(len(first), max(most - tail, most - len(last)))
    return first[:head], last[len(last) - (most - head) :]


def counted(number: int, what: str) -> str:
    """A number of things, in words."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
