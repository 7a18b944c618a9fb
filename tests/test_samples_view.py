"""The console view of samples: what people see, and that nothing in a model's words is obeyed."""

import io
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress

from rl_logging.samples import Sample, choose, to_samples
from rl_logging.samples_view import print_samples

SNAPSHOTS = Path(__file__).parent / "data" / "samples"
HOSTILE: dict[str, Any] = {
    "markup": "[bold red]not bold[/] [/] [link=http://x]y[/link] :smile:",
    "ansi": "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J",
    "right to left": "\u202eabc \u2066שלום\u2069 مرحبا",
    "emoji": "😀👩\u200d👩\u200d👧 e\u0301 日本語",
    "control": "over\rwritten\b\v\f\x00 a\tb\x7f\u2028c",
    "long": "word " * 20_000,
    "without spaces": "x" * 100_000,
    "many lines": "a\n" * 50_000,
    "empty": "",
    "spaces": " \n\n ",
}


def conversation(answer: Any, question: str = "2 + 2?") -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def shown(
    logs: Any,
    rewards: Any,
    references: Any = None,
    *,
    width: int = 60,
    color: bool = False,
    count: int | None = None,
    **options: Any,
) -> str:
    """What is printed, the samples in the order of their batch."""
    text = io.StringIO()
    system: Any = "standard" if color else None
    console = Console(file=text, width=width, force_terminal=color, color_system=system)
    samples = to_samples(logs, rewards, references)
    print_samples(choose(samples, count, "first"), rewards, 40, console=console, **options)
    return text.getvalue()


# Exact pictures


def recorded(name: str, text: str) -> str:
    """The snapshot of that name; written anew where the environment asks for it."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("RL_LOGGING_SNAPSHOTS") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return path.read_bytes().decode()


@pytest.mark.parametrize("width", [60, 120])
def test_hostile_samples_look_as_recorded(width: int) -> None:
    """Whatever a model writes, the panels around it stand, and its characters are seen."""
    logs = [conversation(text) for text in HOSTILE.values()]
    references = [None, "\x1b[2J[/]", "שלום", *[None] * 5, "[blink]", ""]
    rewards = [1.0, 0.0, 0.5, 0.5, -1.0, float("nan"), 0.25, 1.0, 0.0, 1.0]

    text = shown(logs, rewards, references, width=width, max_lines=6, file="runs/a/samples/val_samples.jsonl")

    assert text == recorded(f"hostile_{width}", text)


@pytest.mark.parametrize("width", [60, 120])
def test_usual_samples_look_as_recorded(width: int) -> None:
    """Roles, tools, pictures, references and episodes, with colours."""
    call = {"id": "1", "type": "function", "function": {"name": "multiply", "arguments": '{"a": 17}'}}
    tools = [
        {"role": "system", "content": "You are careful."},
        {"role": "user", "content": [{"type": "text", "text": "See:"}, {"type": "image", "image": "a.png"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "391"},
        {"role": "assistant", "content": "It is 391."},
    ]
    episode = {"observations": np.eye(3), "actions": [0, 1], "rewards": [1.0, 0.5]}
    rewards = [1.0, 0.25, 1.5]

    text = shown([tools, conversation("5"), episode], rewards, ["391", "4", None], width=width, color=True)

    assert text == recorded(f"usual_{width}", text)


def test_in_28_columns_all_fits() -> None:
    """A pane of a divided terminal is narrow; the reward stays in a sample's title."""
    lines = shown([conversation("The answer is 4.")], [0.123456], ["4"], width=28).splitlines()

    assert {cell_len(line) for line in lines} == {28}
    assert "1/1, reward 0.1235" in lines[6]


# Whatever is in a text


anything = st.text() | st.sampled_from(list(HOSTILE.values())[:5])


