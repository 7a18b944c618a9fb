"""How the journal and the outputs of a run do."""

from typing import NamedTuple

from rl_logging.journal import Journal
from rl_logging.values import describe


class Health(NamedTuple):
    """How an output does.

    :param delivered: how many records were handed to it
    :param waiting: how many were not yet
    :param refused: how many values it refused
    :param retried: how many times a delivery was tried again
    :param last_error: why records wait, where they do; else the last value that was refused
    :param oldest_waiting_s: the age of the oldest record that waits, in seconds
    """

    delivered: int
    waiting: int
    refused: int = 0
    retried: int = 0
    last_error: str = ""
    oldest_waiting_s: float = 0.0


def journal_health(journal: Journal) -> Health:
    """How the journal does; what it lost counts as refused."""
    error = describe(journal.error) if journal.error else ""
    return Health(journal.written_seq - journal.lost, journal.waiting, journal.lost, last_error=error)
