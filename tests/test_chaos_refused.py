"""A value that a tracker refuses is left out, alone, counted and named; all others arrive, in order."""

import logging
import random
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from chaos import PATIENCE_S, seed
from chaos_mlflow import PickyProxy, Watched
from hypothesis import given
from hypothesis import strategies as st

from rl_logging.delivery import Delivery
from rl_logging.formats.base import Sender
from rl_logging.handover import HandOver, RefusesAllError
from rl_logging.journal import Journal
from rl_logging.manifest import Entry
from rl_logging.record import CLOSED, METRICS, Record, lifecycle_record

FEW = 19  # refusals in a row; from one more on, it is not the values that are to blame

records = st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.booleans(), min_size=1), max_size=12)


class Picky(Sender):
    """Takes a batch whole, or refuses it for one value in it, as MLflow does."""

    name = "picky"
    remote = True
    batches = True

    def __init__(self) -> None:
        super().__init__()
        self.taken_values: list[tuple[int, str]] = []

    def handle_all(self, records: Sequence[Record]) -> None:
        values = [
            (each.step, key, value)
            for each in records
            if each.kind == METRICS
            for key, value in each.values.items()
        ]
        if any(value is False for *_, value in values):
            raise ValueError("it has a value that is refused")
        self.taken_values += [(step, key) for step, key, _ in values]


class OneByOne(Picky):
    """The same for each record."""

    batches = False


def _good(rows: list[dict[str, bool]]) -> list[tuple[int, str]]:
    return [(step, key) for step, row in enumerate(rows) for key, good in row.items() if good]


def _bad(rows: list[dict[str, bool]]) -> int:
    return sum(not good for row in rows for good in row.values())


@given(rows=records)
def test_exactly_the_good_values_are_handed_over_in_order(rows):
    """Whichever are refused: a batch is narrowed down to them, and nothing arrives twice."""
    sender = Picky()
    hands = HandOver(sender)
    given_records = [Record(step, 1.0, row, seq=step + 1) for step, row in enumerate(rows)]
    try:
        hands.give(given_records)
    except RefusesAllError:
        assert _bad(rows) > FEW
        hands.forget_unproven()
        good = _good(rows)
        assert sender.taken_values == good[: len(sender.taken_values)]
        assert hands.refused <= _bad(rows)
        return

    assert sender.taken_values == _good(rows)
    assert hands.refused == _bad(rows)


@given(rows=records.filter(lambda rows: _bad(rows) <= FEW), kind=st.sampled_from([Picky, OneByOne]))
def test_delivery_steps_over_what_is_refused_and_goes_on(rows, kind):
    """The same with a journal, a cursor and the end of the run."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder, "journal.jsonl"), fsync="never")
        for step, row in enumerate(rows):
            journal.append(Record(step, 1.0, row))
        journal.append(lifecycle_record(CLOSED, len(rows), status="finished"))
        journal.close()
        sender = kind()
        delivery = Delivery(Path(folder), Entry("picky", ""), sender)
        delivery.run()

    assert sender.taken_values == _good(rows)
    assert delivery.cursor.refused == _bad(rows)
    assert (delivery.cursor.state, delivery.cursor.handed) == ("finished", len(rows) + 1)


@given(count=st.integers(FEW + 1, 60))
def test_refusals_without_a_success_blame_the_run(count):
    """A run that was closed refuses all alike: nothing is counted, and all is tried again later."""
    hands = HandOver(Picky())

    with pytest.raises(RefusesAllError, match=f"{FEW + 1} values in a row"):
        hands.give([Record(step, 1.0, {"a": False}) for step in range(count)])

    hands.forget_unproven()
    assert hands.refused == 0


@pytest.fixture
def refusing_database(mlflow_server):
    """MLflow's own database refuses one key, and MLflow answers 400."""
    (store,) = mlflow_server._folder.glob("*.db")
    database = sqlite3.connect(store, timeout=60)
    refuse = "SELECT RAISE(ABORT, 'no such metric here')"
    database.execute(
        f"CREATE TRIGGER picky BEFORE INSERT ON metrics WHEN NEW.key = 'bad' BEGIN {refuse}; END"
    )
    database.commit()
    yield
    database.execute("DROP TRIGGER picky")
    database.commit()
    database.close()


def test_mlflow_refuses_one_value(tmp_path, mlflow_server, refusing_database, caplog):
    """Left out of the batch that it came in; it is in the journal, and is named once."""
    chance = random.Random(seed())
    with PickyProxy(mlflow_server.port) as proxy:
        run = Watched(tmp_path / f"run{chance.getrandbits(64)}", proxy, mlflow_server)
        bad = chance.sample(range(100), 3)
        for step in range(100):
            run.logger.record("a", step)
            run.logger.record("..dots", step)
            if step in bad:
                run.logger.record("bad", step)
            run.logger.dump(step)

        assert run.logger.flush(PATIENCE_S)
        health = run.logger.health()["mlflow"]
        run.logger.close(PATIENCE_S)

    assert run.arrived() == run.expected()
    assert (health.refused, health.waiting) == (3, 0)
    assert health.last_error.startswith(f"'bad' at step {max(bad)}: RestException: BAD_REQUEST")
    (mlflow_run,) = run.runs()
    assert sorted(key.partition("-")[0] for key in mlflow_run.data.metrics) == ["_dots", "a"]
    told = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert sum("refuses 'bad'" in each for each in told) == 1
