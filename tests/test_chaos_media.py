"""Kills in the middle of an encoding: the media of every dump that had returned arrive."""

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import pytest
from chaos import seed
from runs import child, couriers, empty_store, mlflow_run, wait_for_end_of_courier
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator
from waiting import wait_until

from rl_logging.encoding import read_frames
from rl_logging.readers import read_records

SYNC = "import sys; from rl_logging.cli import main; sys.exit(main())"
FRAMES, SIZE = 40, 96
TRAINER = f"""
import sys
import numpy as np
from rl_logging import configure
logger = configure(sys.argv[1], ["tensorboard", "mlflow"], linger_s=60)
for step in range(1, 1000):
    frames = np.full(({FRAMES}, 3, {SIZE}, {SIZE}), step % 200, np.uint8)
    logger.log_video("clip", frames, step, fps=10)
    logger.log_image("frame", frames[0], step, dataformats="CHW")
    print(step, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("whom", ["trainer and courier", "courier, then trainer"])
def test_media_of_every_dump_that_returned_arrive(tmp_path: Path, whom: str) -> None:
    """What a machine was doing when its power failed is what its owner wants to see."""
    chance = random.Random(seed())
    empty_store(tmp_path)
    run = tmp_path / "run"
    with child(TRAINER, run) as trainer:
        assert trainer.stdin is not None
        assert trainer.stdout is not None
        steps = []
        for _ in range(chance.randint(4, 8)):
            steps.append(int(trainer.stdout.readline()))
            trainer.stdin.write("\n")
            trainer.stdin.flush()
        wait_until(lambda: any(run.glob("media/clip/*.new")), 60)  # a draft: an encoding is under way
        killed_couriers = couriers(run)
        if whom == "trainer and courier":
            trainer.send_signal(signal.SIGKILL)
        for pid in killed_couriers:
            os.kill(pid, signal.SIGKILL)
        trainer.kill()
        steps += [int(line) for line in trainer.stdout.read().split() if line.isdigit()]
    wait_for_end_of_courier(run)

    command = [sys.executable, "-c", SYNC, "sync", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    wanted = {record.step for record in read_records(run) if "clip" in record.values}
    assert wanted >= set(steps)
    assert killed_couriers
    for step in wanted:
        frames, fps = read_frames(run / f"media/clip/step_{step}.mp4")
        assert (frames.shape, fps) == ((FRAMES, SIZE, SIZE, 3), 10.0)
        assert abs(int(frames[-1][5, 5, 0]) - step % 200) < 8
    assert in_mlflow(run) == {"clip": sorted(wanted), "frame": sorted(wanted)}
    assert in_tensorboard(run) == {"clip": wanted, "frame": wanted}


def in_mlflow(run: Path) -> dict[str, list[int]]:
    """The steps of each key's files in the one run, all of which can be read."""
    root = Path(mlflow_run(run).info.artifact_uri.removeprefix("file://"))
    found: dict[str, list[int]] = {}
    for path in [*root.rglob("*.mp4"), *root.rglob("*.png")]:
        assert read_frames(path)[0].shape if path.suffix == ".mp4" else imageio.imread(path).shape
        key, step = re.fullmatch(r".*/(clip|frame)\W+step\W(\d+)\W.*", str(path).replace("_", "+")).groups()
        found.setdefault(key, []).append(int(step))
    return {key: sorted(steps) for key, steps in found.items()}


def in_tensorboard(run: Path) -> dict[str, set[int]]:
    """The steps of each image, all of which can be read."""
    events = EventAccumulator(str(run / "tb"), size_guidance={IMAGES: 0}).Reload()
    found = {}
    for tag in events.Tags()[IMAGES]:
        pictures = events.Images(tag)
        for picture in pictures:
            assert imageio.imread(picture.encoded_image_string, index=0).shape[:2] == (SIZE, SIZE)
        assert len(pictures) == len({picture.step for picture in pictures})
        found[tag] = {picture.step for picture in pictures}
    return found
