"""The example with Ray actors: all outputs on, and the numbers of a single process."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts/ray_example.py"


def test_run_with_actors_has_the_numbers_of_one_process_in_every_output(tmp_path):
    """The same seeds, whoever plays the episodes."""
    command = [sys.executable, str(SCRIPT), "--check", "--workers", "3", "--iterations", "4"]

    done = subprocess.run(
        [*command, "--folder", str(tmp_path)], capture_output=True, text=True, timeout=280, check=False
    )

    last = done.stdout.splitlines()[-1] if done.stdout else done.stderr
    assert (done.returncode, last) == (
        0,
        f"Equal: both runs' numbers, and what 8 outputs hold. See {tmp_path}",
    )
