"""Plots for LLM-RL: the numbers are those of a plain computation, and the figure shows them."""

import io
import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rl_logging
from rl_logging.llm_plots import reward_figure, token_error_figure, worker_timeline_figures
from rl_logging.llm_stats import reward_levels, timelines, worst_sample

RECORDED = Path(rl_logging.__file__).parent / "data/grpo_run.jsonl"
KEYS = ("token_mask", "generation_logprobs", "prev_logprobs", "sample_mask", "prompt_lengths", "full_lengths")


def batch(size: int, length: int, seed: int = 0) -> dict:
    """Samples as a trainer has them: prompts, then generated tokens, then padding."""
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randint(1, length, (size,), generator=generator)
    full = torch.minimum(
        prompts + torch.randint(1, length, (size,), generator=generator), torch.tensor(length)
    )
    at = torch.arange(length)
    generation = -torch.rand(size, length, generator=generator)
    return {
        "token_mask": ((at >= prompts[:, None]) & (at < full[:, None])).float(),
        "sample_mask": torch.ones(size),
        "generation_logprobs": generation,
        "prev_logprobs": generation + 0.1 * torch.randn(size, length, generator=generator),
        "prompt_lengths": prompts,
        "full_lengths": full,
    }


def reference(data: dict) -> tuple[int, float]:
    """The worst sample and its error, as NeMo-RL computes them."""
    error = (data["generation_logprobs"][:, 1:] - data["prev_logprobs"][:, 1:]).abs()
    mask = data["token_mask"][:, 1:] * data["sample_mask"].unsqueeze(-1)
    errors = (torch.exp(error) * mask).sum(-1) / mask.sum(-1)
    errors[mask.sum(-1) == 0] = -1
    return int(errors.argmax()), float(errors.max())


