"""An MLflow server that is away, slow, wrong or dead: training never waits, and all arrives once."""

import random
import sys
import threading
from collections.abc import Iterator

import pytest
from chaos import PATIENCE_S, seed
from chaos_mlflow import PickyProxy, Watched
from runs import dump, empty_store, in_mlflow
from waiting import wait_until

from rl_logging import configure
from rl_logging.cursor import CursorFile
from rl_logging.mlflow_server import MLflowServer

pytestmark = pytest.mark.timeout(600)  # on a machine that does much else
SILENT = ["refuse", "status 500", "status 429", "status 400", "hang", "cut"]  # no dump is answered


@pytest.fixture
def proxy(mlflow_server: MLflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[PickyProxy]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with PickyProxy(mlflow_server.port) as proxy:
        yield proxy


def test_whatever_the_server_does_all_arrives_once_it_is_mended(tmp_path, proxy, mlflow_server):
    """One courier meets every trouble, in any order, the first of them while it opens the run."""
    chance = random.Random(seed())
    troubles = chance.sample(SILENT, len(SILENT))
    sys.stdout.write(f"{troubles}\n")
    proxy.mode = troubles[0]
    run = Watched(tmp_path / f"run{chance.getrandbits(64)}", proxy, mlflow_server)
    steps = iter(range(10**9))

    for trouble in troubles:
        proxy.mode = trouble
        tries, waiting = run.tries, run.waiting
        dump(run.logger, *(next(steps) for _ in range(chance.randrange(1, 300))))
        wait_until(lambda before=tries: run.tries > before, PATIENCE_S)
        dump(run.logger, *(next(steps) for _ in range(chance.randrange(1, 300))))

        assert run.waiting > waiting  # all dumps have returned, and the server has answered none
        assert run.logger.health()["mlflow"].last_error
        assert run.logger.health()["mlflow"].refused == 0

        proxy.mode = "pass"
        assert run.logger.flush(PATIENCE_S)
        assert run.arrived() == run.expected()

    run.logger.close(PATIENCE_S)
    assert run.arrived() == run.expected()
    assert [each.info.status for each in run.runs()] == ["FINISHED"]
    assert len(run.expected()) == next(steps)


def test_slow_server_is_waited_for_by_the_courier_alone(tmp_path, proxy, mlflow_server):
    """Every answer takes its time; the dumps are done long before the first."""
    chance = random.Random(seed())
    proxy.mode = "hang"
    run = Watched(tmp_path / f"run{chance.getrandbits(64)}", proxy, mlflow_server)
    wait_until(lambda: bool(proxy.requests), PATIENCE_S)
    dump(run.logger, *range(2500))

    assert run.waiting >= 2500

    proxy.mode = "slow 0.2"
    assert run.logger.flush(PATIENCE_S)
    assert run.arrived() == run.expected()
    batches = sum(path.endswith("/runs/log-batch") for _, path in proxy.requests)
    assert 3 <= batches <= 6  # as few as MLflow's limit of 1,000 values a request allows
    run.logger.close(PATIENCE_S)


def test_server_dies_and_comes_back(tmp_path, proxy, mlflow_server):
    """Killed in the middle of what it is sent; what it had is what its store has."""
    chance = random.Random(seed())
    run = Watched(tmp_path / f"run{chance.getrandbits(64)}", proxy, mlflow_server)
    dump(run.logger, *range(3000))
    wait_until(lambda: any(path.endswith("/runs/log-batch") for _, path in proxy.requests), PATIENCE_S)
    mlflow_server.kill()
    try:
        dump(run.logger, *range(3000, 5000))
        tries = run.tries
        wait_until(lambda: run.tries > tries, PATIENCE_S)

        assert run.waiting >= 2000
    finally:
        mlflow_server.start()

    assert run.logger.flush(PATIENCE_S)
    assert [step for step, *_ in run.arrived()] == list(range(5000))
    assert run.arrived() == run.expected()
    run.logger.close(PATIENCE_S)


@pytest.mark.parametrize("trouble", ["cut", "hang"])
def test_answers_that_are_lost_double_nothing(trouble, tmp_path, proxy, mlflow_server):
    """The server has done what it was asked for, or has not; asked again, it must not do it twice."""
    chance = random.Random(seed())
    calls = ("/experiments/create", "/runs/create", "/runs/log-batch", "/runs/update")
    proxy.picked = {call: [trouble, "pass"] for call in calls}
    run = Watched(tmp_path / f"run{chance.getrandbits(64)}", proxy, mlflow_server)
    dump(run.logger, *range(100))

    assert run.logger.flush(PATIENCE_S)
    run.logger.close(PATIENCE_S)
    assert [each.info.status for each in run.runs()] == ["FINISHED"]
    assert run.arrived() == run.expected()
    tried = [path for _, path in proxy.requests]
    assert all(sum(path.endswith(call) for path in tried) > 1 for call in calls[2:])


def test_twenty_threads_dump_at_once(tmp_path):
    """Each value is in one dump, whichever thread's, and each dump is in MLflow."""
    empty_store(tmp_path)
    logger = configure(tmp_path / "run", ["mlflow"])
    start = threading.Barrier(20)

    def log(thread: int) -> None:
        start.wait(PATIENCE_S)
        for number in range(100):
            logger.record(f"key{thread}", number)
            logger.dump(number)

    threads = [threading.Thread(target=log, args=(thread,)) for thread in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE_S)
    logger.close(PATIENCE_S)

    arrived = in_mlflow(tmp_path / "run")
    assert {key: sorted(value for _, value in points) for key, points in arrived.items()} == {
        f"key{thread}": [float(number) for number in range(100)] for thread in range(20)
    }
    assert CursorFile(tmp_path / "run", "mlflow").load().state == "finished"
