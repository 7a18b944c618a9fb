"""Samples for people, on the console: what the rewards are like, and a panel for each sample.

What a model wrote is text here and nothing else: no markup, no escape sequence, no carriage
return in it is obeyed. Every character that a terminal might obey is written out, as ``\\x1b``.
"""

import logging
import math
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from rl_logging.conversations import Message
from rl_logging.excerpts import Excerpts, counted
from rl_logging.histograms import bins_of, stats_of
from rl_logging.samples import MAX_LINES, Sample
from rl_logging.texttable import keep_start
from rl_logging.values import describe, number_text, to_numpy

_SIDE_BY_SIDE = 100  # columns of a terminal from which on a reference has room beside the response
_MESSAGES = 12  # of a conversation that are shown
_BARS, _BAR = 10, 40  # how many levels of rewards, and columns for the longest
_DIGITS = 4
_FRAME = len("|  |")
_GAP = 3  # columns between what stands side by side
_INDENT = "  "
_ROLES = {"system": "magenta", "user": "blue", "assistant": "green", "tool": "cyan"}
_log = logging.getLogger("rl_logging")


def print_samples(
    samples: Sequence[Sample],
    rewards: Sequence[float],
    step: int,
    *,
    max_lines: int | None = MAX_LINES,
    max_tokens: int | None = None,
    name: str = "samples",
    file: str = "",
    console: Console | None = None,
) -> None:
    """Show samples on the console. A console that cannot be written to is told of, and raises nothing.

    :param samples: those to show, as :func:`rl_logging.samples.choose` gives them
    :param rewards: of all samples of the batch, for the figures above
    :param max_lines: of a longer message the middle is left out; None for no limit
    :param max_tokens: likewise; a token is a word, a mark, or eight letters of a longer word
    :param name: what they are called
    :param file: where the whole texts are, to be named where one is cut
    :param console: by default standard output
    :raises ValueError: a limit below 1
    """
    is_own, console = console is None, console or Console()
    # Not what rich takes for it: a progress bar may stand in its way, to keep its line free.
    stream = sys.stdout if is_own and sys.stdout is not None else console.file
    page = _Page(console, Excerpts(console, max_lines, max_tokens), rewards)
    try:
        # Not console.print: where nobody reads a pipe any more, rich would end the process.
        with console.capture() as capture:
            console.print(*page.parts(samples, f"{name}, step {step}", file), sep="")
        shown = capture.get()
        stream.write(shown.encode(console.encoding, "replace").decode(console.encoding))
        stream.flush()
    except (OSError, ValueError) as error:  # it is closed, or nobody is at its other end
        _log.warning("the samples of step %s are not shown: %s", step, describe(error))