def drawn(figure) -> None:
    """Draw it, as every tracker gets it."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    assert picture.getvalue().startswith(b"\x89PNG")


def lines(figure) -> dict:
    """The points of each curve, by its label."""
    found = [line for axes in figure.axes for line in axes.lines]
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in found}


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(2, 20), st.integers(0, 1000))
def test_worst_sample_is_nemos(size, length, seed):
    """Who changes one import looks at the same sample as before."""
    data = batch(size, length, seed)
    data["sample_mask"][0] = 0 if size > 1 else 1
    sample, error = reference(data)

    worst = worst_sample(data)

    assert worst is not None
    assert (worst.sample, worst.error) == (sample, pytest.approx(error, rel=1e-5))
    start, end = data["prompt_lengths"][sample] - 1, data["full_lengths"][sample] - 1
    shifted = data["generation_logprobs"][sample, 1:][start:end]
    assert worst.generation.tolist() == shifted.tolist()


def test_figure_shows_the_generated_tokens():
    """A curve that begins a token early shows the error of the prompt."""
    data = batch(1, 6)
    data["prompt_lengths"][0], data["full_lengths"][0] = 2, 5
    data["token_mask"][0] = torch.tensor([0, 0, 1, 1, 1, 0])
    data["generation_logprobs"][0] = torch.tensor([0, -9, -1, -2, -1, -9])
    data["prev_logprobs"][0] = torch.tensor([0, -5, -1, -2.5, -1.25, -5])

    figure = token_error_figure(data)

    assert figure is not None
    assert lines(figure) == {
        "generation": ([2, 3, 4], [-1, -2, -1]),
        "policy": ([2, 3, 4], [-1, -2.5, -1.25]),
        "difference": ([2, 3, 4], [0, 0.5, 0.25]),
        "largest difference: 0.5 at token 3": ([3], [0.5]),
        "largest relative error: 0.3935 at token 3": ([3], [-2]),
    }
    error = (1 + math.exp(0.5) + math.exp(0.25)) / 3
    assert figure.axes[0].get_title() == f"Sample 0: multiplicative probability error {error:.4g}"
    drawn(figure)


def test_arrays_are_of_any_kind():
    """Trainers hold tensors of bfloat16 with a graph; recorded runs hold lists."""
    data = batch(3, 8)
    exact = {**data, "prev_logprobs": data["prev_logprobs"].bfloat16()}
    kinds = [
        {
            **exact,
            "prev_logprobs": exact["prev_logprobs"].clone().requires_grad_(),
            "token_mask": data["token_mask"].bool(),
        },
        {key: value.float().numpy() for key, value in exact.items()},
        {key: value.tolist() for key, value in exact.items()},
        {key: list(value) for key, value in exact.items()},
        {key: tuple(value.tolist()) for key, value in exact.items()},
    ]

    found = [worst_sample(kind) for kind in kinds]

    assert len({(worst.sample, worst.error, *worst.previous) for worst in found if worst is not None}) == 1
    assert None not in found


def test_samples_without_tokens_do_not_count():
    """0/0 would be the worst error of all."""
    data = batch(3, 8)
    data["token_mask"][0] = 0
    data["sample_mask"][1] = 0

    worst = worst_sample(data)

    assert worst is not None
    assert worst.sample == 2


def test_overflow_where_no_token_counts_is_no_error():
    """inf * 0 is NaN: the padding of one sample would be the worst of the batch."""
    data = batch(2, 8)
    data["prev_logprobs"][data["token_mask"] == 0] = -1e30

    worst = worst_sample(data)

    assert worst is not None
    assert (worst.sample, worst.error) == (
        reference(batch(2, 8))[0],
        pytest.approx(reference(batch(2, 8))[1]),
    )


@pytest.mark.parametrize(("bad", "error"), [(math.nan, math.nan), (-math.inf, math.inf), (-1e30, math.inf)])
def test_broken_log_probability_is_the_worst(bad, error):
    """An engine that gives NaN is what the plot is for."""
    data = batch(3, 12)
    data["token_mask"][1], data["prompt_lengths"][1], data["full_lengths"][1] = 1, 2, 12
    data["prev_logprobs"][1, 6] = bad

    figure, worst = token_error_figure(data), worst_sample(data)

    assert worst is not None
    assert (worst.sample, worst.error) == (1, pytest.approx(error, nan_ok=True))
    assert figure is not None
    assert ("(1 of 10 tokens not finite)" in figure.axes[0].get_title()) == (bad != -1e30)
    drawn(figure)


@pytest.mark.parametrize(
    "change",
    [
        {"token_mask": torch.zeros(3, 8)},
        {"sample_mask": torch.zeros(3)},
        {"sample_mask": torch.full((3,), math.nan)},
        {"full_lengths": torch.ones(3), "prompt_lengths": torch.ones(3)},
        {"full_lengths": torch.full((3,), -5)},
        {key: value[:, :1] for key, value in batch(3, 8).items() if value.ndim == 2},
        {key: value[:, :0] for key, value in batch(3, 8).items() if value.ndim == 2},
        {key: value[:0] for key, value in batch(3, 8).items()},
        {key: [] for key in KEYS},
        {key: [[], [], []] for key in KEYS[:3]},
    ],
    ids=range(10),
)
def test_nothing_to_draw_is_a_message(change, caplog):
    """A step whose samples are all filtered out must not end the training."""
    with caplog.at_level(logging.WARNING, "rl_logging"):
        figure = token_error_figure({**batch(3, 8), **change})

    assert figure is None
    (record,) = caplog.records
    assert record.getMessage().startswith("no error of tokens to draw: ")


@pytest.mark.parametrize(
    ("prompt", "full", "positions"),
    [(0, 8, range(1, 8)), (2, 100, range(2, 8)), (-3, 4, range(1, 4)), (7, 8, [7])],
)
def test_lengths_beyond_the_array_are_cut(prompt, full, positions):
    """Lengths count what a truncated batch has lost; a prompt may be empty."""
    data = batch(1, 8)
    data["token_mask"][:] = 1
    data["prompt_lengths"][0], data["full_lengths"][0] = prompt, full

    worst, figure = worst_sample(data), token_error_figure(data)

    assert worst is not None
    assert worst.positions.tolist() == list(positions)
    drawn(figure)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prev_logprobs": torch.zeros(3, 7)}, r"prev_logprobs \(3, 7\)"),
        ({"sample_mask": torch.zeros(2)}, r"sample_mask \(2,\)"),
        ({"token_mask": torch.zeros(8)}, "are batch x length"),
        ({"token_mask": [[1], [1, 2]]}, "token_mask: an array of numbers is needed"),
        ({"full_lengths": ["a"] * 3}, "full_lengths: an array of numbers is needed"),
        ({"full_lengths": None}, "given are|an array of numbers is needed"),
    ],
    ids=range(6),
)
def test_shapes_that_do_not_fit_are_named(change, message):
    """Broadcasting would draw something."""
    with pytest.raises(ValueError, match=message):
        worst_sample({**batch(3, 8), **change})


@pytest.mark.parametrize("key", KEYS)
def test_missing_key_is_named(key):
    """With all that are needed, so that the caller looks once."""
    data = batch(3, 8)
    del data[key]

    with pytest.raises(
        ValueError, match=f"the data have no {key}; needed are {', '.join(KEYS[:1])}.*{KEYS[5]}"
    ):
        token_error_figure(data)
    with pytest.raises(TypeError, match="a mapping of arrays by name, not list"):
        token_error_figure([data])  # type: ignore[arg-type]


def test_timelines_are_drawn_over_seconds():
    """Workers end at different times; none of their values is left out."""
    figures = worker_timeline_figures(
        {1: [2.0, 4.0], 0: torch.tensor([0, 2, 5]), "x": [], 10: [None, 6]}, "queue", 0.5
    )

    assert figures is not None
    each, average = figures
    assert list(lines(each)) == ["worker 0", "worker 1", "worker 10", "worker x"]
    assert lines(each)["worker 0"] == ([0, 0.5, 1], [0, 2, 5])
    assert lines(average) == {"average": ([0, 0.5, 1], [1, 4, 5])}
    assert (each.axes[0].get_xlabel(), each.axes[0].get_ylabel()) == ("time (s)", "queue")
    assert average.axes[0].get_title() == "queue: average of 4 workers"
    drawn(each)
    drawn(average)


@given(
    st.dictionaries(
        st.integers(-(10**6), 10**6),
        st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=5),
        max_size=5,
    )
)
def test_average_is_of_the_workers_that_have_a_value(metrics):
    """To cut all to the shortest would hide the last worker, for which all others wait."""
    found = timelines(metrics)

    for at in range(max(map(len, metrics.values()), default=0)):
        values = [v[at] for v in metrics.values() if at < len(v) and math.isfinite(v[at])]
        expected = (np.mean(values), min(values), max(values)) if values else (math.nan,) * 3
        assert (found.average[at], found.lowest[at], found.highest[at]) == pytest.approx(
            expected, nan_ok=True
        )
    assert list(found.workers) == sorted(metrics)


def test_many_workers_have_no_legend():
    """A hundred names hide the curves."""
    few = worker_timeline_figures({worker: [1.0, 2.0] for worker in range(12)}, "queue", 1)
    many = worker_timeline_figures({worker: [1.0, 2.0] for worker in range(100)}, "queue", 1)

    assert few is not None
    assert many is not None
    assert [len(figures[0].legends) for figures in (few, many)] == [1, 0]
    assert len(many[0].axes[0].lines) == 100


def test_names_from_outside_are_text():
    """A name with a dollar sign is no formula, and one that is long does not fill the figure."""
    name = "$\\frac{ \x1b[31m " + "x" * 1000
    figures = worker_timeline_figures({"$\\bad{": [1], "_hidden": [2], (1, "a"): [3], None: [4]}, name, 1)

    assert figures is not None
    assert list(lines(figures[0])) == ["worker $\\bad{", "worker (1, 'a')", "worker None", "worker _hidden"]
    title = figures[0].axes[0].get_title()
    assert "\x1b" not in title
    assert len(title) < 80
    for figure in figures:
        drawn(figure)


@pytest.mark.parametrize(
    "metrics", [{}, {0: []}, {0: [], 1: np.zeros(0)}, {0: [math.nan, None]}], ids=range(4)
)
def test_workers_without_values_are_a_message(metrics, caplog):
    """A step whose workers reported nothing is no error."""
    with caplog.at_level(logging.WARNING, "rl_logging"):
        assert worker_timeline_figures(metrics, "queue", 1) is None

    assert [record.getMessage()[:31] for record in caplog.records] == ["no timeline of queue to draw: n"]


@pytest.mark.parametrize("interval_s", [0, -1, math.nan, math.inf])
def test_interval_is_above_zero(interval_s):
    """All values would stand at one time."""
    with pytest.raises(ValueError, match="a number of seconds above 0, not"):
        worker_timeline_figures({0: [1]}, "queue", interval_s)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({7: ["a"]}, "worker 7: an array of numbers"),
        ({7: [[1], [2]]}, "worker 7: a list of numbers"),
        ({7: 1}, "worker 7"),
    ],
)
def test_values_that_are_no_numbers_name_the_worker(metrics, message):
    """Of a hundred, one is broken."""
    with pytest.raises(ValueError, match=message):
        worker_timeline_figures(metrics, "queue", 1)


def test_few_rewards_are_bars():
    """Right or wrong is no distribution with thirty bins."""
    figure = reward_figure(torch.tensor([[0.0, 1.0], [0.5, 1.0]], requires_grad=True), 3)

    assert figure is not None
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [1, 1, 2]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.5", "1"]
    assert axes.get_title() == "Rewards of step 3: mean 0.625 of 4 samples"
    drawn(figure)


@given(st.lists(st.sampled_from([0, -0.0, 0.1, 0.1 + 1e-12, 1, math.nan, math.inf]), max_size=20))
def test_every_finite_reward_is_counted(rewards):
    """Two that differ by rounding are one level."""
    levels = reward_levels(rewards)

    assert levels is not None
    assert sum(levels.values()) == sum(map(math.isfinite, rewards))
    assert set(levels) <= {"0", "0.1", "1"}


def test_many_rewards_are_a_histogram():
    """A bar for each would be noise; every sample is counted."""
    rewards = np.linspace(-1, 2, 600)

    figure = reward_figure([*rewards, math.nan], 9)

    assert figure is not None
    (axes,) = figure.axes
    (stairs,) = axes.patches
    assert stairs.get_data().values.sum() == 600
    assert (stairs.get_data().edges[0], stairs.get_data().edges[-1]) == (-1, 2)
    assert axes.get_title() == "Rewards of step 9: mean 0.5 of 601 samples (1 not finite)"
    drawn(figure)


@pytest.mark.parametrize(
    "rewards", [[], np.zeros((0, 8)), [math.nan], torch.tensor([math.inf])], ids=range(4)
)
def test_no_rewards_are_a_message(rewards, caplog):
    """A step whose samples were all filtered out has none."""
    with caplog.at_level(logging.WARNING, "rl_logging"):
        assert reward_figure(rewards, 9) is None

    assert [record.getMessage()[:29] for record in caplog.records] == ["no rewards of step 9 to draw:"]


def test_one_reward_is_a_figure():
    """A batch of one, given as it is."""
    drawn(reward_figure(0.5, 1))


def test_pyplot_is_not_touched():
    """Figures that pyplot keeps would fill the memory, and its backend is the user's."""
    from matplotlib import pyplot

    token_error_figure(batch(3, 8))
    worker_timeline_figures({0: [1]}, "queue", 1)
    reward_figure([1], 1)

    assert pyplot.get_fignums() == []


