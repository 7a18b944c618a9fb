"""Samples: what becomes one, which are chosen, and where they arrive."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from awkward import FalseClass, Hostile, HostileText
from hypothesis import given
from hypothesis import strategies as st
from runs import empty_store, mlflow_run
from tensorboard_folder import events
from test_tensorboard_values import Cells

from rl_logging import Logger, configure
from rl_logging.distributed.reducer import Gathered
from rl_logging.journal import read
from rl_logging.rich import Media
from rl_logging.rollouts import _CHARACTERS, _ROWS
from rl_logging.samples import COLUMNS, WAYS, Sample, choose, to_samples

NAN = float("nan")
PLANTED = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"
BATCH = [
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"{number} + 1?"},
        {"role": "assistant", "content": f"It is {number + 1}."},
    ]
    for number in range(6)
]
REWARDS = [0.5, 1.0, 0.0, 0.25, 1.0, -1.0]


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[Logger]:
    with configure(tmp_path / "run", []) as made:
        yield made


def lines(run: Path, name: str = "val_samples") -> list[dict[str, Any]]:
    """The samples in the run folder."""
    text = (run / "samples" / f"{name}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def tables(run: Path) -> list[Media]:
    """What the journal has of tables."""
    values = [value for record in read(run / "journal.jsonl") for value in record.values.values()]
    return [value for value in values if isinstance(value, Media) and value.kind == "table"]


def rows(media: Media, run: Path) -> list[list[Any]]:
    """The rows of a table, as they were when it was logged."""
    text = (run / media.file).read_bytes()[: media.about["bytes"]].decode()
    return [json.loads(line) for line in text.split("\n")[1:-1]]


def run_of(logger: Logger) -> Path:
    return Path(str(logger.dir))


# Conversations


def only(log: Any) -> Sample:
    (sample,) = to_samples([log], [1.0])
    return sample


def test_a_conversation_has_a_prompt_and_a_response() -> None:
    """People compare what was asked with what came of it."""
    sample = to_samples(BATCH[:1], [0.5], [3])[0]

    assert sample.row(7) == (7, 0, 0.5, "system: Be brief.\n\nuser: 0 + 1?", "It is 1.", "3")


def test_what_follows_the_response_is_no_part_of_the_prompt() -> None:
    """An environment answers last, with what it made of the response."""
    sample = only([*BATCH[0], {"role": "environment", "content": "wrong"}])

    assert (sample.prompt.count("\n\n"), sample.response) == (1, "It is 1.")


@pytest.mark.parametrize(
    ("log", "response"), [("4", "4"), ([{"role": "user", "content": "a"}], "a"), ([], "")]
)
def test_without_an_assistant_the_last_message_is_the_response(log: Any, response: str) -> None:
    """Completions of a base model have no roles."""
    assert (only(log).prompt, only(log).response) == ("", response)


def test_token_ids_and_other_keys_are_ignored() -> None:
    """NeMo-RL's messages carry tensors of thousands of tokens."""
    sample = only([{"role": "assistant", "content": "4", "token_ids": torch.arange(9), "loss_mask": [1]}])

    assert json.loads(sample.line(1))["messages"] == [{"role": "assistant", "content": "4"}]


@pytest.mark.parametrize("arguments", ['{"a": 17}', {"a": 17}], ids=["text", "mapping"])
def test_tool_calls_are_text_for_people_and_whole_in_the_file(arguments: Any) -> None:
    """What an agent did is in its calls; content is often None then."""
    call = {"id": "1", "type": "function", "function": {"name": "square", "arguments": arguments}}
    sample = only([{"role": "assistant", "content": None, "tool_calls": [call]}])

    assert sample.response == '-> square({"a": 17})'
    assert json.loads(sample.line(1))["messages"] == [
        {"role": "assistant", "content": None, "tool_calls": [call]}
    ]


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        ({"type": "text", "text": "hello"}, "hello"),
        ("hello", "hello"),
        ({"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}, "<image https://x.org/a.png>"),
        ({"type": "image", "image": Path("a/b.png")}, "<image a/b.png>"),
        ({"type": "image", "url": "a.png"}, "<image a.png>"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}, "<image (image/png)>"),
        ({"type": "image", "image": np.zeros((2, 2))}, "<image (ndarray)>"),
        ({"type": "image", "image": b"QUJD"}, "<image (bytes)>"),
        ({"type": "image", "image": "QUJD" * 200}, "<image (800 characters)>"),
        ({"type": "input_audio", "input_audio": {"data": "QUJD"}}, "<input_audio (NoneType)>"),
    ],
    ids=str,
)
def test_pictures_are_there_by_reference_only(part: Any, shown: str) -> None:
    """A picture's bytes in a text are megabytes of nothing."""
    sample = only([{"role": "user", "content": [part]}])

    assert sample.response == shown
    assert b"QUJD" not in sample.line(1)


