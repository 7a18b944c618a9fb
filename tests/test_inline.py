"""One output's trouble stays its own."""

import pytest

from rl_logging.errors import Trouble
from rl_logging.formats.base import Sender
from rl_logging.inline import InlineDelivery
from rl_logging.record import Record
from rl_logging.values import describe


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Remote(Sender):
    """A tracker whose server can be down."""

    name = "tracker"
    remote = True

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.asked = 0
        self.steps: list[int] = []

    def emit(self, record: Record) -> None:
        self.asked += 1
        if self.down:
            raise ConnectionError("no route to host")
        self.steps.append(record.step)


class Local(Remote):
    """The same on the machine's own disk."""

    name = "file"
    remote = False


def _record(step: int) -> Record:
    return Record(step, 0.0, {"a": step})


def test_dead_server_is_not_waited_for_at_every_dump():
    """Each try may take seconds of training; the pauses between them double, up to five minutes."""
    clock, output = Clock(), Remote()
    delivery = InlineDelivery(output, clock)
    output.down = True

    tries = []
    for second in range(2000):
        clock.now = 1000.0 + second
        before = output.asked
        delivery.deliver(_record(second))
        if output.asked > before:
            tries.append(second)

    assert tries == [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811, 1111, 1411, 1711]
    assert delivery.missed == 2000


def test_server_that_is_back_gets_what_comes_then():
    """And a later failure starts with the short pause again."""
    clock, output = Clock(), Remote()
    delivery = InlineDelivery(output, clock)
    for step, down, seconds in [
        (1, True, 0),
        (2, False, 0.5),
        (3, False, 1),
        (4, True, 1),
        (5, False, 2),
        (6, False, 2.5),
    ]:
        output.down, clock.now = down, 1000.0 + seconds
        delivery.deliver(_record(step))

    assert output.steps == [3, 5, 6]
    assert delivery.missed == 3


def test_local_output_is_tried_at_each_record():
    """A disk that has room again has it for the next row."""
    output = Local()
    delivery = InlineDelivery(output, Clock())
    for step, down in enumerate([True, True, False, True, False]):
        output.down = down
        delivery.deliver(_record(step))

    assert (output.steps, output.asked, delivery.missed) == ([2, 4], 5, 3)


def test_time_spent_in_the_failing_call_does_not_shorten_the_pause():
    """A server that hangs for a minute must not be asked again at once."""
    clock, output = Clock(), Remote()

    def hang(record: Record) -> None:
        output.asked += 1
        clock.now += 60
        raise TimeoutError

    output.emit = hang  # type: ignore[method-assign]
    delivery = InlineDelivery(output, clock)
    delivery.deliver(_record(1))
    clock.now += 0.5
    delivery.deliver(_record(2))

    assert output.asked == 1


def test_trouble_is_told_once_then_at_growing_intervals(caplog):
    """Neither hidden nor drowned in: after 1, 10, 100 minutes, with what was left out."""
    clock = Clock()
    trouble = Trouble(clock)
    for minute in range(250):
        clock.now = 1000.0 + 60 * minute
        trouble.tell("topic", f"minute {minute}")

    assert [record.getMessage() for record in caplog.records] == [
        "minute 0",
        "minute 1",
        "minute 11 (9 more like it since the last message)",
        "minute 111 (99 more like it since the last message)",
    ]


def test_every_topic_is_told(caplog):
    """A second trouble must not be taken for the first."""
    trouble = Trouble(Clock())
    for topic in ("a", "b", "a"):
        trouble.tell(topic, f"about {topic}")

    assert [record.getMessage() for record in caplog.records] == ["about a", "about b"]


def test_first_message_says_where_the_error_came_from(caplog):
    """Without the line in the user's own output, they cannot mend it."""
    output = Local()
    output.down = True

    InlineDelivery(output, Clock()).deliver(_record(7))

    message = caplog.records[0].getMessage()
    assert message.splitlines()[0] == (
        "file: step 7 was not written: ConnectionError: no route to host. Training goes on."
    )
    assert "in emit" in message


def test_close_says_what_is_missing(caplog):
    """Nothing goes missing in silence; nothing is said where nothing is missing."""
    for down in (False, True):
        output = Local()
        output.down = down
        delivery = InlineDelivery(output, Clock())
        delivery.deliver(_record(1))
        delivery.close()

    assert caplog.records[-1].getMessage().startswith("file: 1 records did not arrive")
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("a"), "KeyError: 'a'"),
        (OSError(), "OSError"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
    ],
)
def test_error_is_described_in_one_line(error, text):
    """A log is read by line."""
    assert describe(error) == text
