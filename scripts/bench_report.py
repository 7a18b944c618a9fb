"""How the benchmarks show what they measured: a table in Markdown, and how it was measured."""

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

_WIDTH = 240  # characters: a line of the table is never wrapped


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], how: str) -> None:
    """Print a table, and a line that says how it was measured."""
    table = Table(*columns, box=box.MARKDOWN)
    for row in rows:
        table.add_row(*row)
    console = Console(width=_WIDTH, highlight=False, markup=False)
    with console.capture() as drawn:
        console.print(table)
    lines = [line.rstrip() for line in drawn.get().splitlines() if line.strip()]
    print("", *lines, "", how, sep="\n", flush=True)


def progress(what: str) -> None:
    """Say what is measured now, apart from the results."""
    print(what, file=sys.stderr, flush=True)


def quantile(numbers: Sequence[float], share: float) -> float:
    """The number below which that share of them lies."""
    return sorted(numbers)[int(share * len(numbers))]


def us(nanoseconds: float) -> str:
    """Nanoseconds as microseconds."""
    return f"{nanoseconds / 1000:,.0f}"