@given(st.lists(st.tuples(anything, anything)), anything, st.integers(4, 140))
def test_no_control_character_is_printed(messages: list[tuple[str, str]], reference: str, width: int) -> None:
    """A model's words must not move the cursor, set the title, or hide a line."""
    calls = [{"function": {"name": reference, "arguments": {reference: reference}}}]
    log = [{"role": role, "content": text, "tool_calls": calls} for role, text in messages]

    text = shown([log], [1.0], [reference], width=width, name=reference, file=reference, max_lines=3)

    assert {c for c in text if unicodedata.category(c)[0] == "C"} <= {"\n"}
    assert max(map(cell_len, text.splitlines())) <= width


def test_markup_and_escapes_are_shown_as_they_are() -> None:
    """What a model wrote is what people want to know."""
    text = shown([conversation("[bold]a[/] \x1b[31mb\r\u202ec")], [1.0])

    assert "│   [bold]a[/] \\x1b[31mb\\r\\u202ec" in text


def test_a_text_cannot_pass_for_another_message() -> None:
    """Roles stand at the edge, and what was said is indented."""
    text = shown([conversation("4\nuser\nignore that")], [1.0])

    assert [line for line in text.splitlines() if line.startswith("│ user")] == [f"│ {'user':56} │"]


# What is left out


def test_of_a_long_text_both_ends_are_shown() -> None:
    """The answer stands at the end; how it began is of interest, too."""
    text = shown([conversation("\n".join(map(str, range(100))))], [1.0], max_lines=5, file="all.jsonl")

    lines = [line.strip("│ ") for line in text.splitlines()]
    assert lines[lines.index("assistant") + 1 :][:6] == [*"012", "... 95 lines left out ...", "98", "99"]
    assert lines[-1] == "All of what is left out here is in all.jsonl"


def test_a_text_that_is_shown_whole_needs_no_file() -> None:
    """The line about the file would be a lie."""
    assert "all.jsonl" not in shown([conversation("4")], [1.0], file="all.jsonl")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1, ["one", "... 4 tokens left out ..."]),
        (2, ["one", "... 3 tokens left out ...", "!"]),
        (3, ["one,", "... 2 tokens left out ...", "!"]),
        (5, ["one, twothreefour!"]),
    ],
)
def test_tokens_are_words_marks_and_eight_letters_of_long_words(limit: int, expected: list[str]) -> None:
    """No tokenizer is at hand; what counts as a token is said, and is so."""
    text = shown([conversation("one, twothreefour!")], [1.0], max_tokens=limit)

    lines = [line.strip("│ ") for line in text.splitlines()]
    assert lines[lines.index("assistant") + 1 : -1] == expected


def test_both_limits_leave_out_one_middle() -> None:
    """What is missing is counted, in lines and in tokens."""
    text = shown([conversation("a\n" * 50 + "b\n" * 50)], [1.0], max_tokens=20, max_lines=4)

    lines = [line.strip("│ ") for line in text.splitlines()]
    assert lines[lines.index("assistant") + 1 : -1] == [
        "a",
        "a",
        "... 17 lines and 80 tokens left out ...",
        "b",
        "",
    ]


def test_of_a_huge_text_a_part_is_looked_at() -> None:
    """Laying out megabytes at each validation would hold up training."""
    text = shown([conversation("x" * 3_000_000)], [1.0], max_lines=2)

    assert "... 1,850 lines and 2,900,000 characters left out ..." in text


def test_of_a_long_conversation_both_ends_are_shown() -> None:
    """An agent takes a hundred turns."""
    log = [{"role": "user", "content": f"turn {number}"} for number in range(100)]

    text = shown([log], [1.0], max_lines=5)

    turns = [line.split()[2] for line in text.splitlines() if "turn" in line]
    assert turns == ["0", "1", *map(str, range(90, 100))]
    assert "... 88 messages left out ..." in text


@pytest.mark.parametrize("limits", [{"max_lines": 0}, {"max_tokens": -1}, {"max_lines": "3"}])
def test_a_limit_below_one_is_refused(limits: dict[str, Any]) -> None:
    """0 might mean all or nothing."""
    with pytest.raises(ValueError, match="is at least 1, or None for no limit"):
        shown([], [], **limits)


# Rewards


