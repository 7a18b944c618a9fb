"""Plain-text tables of two columns: laid out for a width, and read back.

Plain on purpose: a table is drawn at every dump, and a library that draws them costs
milliseconds.
"""

import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

INDENT = "   "  # before a key that stands under its tag
_CUT = "..."
_FRAME = len("|  |  |")
_KEY_WIDTHS, _VALUE_WIDTHS = (24, 60), (12, 40)  # at first, and at most: a longer one stands out
_HEADING = re.compile(r"^-- step (-?\d+) --")

Row = tuple[str, str]


def visible(text: str) -> str:
    """The text with everything that a terminal might obey written out, as ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(_visible_character(character) for character in text)


def _visible_character(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")


def cells(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def pad(text: str, width: int) -> str:
    """The text filled up with spaces."""
    return text + " " * (width - cells(text))


def keep_start(text: str, width: int) -> str:
    """The text, its end replaced by dots where it is wider than ``width``."""
    if cells(text) <= width:
        return text
    return _start(text, max(width - len(_CUT), 0)) + _CUT[:width]


def keep_both_ends(text: str, width: int) -> str:
    """The text, its middle replaced by dots where it is wider than ``width``.

    An indent stays whole.
    """
    if cells(text) <= width:
        return text
    if text.startswith(INDENT):
        return INDENT + keep_both_ends(text[len(INDENT) :], width - len(INDENT))
    room = max(width - len(_CUT), 0)
    return _start(text, room - room // 2) + _CUT[:width] + _start(text[::-1], room // 2)[::-1]


def _start(text: str, width: int) -> str:
    end = min(len(text), width)
    while cells(text[:end]) > width:
        end -= 1
    return text[:end]


def group(entries: Iterable[tuple[str, str]]) -> list[Row]:
    """Rows for keys and their texts: sorted, under a row for each tag.

    A tag is what stands before a key's first slash; keys without one come first.
    """
    entries = list(entries)
    texts = [*(text for _, text in entries), ""]
    return [(shown, texts[place]) for shown, place in _places(tuple(key for key, _ in entries))]


@functools.lru_cache(maxsize=32)  # a run has the same keys at nearly every dump
def _places(keys: tuple[str, ...]) -> list[tuple[str, int]]:
    """What each row shows as its key, and which of the keys it is; -1 for a tag."""
    tags: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for place, key in enumerate(keys):
        end = key.find("/") + 1
        tag = key[:end] if 1 < end < len(key) else ""
        tags[tag].append((key[len(tag) :], place))
    rows = sorted(tags.pop("", []))
    for tag in sorted(tags):
        rows.append((tag, -1))
        rows += [(INDENT + key, place) for key, place in sorted(tags[tag])]
    return rows


class Layout:
    """Column widths that do not jump: they grow, up to a bound, and never shrink again."""

    def __init__(self) -> None:
        self._wanted = (_KEY_WIDTHS[0], _VALUE_WIDTHS[0])

    def widths(self, rows: Sequence[Row], room: int | None) -> tuple[int, int]:
        """The widths of both columns.

        :param room: how wide the table may be in all; None for any width
        """
        # What is wider than the bound sticks out of its row rather than widen every table.
        most = _KEY_WIDTHS[1] if room is None else room, _VALUE_WIDTHS[1]
        keys, values = (
            max([wanted, *(width for width in map(cells, column) if width <= bound)])
            for wanted, bound, column in zip(self._wanted, most, zip(*rows, strict=True), strict=True)
        )
        self._wanted = keys, values
        if room is None or keys + values + _FRAME <= room:
            return keys, values
        values = min(values, max(_VALUE_WIDTHS[0], room - _FRAME - keys))
        return max(room - _FRAME - values, 1), values


def draw(rows: Sequence[Row], widths: tuple[int, int], left: str, right: str) -> str:
    """The table as lines of text, with what ``left`` and ``right`` say in its upper edge."""
    key_width, value_width = widths
    total = key_width + value_width + _FRAME
    edge, end = f"-- {left} --", f" {right} --"
    room = total - len(edge) - len(end)
    lines = [(edge + "-" * room + end) if room >= 0 else edge.ljust(total, "-")]  # too narrow for both
    fill = str.ljust if "".join(map("".join, rows)).isascii() else pad  # the same, but faster
    lines += [f"| {fill(key, key_width)} | {fill(value, value_width)} |" for key, value in rows]
    return "\n".join([*lines, "-" * total, ""])


def read(text: str, keys: Collection[str]) -> dict[str, list[tuple[int, float]]]:
    """The numbers of the tables in a text, with their steps.

    :param keys: the keys that may stand there, to tell what a shortened one was
    """
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    step, tag, left = None, "", sorted(keys)
    for line in text.splitlines():
        if heading := _HEADING.match(line):
            step, tag, left = int(heading[1]), "", sorted(keys)
        elif step is None or not line.startswith("| ") or not line.endswith(" |"):
            step = None
        else:
            key, _, value = (cell.rstrip() for cell in line[2:-2].rpartition(" | "))
            if key.startswith(INDENT):
                key = tag + key[len(INDENT) :]
            else:
                tag = key  # that of the rows below it, or else a key which has none below it
            key = _full(key, left)
            number = _number(value)
            if number is not None:
                points[key].append((step, number))
    return dict(points)


def _number(text: str) -> float | None:
    if text in ("True", "False"):
        return float(text == "True")
    try:
        return float(text)
    except ValueError:
        return None


def _full(key: str, left: list[str]) -> str:
    """The first key that may stand here, taken out of those that have not stood in this table."""
    if _CUT in key and key not in left:
        shortened = re.compile(".*".join(map(re.escape, key.split(_CUT))), re.DOTALL)
        key = next(filter(shortened.fullmatch, left), key)
    if key in left:
        left.remove(key)
    return key
