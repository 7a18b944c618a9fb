"""Reading a run back."""

from pathlib import Path

import pytest

from rl_logging import configure
from rl_logging.readers import journal_history, read_records


def _run(folder: Path, steps: list[int]) -> None:
    with configure(folder, []) as logger:
        for step in steps:
            logger.record("loss", step)
            logger.dump(step)


@pytest.mark.parametrize(
    ("sessions", "kept"),
    [
        ([[10, 20, 30]], [10, 20, 30]),
        ([[10, 20, 30], [40]], [10, 20, 30, 40]),
        ([[10, 20, 30], [30, 40]], [10, 20, 30, 40]),  # the last one, once more
        ([[10, 20, 30], [20, 30]], [10, 20, 30]),
        ([[10, 20, 30], [15, 25]], [10, 15, 25]),
        ([[10, 30, 20, 20, 40]], [10, 30, 20, 20, 40]),  # a step may go back by itself
        ([[10, 20, 30], [40, 20]], [10, 20, 30, 40, 20]),  # a late value supersedes nothing
        ([[10, 20, 30], [], [5]], [5]),
        ([[10, 20], [15], [12, 40]], [10, 12, 40]),
    ],
)
def test_what_a_resumed_run_went_back_behind_is_left_out(tmp_path, sessions, kept):
    """After a crash at step 30, the run goes on from its checkpoint at 20: one curve, not two."""
    for steps in sessions:
        _run(tmp_path, steps)

    assert [step for step, _ in journal_history(read_records(tmp_path))["loss"]] == kept
    every = [step for steps in sessions for step in steps]
    assert [step for step, _ in journal_history(read_records(tmp_path, superseded=True))["loss"]] == every
