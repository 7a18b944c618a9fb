"""What the demo shows in the end: the run folder, and what arrived where."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from rl_logging.contents import KINDS, count
from rl_logging.formats.base import Sender
from rl_logging.plots import learning_curve
from rl_logging.readers import Comparison, compare, journal_history, read_records


def report(
    folder: Path,
    outputs: Sequence[Sender],
    screen: Console,
    curves: Mapping[str, str],
    title: str,
    unit: str = "return",
) -> int:
    """Read every output of a run back, and show what is there beside what the journal has.

    :param curves: the keys of the learning curve, and what to call them; the first one is in the table
    :return: 0 if every output holds what the journal says it must, else 1
    """
    screen.print("\nReading every output back.")
    records = read_records(folder)
    history = journal_history(records)
    picture = learning_curve(history, folder / "learning_curve.png", curves, title, unit)
    comparisons = [compare(output, records) for output in outputs]
    screen.print(tree(folder))
    screen.print(table([Comparison("journal", history), *comparisons], next(iter(curves))))
    screen.print(contents(comparisons, count(records)))
    screen.print(f"Learning curve: {picture}")
    for output in outputs:
        if command := output.viewer():
            screen.print(f"To open {output.name}: {command}", soft_wrap=True)
    return int(any(comparison.differences for comparison in comparisons))


def _without(comparison: Comparison) -> str:
    """What an output was never to hold, or holds besides, in words."""
    parts = {
        "excluded": comparison.excluded,
        "beyond its limits": max(comparison.beyond_limits, 0),
        "of its own, for histograms": max(-comparison.beyond_limits, 0),
    }
    words = ", ".join(f"{count} points {why}" for why, count in parts.items() if count)
    return f" ({words})" if words else ""


def tree(folder: Path) -> Tree:
    """The files of a run folder, with their sizes."""
    shown = Tree(Text(f"{folder}/"))
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            files = [file for file in path.rglob("*") if file.is_file()]
            size = decimal(sum(file.stat().st_size for file in files))
            shown.add(Text(f"{path.name}/  {len(files)} files, {size}"))
        else:
            shown.add(Text(f"{path.name}  {decimal(path.stat().st_size)}"))
    return shown


def contents(comparisons: list[Comparison], records: dict[str, int]) -> Table:
    """What each tracker holds besides numbers, by kind.

    :param records: what the journal has
    """
    columns = {"journal": records, **{c.output: c.contents for c in comparisons if c.contents}}
    shown = Table(title="Besides numbers", title_justify="left", box=box.SIMPLE_HEAD)
    shown.add_column("kind", no_wrap=True)
    for name in columns:
        shown.add_column(name, justify="right", overflow="fold")
    for kind in (kind for kind in KINDS if records.get(kind)):
        shown.add_row(kind, *(str(counts.get(kind, 0)) for counts in columns.values()))
    return shown


def table(comparisons: list[Comparison], key: str) -> Table:
    """Every output against the journal, with the last value of one key."""
    shown = Table(title="What arrived where", title_justify="left")
    shown.add_column("output", overflow="fold")
    for name in ("keys", "points", f"last {key}"):
        shown.add_column(name, justify="right", overflow="fold")
    shown.add_column("against the journal", overflow="fold")
    for comparison in comparisons:
        last = comparison.last(key)
        shown.add_row(
            comparison.output,
            str(len(comparison.history)),
            str(comparison.points),
            "-" if last is None else f"{last:.7g}",
            Text("\n".join(comparison.differences) or f"equal{_without(comparison)}"),
        )
    return shown
