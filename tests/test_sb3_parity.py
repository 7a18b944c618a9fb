"""What code written for SB3's logger relies on, and where we differ on purpose.

The differences: the log is ``train.log``, files are continued instead of erased, they hold
step and time, nothing is ever too long, and each output is excluded on its own.
"""

import io
import json
import sys

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure as Drawing
from stable_baselines3 import A2C, DQN
from stable_baselines3.common import logger as sb3
from stable_baselines3.common.callbacks import BaseCallback

import rl_logging
from rl_logging import FixedHumanOutputFormat, Logger, configure, make_output_format
from rl_logging.journal import read

TEXT_OUTPUTS = ("stdout", "log", "csv", "json")
EVERYTHING = {
    "whole": 3,
    "negative": -0.25,
    "1": 0.5,
    "list": [4, 5],
    "array": np.array([1.5, 2.5]),
    "number in an array": np.array(7),
    "number in three brackets": np.array([[[8]]]),
    "tensor": torch.tensor([0.5, 1.5]),
    "text": 'a "quoted", text;\nof two lines',
}
SHOWN = {**EVERYTHING, "array": [1.5, 2.5], "tensor": [0.5, 1.5]}


class Rows:
    """What stands in a text output of a folder, by that output's usual reader."""

    def __init__(self, folder, capsys):
        self.folder, self.capsys = folder, capsys

    def __call__(self, name):
        if name == "json":
            lines = (self.folder / "progress.json").read_text("utf-8").splitlines()
            return [
                {k: v for k, v in json.loads(line).items() if k not in ("step", "time")} for line in lines
            ]
        if name == "csv":
            table = pd.read_csv(self.folder / "progress.csv", dtype=str, keep_default_na=False)
            return table.drop(columns=["step", "time"]).to_dict("records")
        text = (
            self.capsys.readouterr().out
            if name == "stdout"
            else (self.folder / "train.log").read_text("utf-8")
        )
        rows = (line[2:-2].partition(" | ") for line in text.splitlines() if line.startswith("| "))
        return [{key.strip(): value.strip() for key, _, value in rows}] if text else []


@pytest.fixture
def rows(tmp_path, capsys):
    return Rows(tmp_path, capsys)


def _texts(values):
    return {key: str(value) for key, value in values.items()}


@pytest.mark.parametrize("name", TEXT_OUTPUTS)
def test_output_takes_every_kind_of_value(tmp_path, rows, name):
    """Numbers, lists, arrays and texts with whatever a file uses itself."""
    output = make_output_format(name, str(tmp_path))
    output.write(EVERYTHING, dict.fromkeys(EVERYTHING), step=3)
    output.close()

    table = {**_texts(EVERYTHING), "text": 'a "quoted", text;\\nof two lines', "tensor": "[0.5 1.5]"}
    table |= {"number in three brackets": "8"}
    cells = {**table, "text": EVERYTHING["text"]}
    json_row = {**SHOWN, "number in an array": 7, "number in three brackets": 8}
    assert rows(name) == [{"stdout": table, "log": table, "csv": cells, "json": json_row}[name]]


@pytest.mark.parametrize("name", TEXT_OUTPUTS)
@pytest.mark.parametrize("excluded", TEXT_OUTPUTS)
def test_each_output_is_excluded_on_its_own(tmp_path, rows, name, excluded):
    """In SB3, what is excluded from the console is missing in the log too, and the reverse."""
    output = make_output_format(name, str(tmp_path))
    output.write({"hidden": 1}, {"hidden": (excluded,)})
    output.write({"hidden": 2}, {"hidden": None})
    output.close()

    shown = [row["hidden"] for row in rows(name)]
    assert list(map(str, shown))[-1] == "2"
    assert len(shown) == (1 if name == excluded or name in ("stdout", "log") else 2)


RICH = {
    "video": sb3.Video(torch.zeros(1, 20, 3, 8, 8), fps=20),
    "image": sb3.Image(np.zeros((8, 8, 3), np.uint8), "HWC"),
    "figure": sb3.Figure(Drawing(), close=True),
    "hparam": sb3.HParam({"learning_rate": 0.1}, {"loss": 0.0}),
}


