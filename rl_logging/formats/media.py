"""The files in ``media/``: encoded as they are recorded, also where no tracker needs them."""

from collections.abc import Iterable

from rl_logging.errors import MissingBackendError
from rl_logging.formats.base import History, Sender
from rl_logging.media_files import encoded
from rl_logging.record import Record
from rl_logging.rich import Media


class MediaSender(Sender):
    """Encode the videos and images of a run. The logger adds it when it takes the first one."""

    name = "media"
    remote = True  # it takes its time, as trackers do

    def emit(self, record: Record) -> None:
        for key, value in record.values.items():
            if isinstance(value, Media):
                try:
                    encoded(value)
                except (MissingBackendError, ValueError) as error:
                    self.refuse(key, record.step, f"it stays as it was recorded: {error}")

    def where(self) -> str:
        return "the run folder"

    def history(self) -> History:
        return {}

    def expected(self, records: Iterable[Record]) -> History:
        return {}
