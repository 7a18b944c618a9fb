"""All deliveries of one process: a thread each, so that none waits for another."""

import threading
import time
from pathlib import Path

from rl_logging.delivery import Delivery
from rl_logging.errors import Trouble
from rl_logging.formats import make_sender
from rl_logging.formats.base import Sender
from rl_logging.manifest import Entry
from rl_logging.values import describe

_LAG_S = 60.0


class Deliveries:
    """The deliveries of one run, each in a thread of its own.

    :param folder: the run folder
    :param session: when the logger whose records these are was made, in milliseconds
    """

    def __init__(self, folder: Path, session: float = float("inf")) -> None:
        self.folder = folder
        self.by_name: dict[str, Delivery] = {}
        self._session = session
        self._threads: list[threading.Thread] = []
        self._trouble = Trouble()
        self._behind: set[str] = set()  # those of which it was said

    def take_on(self, entries: list[Entry]) -> None:
        """Begin to deliver to outputs that are new, and end where one was removed."""
        for entry in entries:
            known = self.by_name.get(entry.name)
            if known is not None:
                known.entry = entry
                continue
            try:
                self.begin(entry, build(entry))
            except Exception as error:  # one output's trouble is not the others'
                message = f"{entry.name}: cannot be delivered to: {describe(error)}. The journal keeps all."
                self._trouble.tell(entry.name, message, error)

    def begin(self, entry: Entry, sender: Sender, from_start: bool = False) -> None:
        """Begin to deliver to one output.

        :param from_start: all again, into the same run
        :raises OSError: there is no journal
        """
        delivery = self.by_name[entry.name] = Delivery(self.folder, entry, sender, self._session, from_start)
        thread = threading.Thread(target=delivery.run, name=f"deliver to {entry.name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """End every delivery after what it does now."""
        for delivery in self.by_name.values():
            delivery.stop()

    def wake(self) -> None:
        """Let every delivery look at the journal now, also one that pauses after a failure."""
        for delivery in self.by_name.values():
            delivery.wake()

    def end(self, status: str) -> None:
        """Say that no more records will come, where the journal itself does not."""
        for delivery in self.by_name.values():
            delivery.ending = status

    def tell_lag(self) -> None:
        """Say which deliveries have been behind for long, whatever keeps them."""
        for name, delivery in self.by_name.items():
            since = delivery.behind_since
            if since is not None and (lag_s := time.monotonic() - since) > _LAG_S:
                self._behind.add(name)
                self._trouble.tell(
                    f"lag {name}", f"{name} has been behind for {lag_s:.0f} s; nothing is lost"
                )
            elif since is None and name in self._behind:
                self._behind.remove(name)
                self._trouble.tell(f"caught up {name}", f"{name} has caught up")

    def wait(self, timeout_s: float) -> None:
        """Wait until every delivery has ended."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    @property
    def are_broken(self) -> bool:
        """Whether one of them can go on only in a new process."""
        return any(delivery.sender.is_broken for delivery in self.by_name.values())

    @property
    def are_done(self) -> bool:
        """Whether no delivery has anything left to do."""
        return not any(thread.is_alive() for thread in self._threads)


def build(entry: Entry) -> Sender:
    """The sender of an output.

    :raises KeyError: its kind is unknown
    :raises MissingBackendError: its package is not installed
    :raises TypeError: an argument that its constructor does not have
    """
    sender = make_sender(entry.kind, dict(entry.arguments))
    sender.name = entry.name
    sender.leave_open = entry.leave_open
    return sender