@pytest.mark.parametrize("kind", RICH)
@pytest.mark.parametrize("name", TEXT_OUTPUTS)
def test_output_called_directly_refuses_rich_values_after_the_row(tmp_path, rows, name, kind):
    """The error names the format, as SB3's; but SB3's outputs lose the whole row with it."""
    output = make_output_format(name, str(tmp_path))

    with pytest.raises(
        sb3.FormatUnsupportedError, match=f"The format {name} is not supported for the {kind} value"
    ):
        output.write({"a": 1, kind: RICH[kind], "z": 2}, {"a": None, kind: None, "z": None}, step=1)
    output.close()

    assert {key: str(value) for key, value in rows(name)[0].items() if key in "az"} == {"a": "1", "z": "2"}


@pytest.mark.parametrize("kind", RICH)
@pytest.mark.parametrize("name", TEXT_OUTPUTS)
def test_rich_value_that_is_excluded_is_no_error(tmp_path, name, kind):
    """The remedy that SB3's message names."""
    output = make_output_format(name, str(tmp_path))
    output.write({"a": 1, kind: RICH[kind]}, {"a": None, kind: TEXT_OUTPUTS}, step=1)
    output.close()


@pytest.mark.parametrize("kind", RICH)
def test_logger_shows_rich_values_by_a_word(tmp_path, rows, kind):
    """Training goes on, and the table says what was there."""
    with configure(tmp_path, list(TEXT_OUTPUTS)) as logger:
        logger.record("rich", RICH[kind])
        logger.dump(1)

    word = {"video": "<video 20 frames>", "image": "<image 8x8x3>"}.get(kind, f"<{kind}>")
    assert [rows(name)[0]["rich"] for name in ("log", "csv", "json")] == [word] * 3


def test_unknown_output_is_refused(tmp_path):
    """As SB3, with what is allowed."""
    with pytest.raises(ValueError, match="unknown output 'dummy'"):
        make_output_format("dummy", str(tmp_path))


def test_long_keys_are_no_error():
    """SB3 raises when two keys are equal after it cut them to 36 characters."""
    keys = [f"a_tag/{'long_' * 10}{end}" for end in ("one", "two")]
    output = FixedHumanOutputFormat(stream := io.StringIO(), max_length=12)
    output.write(dict.fromkeys(keys, 1), dict.fromkeys(keys), step=1)

    shown = [line.split("|")[1].strip() for line in stream.getvalue().splitlines()[1:-1]]
    assert shown == ["a_tag/", "lon...one", "lon...two"]


def test_console_is_a_human_output_format():
    """Code that looks for SB3's class in ``logger.output_formats`` finds ours."""
    assert issubclass(FixedHumanOutputFormat, sb3.HumanOutputFormat)


def test_any_object_that_can_write_is_a_stream():
    """Wrappers of a terminal do not always inherit from Python's."""

    class Stream:
        text = ""

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    output = FixedHumanOutputFormat(stream := Stream())
    output.write({"a": 1}, {"a": None}, step=2)
    output.write_sequence(["one", "two"])

    assert stream.text.startswith("-- step 2 --")
    assert stream.text.endswith("one two\n")


def test_files_are_continued_and_named_as_documented(tmp_path):
    """SB3 writes log.txt, and erases all of its files when a run is started again."""
    for step in (1, 2):
        with configure(tmp_path, ["log", "csv", "json"]) as logger:
            logger.record("a", step)
            logger.dump(step)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "journal.jsonl",
        "progress.csv",
        "progress.json",
        "train.log",
    ]
    assert pd.read_csv(tmp_path / "progress.csv")[["step", "a"]].values.tolist() == [[1, 1], [2, 2]]
    assert pd.read_json(tmp_path / "progress.json", lines=True)[["step", "a"]].values.tolist() == [
        [1, 1],
        [2, 2],
    ]
    assert (tmp_path / "train.log").read_text().count("-- step ") == 2