def bars(rewards: list[float]) -> list[str]:
    """The lines of the panel of rewards."""
    lines = [line.strip("│ ") for line in shown(["a"] * len(rewards), rewards, count=1).splitlines()]
    return lines[2 : next(place for place, line in enumerate(lines) if line.startswith("╰"))]


def test_each_level_of_rewards_has_a_bar() -> None:
    """A verifier gives 0 or 1: how many of each is the first question."""
    assert bars([1, 0, 0, 0.5, 0, 0]) == [
        "6 rewards, mean 0.25, min 0, max 1",
        f"0 {'█' * 40} 4",
        f"0.5 {'█' * 10} 1",
        f"1 {'█' * 10} 1",
    ]


def test_of_many_levels_there_are_ten_groups() -> None:
    """A learned reward has as many levels as there are samples."""
    lines = bars([float(number) for number in range(100)])

    assert len(lines) == 11
    assert lines[1].startswith("0 to 9.9 █")
    assert {line.split()[-1] for line in lines[1:]} == {"10"}


@pytest.mark.parametrize(
    ("rewards", "told"),
    [
        ([float("nan")] * 2, "2 rewards, 2 not finite"),
        ([float("inf"), 1.0], "2 rewards, mean 1, min 1, max 1, 1 not finite"),
        ([-1e308, 1e308], "2 rewards, mean 0, min -1e+308, max 1e+308"),
        ([0.0, 5e-324], "2 rewards, mean 0, min 0, max 4.941e-324"),
    ],
)
def test_rewards_at_the_edges_of_numbers_are_told(rewards: list[float], told: str) -> None:
    """A reward model that fails gives NaN."""
    assert bars(rewards)[0] == told


def test_without_samples_there_is_a_short_line() -> None:
    """An empty validation set is a mistake that should be seen, and no reason to stop."""
    assert shown([], []) == "samples, step 40: none to show\n"


def test_a_conversation_without_messages_is_shown_as_such() -> None:
    """Filters may leave nothing of it."""
    assert "│ (no messages)" in shown([[]], [1.0])


# Consoles that fail


def test_a_closed_console_is_told_of_and_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A notebook or a launcher may take standard output away."""
    text = io.StringIO()
    console = Console(file=text)
    text.close()

    print_samples([Sample((), 1.0, None, 0)], [1.0], 3, console=console)

    assert "the samples of step 3 are not shown: ValueError" in caplog.text


def test_without_standard_output_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon has none."""
    monkeypatch.setattr(sys, "stdout", None)

    print_samples([Sample((), 1.0, None, 0)], [1.0], 3)


CHILD = """
import sys
from rl_logging.samples import to_samples
from rl_logging.samples_view import print_samples

sys.stdin.readline()
print_samples(to_samples(["\u05e9 \u2588 4"], [1.0]), [1.0], 3)
print("goes on", file=sys.stderr)
"""


def test_a_pipe_that_nobody_reads_does_not_end_the_process() -> None:
    """``python train.py | head`` must not stop the training."""
    command = [sys.executable, "-c", CHILD]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:
        assert child.stdout is not None
        child.stdout.close()
        child.stdout = None
        _, told = child.communicate("\n")

    assert "the samples of step 3 are not shown: BrokenPipeError" in told
    assert "goes on" in told


def test_a_console_that_has_ascii_only_gets_ascii() -> None:
    """The locale of many containers is C."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "60"}
    run = subprocess.run(
        [sys.executable, "-c", CHILD], input=b"\n", env=environment, capture_output=True, check=True
    )

    assert run.stdout.isascii()
    assert rb"|   \u05e9 \u2588 4" in run.stdout


def test_a_progress_bar_keeps_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in for standard output is written to: it clears the bar first."""
    stream = io.StringIO()
    screen = Console(file=stream, width=60, force_terminal=True, color_system=None)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with Progress(console=screen, auto_refresh=False) as bar:
            bar.add_task("GRPO", total=2)
            bar.refresh()
            print_samples(to_samples(["four words"], [1.0]), [1.0], 3)

    lines = [line for line in stream.getvalue().splitlines() if "step 3" in line]
    assert len(lines) == 1
    assert "GRPO" not in lines[0]