# Episodes


def test_an_episode_is_a_line_for_each_step() -> None:
    """An ordinary environment has no words; its steps are what there is to see."""
    episode = {
        "observations": torch.tensor([[0.5, 1.0], [0.25, 2.0], [0.0, 3.0]]),
        "actions": np.array([1, 0]),
        "rewards": [1, 0.5],
    }
    (sample,) = to_samples([episode])

    assert (sample.reward, sample.prompt) == (1.5, "")
    assert sample.response == "0: [0.5 1] -> 1, reward 1\n1: [0.25 2] -> 0, reward 0.5\n2: [0 3] (end)"
    assert json.loads(sample.line(1))["messages"] == [
        {
            "role": "episode",
            "content": [
                {"observation": [0.5, 1.0], "action": 1, "reward": 1},
                {"observation": [0.25, 2.0], "action": 0, "reward": 0.5},
                {"observation": [0.0, 3.0]},
            ],
        }
    ]


def test_nested_and_large_observations_are_shown_by_their_shape() -> None:
    """A picture at each of a thousand steps would be a file of a gigabyte."""
    episode = {
        "observations": {"camera": np.zeros((2, 84, 84), np.uint8), "grid": np.ones((2, 3, 3)), "at": [1, 2]},
        "actions": [{"turn": 1.0}, {"turn": -1.0}],
        "rewards": np.ones(2),
    }
    (sample,) = to_samples([episode])

    assert sample.response.split("\n")[0] == (
        "0: {camera: <array 84x84 uint8>, grid: <array 3x3>, at: 1} -> {turn: 1}, reward 1"
    )
    assert json.loads(sample.line(1))["messages"][0]["content"][1]["observation"] == {
        "camera": "<array 84x84 uint8>",
        "grid": [[1.0] * 3] * 3,
        "at": 2,
    }