class _Page:
    """What is shown of one batch.

    :param rewards: of the whole batch
    """

    def __init__(self, console: Console, excerpts: Excerpts, rewards: Sequence[float]) -> None:
        self._console, self._excerpts = console, excerpts
        self._rewards: list[float] = np.asarray(to_numpy(rewards), float).tolist()
        self._stats = stats_of(np.asarray(self._rewards, float))
        self._inner = max(console.width - _FRAME, 1)

    def parts(self, samples: Sequence[Sample], heading: str, file: str) -> Iterator[RenderableType]:
        """All that is to be shown, from above to below."""
        heading = self._excerpts.visible(heading)
        if not samples:
            yield Text(f"{heading}: none to show")
            return
        yield Rule(Text(f"{heading}: {len(samples)} of {len(self._rewards)}"))
        yield self._statistics()
        for number, sample in enumerate(samples, 1):
            yield self._sample(f"{number}/{len(samples)}", sample)
        if self._excerpts.is_cut and file:
            yield Text(self._excerpts.visible(f"All of what is left out here is in {file}"))

    def _statistics(self) -> RenderableType:
        shown = [counted(len(self._rewards), "reward")]
        if self._stats["count"] > self._stats["not_finite"]:
            shown += [f"{name} {_number(self._stats[name])}" for name in ("mean", "min", "max")]
        if others := self._stats["not_finite"]:
            shown.append(f"{others} not finite")
        bars = self._bars(_levels(self._rewards))
        return Panel(Group(Text(", ".join(shown)), *bars), title=Text("rewards"), width=self._console.width)

    def _bars(self, levels: Sequence[tuple[str, float, int]]) -> Iterator[Text]:
        """A bar for each level: its name, a reward in it, and how many are."""
        names = max((len(name) for name, _, _ in levels), default=0)
        most = max((count for _, _, count in levels), default=1)
        room = max(min(_BAR, self._inner - names - len(str(most)) - 2), 1)
        mark = "\N{FULL BLOCK}" if self._console.encoding.startswith("utf") else "#"
        for name, reward, count in levels:
            bar = mark * max(round(room * count / most), 1 if count else 0)
            yield Text.assemble(f"{name:>{names}} ", (bar, self._colour(reward)), f" {count}" if bar else "0")

    def _sample(self, number: str, sample: Sample) -> RenderableType:
        # What stands last is cut off where the console is narrow.
        title = f"{number}, reward {_number(sample.reward)}, sample {sample.index}"
        return Panel(
            Group(*self._body(sample)),
            title=Text(keep_start(title, self._inner - len("  "))),
            border_style=self._colour(sample.reward),
            width=self._console.width,
        )

    def _body(self, sample: Sample) -> Iterator[RenderableType]:
        messages, response = sample.messages, sample.response_place
        if not messages:
            yield _aside("(no messages)")
        left_out = range(2, len(messages) - _MESSAGES + 2)
        for place, message in enumerate(messages):
            if place == 2 and left_out:
                self._excerpts.is_cut = True
                yield _aside(f"... {counted(len(left_out), 'message')} left out ...")
            if place == response and sample.reference is not None:
                yield from self._compared(message, sample.reference)
            elif place not in left_out:
                yield self._message(message.role, message.text, self._inner)
        if not messages and sample.reference is not None:
            yield self._message("reference", sample.reference, self._inner)

    def _compared(self, response: Message, reference: str) -> Iterator[RenderableType]:
        """The response and what was wanted, side by side where there is room."""
        if self._console.width < _SIDE_BY_SIDE:
            yield self._message(response.role, response.text, self._inner)
            yield self._message("reference", reference, self._inner)
            return
        width = (self._inner - _GAP) // 2
        left = self._message(response.role, response.text, width)
        both = Table.grid()
        for column_width in (width, _GAP, width):
            both.add_column(width=column_width, no_wrap=True)
        both.add_row(left, "", self._message("reference", reference, width))
        yield both

    def _message(self, role: str, text: str, width: int) -> Text:
        """A message, its lines indented, so that none of them can pass for another's role."""
        lines = self._excerpts.lines(text, max(width - len(_INDENT), 1)) if text else [_aside("(empty)")]
        heading = keep_start(self._excerpts.visible(role), width)
        heading_style = f"bold {_ROLES.get(role, '')}".strip()
        return Text("\n").join([Text(heading, heading_style), *(Text(_INDENT) + line for line in lines)])

    def _colour(self, reward: float) -> str:
        """Green for the best third of the rewards' range, red for the worst."""
        low, high = self._stats["min"], self._stats["max"]
        if math.isnan(reward):
            return "magenta"
        if low == high:
            return "cyan"
        if reward < low * 2 / 3 + high / 3:
            return "red"
        return "yellow" if reward < low / 3 + high * 2 / 3 else "green"


def _levels(rewards: Sequence[float]) -> list[tuple[str, float, int]]:
    """The levels of rewards, ten at most: what each is called, a reward in it, and how many are."""
    named: dict[str, list[float]] = {}
    for reward in sorted(filter(math.isfinite, rewards)):
        named.setdefault(_number(reward + 0.0), []).append(reward)  # of -0.0, 0
        if len(named) > _BARS:
            break
    else:
        return [(name, group[0], len(group)) for name, group in named.items()]
    counts, edges = bins_of(np.asarray(rewards, float), _BARS)
    return [
        (f"{_number(low)} to {_number(high)}", low / 2 + high / 2, int(count))
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
    ]


def _number(value: float) -> str:
    return number_text(value, _DIGITS)


def _aside(words: str) -> Text:
    """Words of ours among those of others."""
    return Text(words, style="dim")