def test_session_as_in_sb3s_documentation(tmp_path, capsys):
    """Levels, messages, values, means and a second logger, one after the other."""
    logger = configure(str(tmp_path / "one"))
    logger.info("hello")
    logger.debug("unseen")
    logger.set_level(rl_logging.DEBUG)
    logger.debug("seen")
    logger.record("a", 3)
    logger.record("a", 5.5)
    logger.record_mean("b", -22.5)
    logger.record_mean("b", -44.4)
    logger.dump()
    other = configure(str(tmp_path / "two"), ["stdout"])
    other.set_level(rl_logging.DISABLED)
    other.error("unseen")
    other.dump()
    other.close()
    logger.close()

    shown = capsys.readouterr().out
    assert (logger.get_dir(), other.get_dir()) == (str(tmp_path / "one"), str(tmp_path / "two"))
    assert "unseen" not in shown
    assert shown.splitlines()[:3] == [f"Logging to {tmp_path / 'one'}", "hello", "seen"]
    assert [line.split() for line in shown.splitlines()[4:6]] == [
        ["|", "a", "|", "5.5", "|"],
        ["|", "b", "|", "-33.45", "|"],
    ]


@pytest.mark.parametrize("algorithm", [A2C, DQN])
def test_algorithm_keeps_the_logger_it_was_given(tmp_path, algorithm):
    """``set_logger`` wins over ``tensorboard_log``, and further calls of ``learn`` go on in it."""
    model = algorithm("MlpPolicy", "CartPole-v1", tensorboard_log=str(tmp_path / "unused"), device="cpu")
    with configure(tmp_path / "run", ["csv"]) as logger:
        model.set_logger(logger)
        model.learn(200, log_interval=4)
        steps = len(pd.read_csv(tmp_path / "run" / "progress.csv"))
        model.learn(200, log_interval=4, reset_num_timesteps=False)

    table = pd.read_csv(tmp_path / "run" / "progress.csv")
    assert model.logger is logger
    assert not (tmp_path / "unused").exists()
    assert 0 < steps < len(table)
    assert list(table["step"]) == list(table["time/total_timesteps"])
    assert table["step"].is_monotonic_increasing


class LastDump(Logger):
    """A logger as projects derive it from SB3's: it looks at the values at each dump."""

    def __init__(self):
        super().__init__(None, [])
        self.seen = []

    def dump(self, step=0):
        self.seen.append((step, dict(self.name_to_value)))
        super().dump(step)


@pytest.mark.parametrize("algorithm", [A2C, DQN])
def test_subclass_sees_the_values_at_each_dump(algorithm):
    """SB3's own tests of the frames per second do it in this way."""
    model = algorithm("MlpPolicy", "CartPole-v1", device="cpu")
    model.set_logger(logger := LastDump())
    model.learn(300, log_interval=2)
    logger.close()

    assert len(logger.seen) > 1
    assert all(0 < values["time/fps"] <= sys.maxsize for _, values in logger.seen)
    assert [step for step, _ in logger.seen] == [values["time/total_timesteps"] for _, values in logger.seen]


class Goal(gym.Env):
    """Episodes of ten steps of which every second one succeeds."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    episodes = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.episodes += 1
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        done = self.steps == 10
        info = {"is_success": self.episodes % 2 == 0} if done else {}
        return self.observation_space.sample(), 1.0, done, False, info


def test_numbers_of_the_algorithm_and_of_a_callback_arrive(tmp_path):
    """Success rates and what a callback records stand in one row with the rest."""

    class Doubled(BaseCallback):
        def _on_step(self):
            self.logger.record("mine/doubled", 2 * self.num_timesteps)
            self.logger.record_mean("mine/mean", self.num_timesteps)
            return True

    model = A2C("MlpPolicy", Goal(), n_steps=20, device="cpu")
    with configure(tmp_path, []) as logger:
        model.set_logger(logger)
        model.learn(80, log_interval=1, callback=Doubled())

    records = [record for record in read(tmp_path / "journal.jsonl") if record.kind == "metrics"]
    keys = ("rollout/ep_len_mean", "rollout/ep_rew_mean", "rollout/success_rate", "mine/doubled", "mine/mean")
    assert [record.step for record in records] == [20, 40, 60, 80]
    assert [tuple(record.values[key] for key in keys) for record in records] == [
        (10, 10, 0.5, 40, 10.5),
        (10, 10, 0.5, 80, 30.5),
        (10, 10, 0.5, 120, 50.5),
        (10, 10, 0.5, 160, 70.5),
    ]