# What is none


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((BATCH, [1.0]), "there are 1 rewards, but 6 logs: each log has one"),
        ((BATCH, REWARDS, ["a"]), "there are 1 references, but 6 logs"),
        ((BATCH, np.ones((6, 1))), "rewards has the shape (batch,), not (6, 1)"),
        ((BATCH, ["a"] * 6), "a reward is a number; reward 0 is a str"),
        (("abc", [1.0]), "logs is a list, not a str"),
        ((3, [1.0]), "logs is a list, not a int"),
        ((BATCH[0], [1.0] * 3), "log 0 is neither a conversation, a list of mappings"),
        (([3], [1.0]), "it is of the type int"),
        (([["a"]], [1.0]), "its message 0 has no role: it is a str and no mapping"),
        (([[{"text": "a"}]], [1.0]), "it is a dict with the keys text"),
        ((BATCH,), "what has no reward is an episode"),
        (
            ([{"observations": [1], "actions": [1, 2], "rewards": [1, 2]}],),
            "it has 1 observations, 2 actions, 2 rewards",
        ),
        (([{"observations": [1], "actions": [1], "rewards": ["a"]}],), "log 0 is neither"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_is_no_sample_is_refused_with_a_reason(arguments: Any, told: str) -> None:
    """Whoever mixed up two lists should read which."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 the whole text is compared
        to_samples(*arguments)

    assert told in str(raised.value)


# Choosing


def places(rewards: list[float], count: int | None, how: str = "mix", seed: int = 0) -> list[int]:
    samples = to_samples(["a"] * len(rewards), rewards)
    return [sample.index for sample in choose(samples, count, how, seed)]


@pytest.mark.parametrize(
    ("how", "count", "expected"),
    [
        ("mix", 4, [1, 4, 2, 5]),
        ("mix", 5, [1, 4, 3, 2, 5]),
        ("mix", 2, [1, 5]),
        ("mix", 1, [1]),
        ("mix", None, [1, 4, 0, 3, 2, 5]),
        ("best", 3, [1, 4, 0]),
        ("worst", 3, [5, 2, 3]),
        ("first", 3, [0, 1, 2]),
        ("best", 100, [1, 4, 0, 3, 2, 5]),
        ("best", 0, []),
    ],
)
def test_each_way_of_choosing(how: str, count: int | None, expected: list[int]) -> None:
    """A mix shows what works and what fails."""
    assert places(REWARDS, count, how) == expected


@pytest.mark.parametrize("how", ["mix", "best", "worst"])
def test_nan_comes_last(how: str) -> None:
    """A sample without a valid reward is neither the best nor the worst."""
    rewards = [NAN, 2.0, NAN, 1.0, float("-inf")]

    assert NAN not in [rewards[place] for place in places(rewards, 3, how)]
    assert places(rewards, None, how)[-2:] == [0, 2]


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, NAN, float("inf")])),
    st.none() | st.integers(0, 12),
    st.sampled_from(WAYS),
)
def test_as_many_as_wanted_and_none_twice(rewards: list[float], count: int | None, how: str) -> None:
    """For all batches, the empty one and those full of NaN, too."""
    chosen = places(rewards, count, how)

    assert len(chosen) == len(set(chosen)) == min(len(rewards), len(rewards) if count is None else count)
    assert chosen == places(rewards, count, how)


def test_random_is_the_same_in_every_process_and_leaves_the_global_state() -> None:
    """Two runs are compared by the same prompts; a logger must not change what a run draws."""
    code = "from rl_logging.samples import choose_places; print(choose_places([0.0] * 100, 5, 'random', 7))"
    state = random.getstate(), np.random.get_state()[1].tolist()

    found = places([0.0] * 100, 5, "random", 7)

    assert (random.getstate(), np.random.get_state()[1].tolist()) == state
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == f"{found}\n"
    assert found != places([0.0] * 100, 5, "random", 8)


@pytest.mark.parametrize("arguments", [(-1,), ("3",), (1, "bset")])
def test_a_wrong_choice_is_refused(arguments: Any) -> None:
    """A slip of the pen should not show other samples than were wanted."""
    with pytest.raises(ValueError, match=r"the number of samples is|samples are chosen by 'mix', 'best'"):
        choose(to_samples(["a"], [1.0]), *arguments)


# Logging


def test_trackers_have_what_the_file_has(tmp_path: Path) -> None:
    """The console, the trackers and the file show the same samples, and each step adds its own."""
    import mlflow

    empty_store(tmp_path)
    run = tmp_path / "run"
    with configure(run, ["tensorboard", "mlflow"], delivery="inline") as logger:
        for step in (10, 20):
            logger.log_samples(
                BATCH, REWARDS, step, references=["*1*", None, "3", "<b>", "5", "6"], show=False
            )
    expected = [
        [line["step"], line["sample"], line["reward"], prompt(line), response(line), line["reference"]]
        for line in lines(run)
    ]
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        info = mlflow_run(run).info
        file = "tables/val/samples/latest.json"
        table = mlflow.MlflowClient().load_table(info.experiment_id, file, [info.run_id])
    finally:
        mlflow.set_tracking_uri(None)
    shown = Cells(tensorboard_page(run)).rows

    assert [line["sample"] for line in lines(run)] == [1, 4, 3, 2, 5] * 2
    assert table[list(COLUMNS)].astype(object).where(table.notna(), None).to_numpy().tolist() == expected
    assert shown == [
        list(COLUMNS),
        *(["" if cell is None else str(cell) for cell in row] for row in expected),
    ]


def tensorboard_page(run: Path) -> str:
    from tensorboard.plugin_util import markdown_to_safe_html

    data = events(run).Tensors("val/samples/text_summary")[-1].tensor_proto.string_val[0]
    return markdown_to_safe_html(data.decode())


def prompt(line: dict[str, Any]) -> str:
    return "\n\n".join(f"{each['role']}: {each['content']}" for each in line["messages"][:-1])


def response(line: dict[str, Any]) -> str:
    return line["messages"][-1]["content"]


def test_the_console_shows_what_is_logged(logger: Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """One call does all of it."""
    logger.log_samples([BATCH[0], [{"role": "user", "content": "long\n" * 100}]], [1.0, 0.0], 7)

    text = capsys.readouterr().out
    assert "val/samples, step 7: 2 of 2" in text
    assert "It is 1." in text
    assert "".join(text.split()).endswith("".join(f"{logger.dir}/samples/val_samples.jsonl".split()))


def test_the_console_s_own_table_has_no_word_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``<table 6 columns 5 rows>`` below the samples themselves is noise."""
    with configure(tmp_path, ["stdout"]) as logger:
        logger.log_samples(["a"], [1.0], 1)
        assert "<table" not in capsys.readouterr().out
        logger.log_samples(["a"], [1.0], 1, show=False)

    assert "<table" in capsys.readouterr().out


def test_without_a_step_it_is_the_last_one(logger: Logger) -> None:
    """As for all that is logged at once."""
    logger.record("a", 1)
    logger.dump(12)
    logger.log_samples(["a"], torch.ones(1), show=False)

    assert lines(run_of(logger))[0]["step"] == 12


def test_nothing_is_cut_in_the_file_and_nan_is_kept(logger: Logger) -> None:
    """It is what one comes back to."""
    logger.log_samples(["x" * 100_000, "\ud800\u2028"], [NAN, 1], 1, name="../train x", max_lines=1)

    first, second = lines(run_of(logger), "train_x")
    assert (second["messages"][0]["content"], str(second["reward"])) == ("x" * 100_000, "nan")
    assert first["messages"][0]["content"] == "\\ud800\u2028"


@pytest.mark.parametrize("samples", [([], []), (["a"], [1.0])])
def test_none_are_neither_shown_nor_logged(
    logger: Logger, capsys: pytest.CaptureFixture[str], samples: Any
) -> None:
    """``num_val_samples_to_print: 0`` switches all of it off."""
    logger.log_samples(*samples, 1, num_samples=0)

    assert capsys.readouterr().out == ""
    assert not (run_of(logger) / "samples").exists()
    assert tables(run_of(logger)) == []


def test_an_empty_batch_leaves_a_line_on_the_console(
    logger: Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a mistake that should be seen."""
    logger.log_samples([], [], 1)

    assert capsys.readouterr().out == "val/samples, step 1: none to show\n"
    assert not (run_of(logger) / "samples").exists()


def test_secrets_are_hidden_everywhere(logger: Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """A model repeats what stood in its prompt, in a tool call or in a picture's address."""
    call = {"function": {"name": "login", "arguments": {"password": "correct-horse-9"}}}
    log = [
        {"role": "user", "content": f"the key is {PLANTED}, and later correct-horse-9"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    logger.log_samples([log], [1.0], 1, references=[PLANTED])

    shown = capsys.readouterr().out
    files = [path.read_text() for path in run_of(logger).rglob("*") if path.is_file()]
    for text in [*files, shown]:
        assert PLANTED not in text
        assert "correct-horse-9" not in text
    assert "the key is <hidden>, and later <hidden>" in shown


def test_a_table_keeps_the_newest_and_the_file_keeps_all(logger: Logger) -> None:
    """A run of a month must not fill the memory, nor send all that it ever said at each step."""
    for step in range(40):
        logger.log_samples(["x" * 20_000], [1.0], step, show=False)

    found = [rows(media, run_of(logger)) for media in tables(run_of(logger))]
    assert [row[0] for row in found[-1]][-1] == 39
    assert max(len(row[4]) * len(table) for table in found for row in table[:1]) <= _CHARACTERS + 20_000
    assert all(len(table) >= 6 for table in found[6:])
    assert len(lines(run_of(logger))) == 40
    (table,) = logger._sample_tables.values()
    assert len(table.rows) <= _CHARACTERS // 20_000


def test_a_table_of_short_samples_has_a_bound_too(logger: Logger) -> None:
    """TensorBoard shows no more rows."""
    for step in range(3):
        logger.log_samples(["x"] * 700, [1.0] * 700, step, num_samples=None, show=False)

    (table,) = logger._sample_tables.values()
    assert len(table.rows) < _ROWS
    assert len(lines(run_of(logger))) == 2100


def test_a_run_that_goes_on_appends(tmp_path: Path) -> None:
    """What the first part said is still there; a torn last line is not."""
    with configure(tmp_path, []) as logger:
        logger.log_samples(["a"], [1.0], 1, show=False)
    with (tmp_path / "samples" / "val_samples.jsonl").open("a") as file:
        file.write('{"step": 1, "sam')
    with configure(tmp_path, []) as logger:
        logger.log_samples(["b"], [1.0], 2, show=False)

    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


CHILD = """
import itertools, sys
from rl_logging import configure

logger = configure(sys.argv[1], [])
for step in itertools.count():
    logger.log_samples(["x" * 5000] * 3, [1.0] * 3, step, show=False)
    print(step, flush=True)
"""


def test_a_killed_run_leaves_whole_lines(
    tmp_path: Path, killed_child: Callable[[str, Path], list[str]]
) -> None:
    """Nodes are taken away without a word."""
    printed = killed_child(CHILD, tmp_path)

    found = [(line["step"], len(line["messages"][0]["content"])) for line in lines(tmp_path)]
    assert found[: 3 * len(printed)] == [(int(step), 5000) for step in printed for _ in range(3)]


class RankOne:
    """A reducer in a process that is not the first."""

    rank, ranks, on_missing, timeout_s = 1, 2, "partial", 1.0

    def gather(self, part: Any) -> Gathered | None:
        return None

    def close(self) -> None:
        pass


def test_above_rank_0_nothing_happens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of 64 ranks would show the same five samples."""
    with Logger(str(tmp_path), [], reducer=RankOne()) as logger:
        logger.log_samples(["a"], [1.0], 1)

    assert (capsys.readouterr().out, list(tmp_path.iterdir())) == ("", [])


def test_when_disabled_or_closed_nothing_happens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A switched-off logger is quiet."""
    logger = configure(tmp_path, [])
    logger.set_level(50)
    logger.log_samples(["a"], [1.0], 1)
    logger.set_level(20)
    logger.close()
    logger.log_samples(["a"], [1.0], 1)

    assert capsys.readouterr().out == ""
    assert not (tmp_path / "samples").exists()


def test_without_a_folder_the_console_is_all(capsys: pytest.CaptureFixture[str]) -> None:
    """A quick look needs no run."""
    with Logger(None, []) as logger:
        logger.log_samples(["a\n" * 100], [1.0], 1)

    shown = capsys.readouterr().out
    assert "lines left out" in shown
    assert "is in" not in shown


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((Hostile(), [1.0], 1), {}),
        ((FalseClass(), [1.0], 1), {}),
        (([[Hostile()]], [1.0], 1), {}),
        (([Hostile()], [Hostile()], 1), {}),
        ((["a"], [1.0], 1), {"choose": "bset"}),
        ((["a"], [1.0], 1), {"num_samples": Hostile()}),
        ((["a"], [1.0, 2.0], 1), {}),
        ((["a"], None, 1), {}),
    ],
)
def test_no_argument_stops_training(
    logger: Logger, caplog: pytest.LogCaptureFixture, arguments: Any, options: Any
) -> None:
    """A slip in what is logged costs what is logged, and a warning says so."""
    logger.log_samples(*arguments, show=False, **options)

    assert "log_samples: 'val/samples' is not logged" in caplog.text
    assert "Training goes on." in caplog.text


def test_awkward_contents_are_logged_as_words(logger: Logger) -> None:
    """What is in a message is the model's, and may be anything."""
    log = [{"role": HostileText("user"), "content": Hostile()}, {"role": 3, "content": HostileText("a")}]
    logger.log_samples([log], [1.0], Hostile(), name=Hostile(), references=[Hostile()])

    (path,) = (run_of(logger) / "samples").iterdir()
    assert [each["role"] for each in lines(run_of(logger), path.stem)[0]["messages"]] == ["user", "3"]


@pytest.mark.parametrize("limits", [{"max_lines": 0}, {"max_tokens": Hostile()}], ids=["lines", "tokens"])
def test_what_cannot_be_shown_is_logged_all_the_same(
    logger: Logger, caplog: pytest.LogCaptureFixture, limits: Any
) -> None:
    """The console is the least of the places."""
    logger.log_samples(["a"], [1.0], 1, **limits)

    assert "log_samples: 'val/samples' is not shown" in caplog.text
    assert len(lines(run_of(logger))) == 1


def test_a_full_disk_is_told_of(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The console and the trackers go on."""
    with configure(small_disk / "run", []) as logger:
        for step in range(4):
            logger.log_samples(["x" * 200_000], [1.0], step, show=False)

    assert "samples are not written to val_samples.jsonl" in caplog.text
