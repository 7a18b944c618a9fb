"""Training with a real Ray beside it: the GPU curve in every output, and Ray's own coming and going."""

import logging
from pathlib import Path
from typing import Any

import nvml_stand_in
import pytest
import runs
from nvml_stand_in import StandInGpu
from ray_clusters import local_ray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from waiting import wait_until

from rl_logging import RayGpuSource, Sampled, configure
from rl_logging.journal import read
from rl_logging.readers import compare

ARRIVAL_S = 60.0
KEY = "ray/node.local.gpu.0.util_max"
OUTPUTS = ["log", "csv", "json", "tensorboard", "mlflow"]

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:.*RAY_ACCEL_ENV_VAR:FutureWarning")


class Watched(RayGpuSource):
    """The source, and what it gave last."""

    def __init__(self) -> None:
        super().__init__(every_s=5, timeout_s=10)
        self.calls = 0
        self.last: dict[str, Any] = {}

    def __call__(self) -> dict[str, Any]:
        self.calls += 1
        self.last = super().__call__()
        return self.last


class LoadsTheGpu(BaseCallback):
    """Raises the GPU's utilisation with each rollout, and waits until the source has seen it."""

    def __init__(self, gpus: Path, source: Watched) -> None:
        super().__init__()
        self.expected: list[tuple[int, float]] = []
        self._gpus, self._source = gpus, source

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        util = 20 + 10 * len(self.expected)
        nvml_stand_in.write_gpus(self._gpus, [StandInGpu(util=util)])
        wait_until(lambda: self._source.last.get("ray/node.local.gpu.0.util") == util, ARRIVAL_S)
        calls = self._source.calls
        wait_until(lambda: self._source.calls > calls + 1, ARRIVAL_S)
        self.expected.append((self.num_timesteps, float(util)))


def test_every_output_of_a_ppo_run_shows_the_gpu_curve(tmp_path, nvml_library):
    """Numbers that change while it trains stand at the steps at which they were so."""
    gpus, source = tmp_path / "gpus.txt", Watched()
    nvml_stand_in.write_gpus(gpus, [StandInGpu(util=10)])
    runs.empty_store(tmp_path)
    callback = LoadsTheGpu(gpus, source)

    with local_ray(nvml_library, gpus), configure(tmp_path / "run", OUTPUTS) as logger:
        logger.add_source(Sampled(source, 0.2))
        model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=64, n_epochs=1, device="cpu")
        model.set_logger(logger)
        model.learn(256, callback=callback)
        logger.close(ARRIVAL_S)
    records = list(read(tmp_path / "run" / "journal.jsonl"))
    found = {output.name: compare(output, records) for output in logger.output_formats}

    assert [step for step, _ in callback.expected] == [64, 128, 192, 256]
    assert {name: each.differences for name, each in found.items()} == dict.fromkeys(OUTPUTS, ())
    assert {name: each.history[KEY] for name, each in found.items()} == dict.fromkeys(
        OUTPUTS, callback.expected
    )
    text = (tmp_path / "run" / "train.log").read_text()
    assert "gpu.0.util_max" in text
    assert "nodes_alive" in text


def test_ray_that_starts_ends_and_starts_again_is_followed(tmp_path, nvml_library, caplog):
    """Each change is said once; the source starts no Ray of its own."""
    import ray

    gpus, source = tmp_path / "gpus.txt", RayGpuSource(every_s=5, timeout_s=10)
    nvml_stand_in.write_gpus(gpus, [StandInGpu(util=33)])

    def sees_it() -> bool:
        return source().get("ray/node.local.gpu.0.util") == 33

    assert source() == source() == {}
    assert not ray.is_initialized()
    with local_ray(nvml_library, gpus):
        wait_until(sees_it, ARRIVAL_S)
    assert source() == source() == {}
    assert not ray.is_initialized()
    with local_ray(nvml_library, gpus):
        wait_until(sees_it, ARRIVAL_S)

    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [message for message in told if "Ray " in message] == [
        "ray_gpu: Ray has not been started in this process; its metrics come as soon as it is there",
        "ray_gpu: Ray is there; its metrics come from now on",
        "ray_gpu: Ray was shut down in this process; its metrics come as soon as it is there",
        "ray_gpu: Ray is there; its metrics come from now on",
    ]