def test_recorded_run_is_drawn_at_every_step():
    """The demo replays it; what it holds is of a real training."""
    header, *steps = map(json.loads, RECORDED.read_text().splitlines())

    assert (header["kind"], header["version"], len(steps)) == ("header", 1, header["config"]["grpo"]["steps"])
    for step in steps:
        workers = step["workers"]
        assert token_error_figure(step["logprobs"]) is not None
        assert (
            worker_timeline_figures(workers["inflight_requests"], "in flight", workers["interval_s"])
            is not None
        )
        assert reward_figure(step["rewards"], step["step"]) is not None
        assert np.mean(step["rewards"]) == pytest.approx(step["metrics"]["reward"], abs=1e-5)
        assert len({len(column) for column in step["batch"].values()}) == 1
    assert steps[-1]["metrics"]["reward"] > steps[0]["metrics"]["reward"] + 0.3
    validations = [step["validation"] for step in steps if "validation" in step]
    assert {len({*map(len, (v["conversations"], v["rewards"], v["references"]))}) for v in validations} == {1}
    assert any("tool_calls" in m for v in validations for talk in v["conversations"] for m in talk)


def test_long_names_of_workers_are_told_apart() -> None:
    """A cluster's names differ in a few letters in their middle, or at an end."""
    names = [f"vllm_worker_of_the_cluster_{n:02}.node.of.some.site.example" for n in range(12)]
    figures = worker_timeline_figures({name: [1.0, 2.0] for name in names}, "requests", 1.0)
    assert figures is not None
    lines = figures[0].axes[0].lines

    assert [line.get_label() for line in lines] == [
        f"worker …{n:02}…" if n < 10 else f"worker …{n}…" for n in range(12)
    ]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 12
