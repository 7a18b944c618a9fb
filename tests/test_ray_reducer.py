"""Ray: workers that are actors, by handles, by parts, and as ranks with a collector."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import nvml_stand_in
import pytest
import ray_workers
from ray_clusters import local_ray
from ray_workers import Worker, values_of
from waiting import wait_until

from rl_logging import Logger, MemoryOutputFormat, MissingBackendError, RayReducer, configure
from rl_logging.journal import read

LONG_S = 120.0
WORKERS, RANKS = 8, 3

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:.*RAY_ACCEL_ENV_VAR:FutureWarning")


@pytest.fixture(scope="module")
def actors(nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What makes actors with ranks, on a Ray of this module."""
    gpus = tmp_path_factory.mktemp("ray") / "gpus.txt"
    nvml_stand_in.write_gpus(gpus, [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # for Ray's workers
        with local_ray(nvml_library, gpus):
            yield _make


def _make(count: int) -> list[Any]:
    import ray

    class_ = ray.remote(num_cpus=0)(Worker)
    return [class_.remote(rank) for rank in range(count)]


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[tuple[Logger, MemoryOutputFormat]]:
    """A controller's logger, and what it has written."""
    memory = MemoryOutputFormat()
    with configure(tmp_path, []) as logger:
        logger.output_formats.append(memory)
        yield logger, memory


def answers(references: list[Any]) -> list[Any]:
    import ray

    found: list[Any] = ray.get(references, timeout=LONG_S)
    return found


def check(values: dict[str, Any], count: int) -> None:
    """The mean is that of all values, each counted once."""
    together = np.concatenate([values_of(rank) for rank in range(count)])
    assert values["ranks"] == count
    assert values["mean"] == pytest.approx(together.mean(), rel=1e-12)
    assert values["time/rollout_count"] == count


def test_eight_actors_record_by_handles(actors, seen):
    """Nothing is sent by hand: the dump asks."""
    logger, memory = seen
    workers = actors(WORKERS)
    answers([worker.record.remote(logger.handle()) for worker in workers])

    logger.dump(1)

    check(dict(memory.records[0].values), WORKERS)


def test_handle_reaches_its_logger_over_the_network(actors, seen):
    """As from another machine, where the socket's file is not."""
    logger, memory = seen
    (worker,) = actors(1)
    handle = logger.handle(rank=5)
    handle._place = handle._place._replace(path="/nonexistent/inbox")
    answers([worker.record.remote(handle)])

    logger.dump(1)

    assert handle._place.address is not None
    check(dict(memory.records[0].values), 1)


def test_eight_actors_give_their_parts_with_their_answers(actors, seen):
    """The controller waits for its workers anyhow; their parts come in the same message."""
    logger, memory = seen
    parts = answers([worker.part.remote() for worker in actors(WORKERS)])

    logger.add_parts(parts)
    logger.dump(1)

    check(dict(memory.records[0].values), WORKERS)


def test_actors_are_ranks_of_one_run(actors, tmp_path):
    """Each has a logger; that of rank 0 writes. A killed rank is counted, and not waited for twice."""
    import ray

    folder, workers = str(tmp_path / "run"), actors(RANKS)
    ready = [worker.configure.remote(folder, RANKS, name="killed", timeout_s=20.0) for worker in workers]
    answers(ready)
    assert answers([worker.dump.remote(1) for worker in workers]) == [""] * RANKS
    ray.kill(workers[2])

    for step in (2, 3):
        assert answers([worker.dump.remote(step) for worker in workers[:2]]) == [""] * 2

    first, second, third = answers([workers[0].read.remote(folder)])[0]
    check(first, RANKS)
    assert (second["ranks"], second["ranks/missing"], third["ranks/missing"]) == (2, 1, 1)
    answers([worker.close.remote() for worker in (workers[1], workers[0])])


def test_missing_rank_is_an_error_if_that_is_wanted(actors, tmp_path):
    """Within the time limit, and what came is written."""
    folder, workers = str(tmp_path / "run"), actors(2)
    options = {"name": "raise", "timeout_s": 2.0, "on_missing": "raise"}
    answers([worker.configure.remote(folder, 2, **options) for worker in workers])

    (error,) = answers([workers[0].dump.remote(1)])

    assert error == "MissingRanksError: rank 1 sent nothing for this dump within 2 s; the rest is written"
    assert answers([workers[0].read.remote(folder)])[0][0]["ranks"] == 1
    assert answers([workers[1].dump.remote(1)]) == [""]
    wait_until(lambda: answers([each.dump.remote(2) for each in workers]) == ["", ""], LONG_S)
    assert answers([workers[0].read.remote(folder)])[0][-1]["ranks"] == 2
    answers([worker.close.remote() for worker in (workers[1], workers[0])])


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_workers_of_ray_train_are_ranks_without_a_word(actors, tmp_path):
    """``configure`` finds out, in each of them."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    trainer = DataParallelTrainer(
        ray_workers.train,
        train_loop_config={"folder": str(tmp_path / "run")},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.1}),
        run_config=RunConfig(storage_path=str(tmp_path / "train"), name="two"),
    )
    trainer.fit()

    (values,) = [dict(each.values) for each in read(tmp_path / "run/journal.jsonl") if each.kind == "metrics"]
    assert values == {"ranks": 2, "by": "RayReducer"}


def test_rank_whose_collector_is_gone_goes_on(actors, tmp_path):
    """Rank 0 is dead, and with it the run; the others' training is not."""
    import ray

    folder, workers = str(tmp_path / "run"), actors(2)
    answers([worker.configure.remote(folder, 2, name="gone") for worker in workers])
    ray.kill(workers[0])

    assert answers([workers[1].dump.remote(step) for step in range(20)]) == [""] * 20


def test_collector_that_nobody_starts_is_an_error_within_the_time_limit(actors):
    """Not a hang."""
    actors(0)
    with pytest.raises(RuntimeError, match=r"rank 0 has started no RayReducer 'nobody' within 0\.2 s"):
        RayReducer(1, 2, "nobody", timeout_s=0.2)


def test_two_collectors_of_one_name_are_an_error_at_once(actors):
    """It says what to do."""
    actors(0)
    first = RayReducer(0, 1, "twice")
    with pytest.raises(RuntimeError, match="another RayReducer of this Ray job has the name 'twice'"):
        RayReducer(0, 1, "twice")
    first.close()


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((2, 2), {}, "rank=2 is not one of 2 ranks"),
        ((-1, 2), {}, "rank=-1 is not one of 2 ranks"),
        (("0", 2), {}, "rank='0' is not one of 2 ranks"),
        ((0, None), {}, "rank=0 is not one of None ranks"),
        ((0, 2), {"timeout_s": 0}, "timeout_s is a number of seconds above 0, not 0"),
        ((0, 2), {"on_missing": "wait"}, "on_missing is 'partial' or 'raise', not 'wait'"),
    ],
)
def test_bad_argument_is_an_error_at_once(arguments, options, said):
    """It names the argument and what is allowed."""
    with pytest.raises(ValueError, match=said):
        RayReducer(*arguments, **options)


def test_without_ray_the_extra_is_named(monkeypatch):
    """Before anything is trained."""
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(MissingBackendError, match=r"ray is not installed; pip install 'rl_logging\[ray\]'"):
        RayReducer(0, 2)
