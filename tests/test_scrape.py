"""Asking many nodes for their pages: none of them can hold up the others, nor the trainer."""

import time
from collections.abc import Iterator

import pytest
from metrics_nodes import MetricsNode, drips, endless, http, never, nodes, packed, page, sends

from rl_logging.sources.scrape import Scraper, Target, fetch, unpacked

LONG_S = 30.0  # longer than any test takes


def scraper(timeout_s: float = 1.0) -> tuple[Scraper, dict[Target, bytes]]:
    """A scraper, and what it has taken."""
    taken: dict[Target, bytes] = {}

    def take(target: Target, pieces: Iterator[bytes]) -> None:
        whole = b"".join(pieces)
        if not whole:
            raise ValueError("an empty page")
        taken[target] = whole

    return Scraper(take, timeout_s, max_bytes=1 << 20), taken


def got(node: MetricsNode, timeout_s: float) -> bytes:
    """One page, or why there is none."""
    return b"".join(unpacked(fetch(*node.target, timeout_s, 1 << 20), 1 << 20))


def test_pages_of_all_nodes_arrive():
    """Packed or not."""
    with nodes(
        sends(http(page(1))), sends(packed(page(2))), sends(b"HTTP/1.0 200 OK\r\n\r\n" + page(3))
    ) as three:
        asked, taken = scraper()

        asked.ask([node.target for node in three])

        assert taken == {node.target: page(number) for number, node in enumerate(three, 1)}
        assert asked.silent == {}


def test_request_asks_for_gzip_and_for_the_end_of_the_connection():
    """A connection that is kept open blocks the cluster's Prometheus."""
    with nodes(sends(http(page()))) as (node,):
        got(node, 5.0)

        (request,) = node.requests
        assert request.startswith(b"GET /metrics HTTP/1.1\r\n")
        assert b"Accept-Encoding: gzip\r\n" in request
        assert b"Connection: close\r\n" in request


def test_request_goes_to_the_node_whatever_proxy_there_is(monkeypatch):
    """A cluster's own addresses are none of the proxy's business."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with nodes(sends(http(page()))) as (node,):
        assert got(node, 5.0) == page()


def test_redirection_is_not_followed():
    """A node that lies must not send the trainer elsewhere."""
    elsewhere = MetricsNode(sends(http(page())))
    moved = sends(http(b"", "302 Found", f"Location: http://127.0.0.1:{elsewhere.port}/\r\n"))
    with nodes(moved) as (node,), pytest.raises(ValueError, match="it answers 302"):
        got(node, 5.0)
    elsewhere.close()
    assert elsewhere.requests == []


BAD = {
    "500": (sends(http(b"trace\x1b[31m", "500 Oops")), r"it answers 500: b'trace\\x1b\[31m'"),
    "endless": (endless, "longer than 1 MiB"),
    "bomb": (sends(packed(b"\0" * (64 << 20))), "longer than 1 MiB"),
    "garbage": (sends(b"\x00\xff\x1b[2J\n" * 100), None),
    "cut off": (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc"), "cut off"),
    "cut off, packed": (
        sends(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
            + packed(page()).partition(b"\r\n\r\n")[2][:-12]
        ),
        "cut off",
    ),
    "not packed": (sends(http(b"plain", headers="Content-Encoding: gzip\r\n")), None),
    "nothing": (sends(), None),
    "half a header": (sends(b"HTTP/1.1 200 OK\r\nContent-"), None),
    "endless header": (sends(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000), None),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_node_is_silent_and_the_others_are_not(kind):
    """Whatever one of them answers."""
    answer, why = BAD[kind]
    with nodes(sends(http(page())), answer) as (good, bad):
        asked, taken = scraper(LONG_S)

        asked.ask([good.target, bad.target])

        assert taken == {good.target: page()}
        assert list(asked.silent) == [bad.target]
        if why:
            with pytest.raises(ValueError, match=why):
                got(bad, LONG_S)


def test_dead_node_is_silent():
    """Its port refuses."""
    with nodes(sends(http(page())), never) as (good, dead):
        dead.close()
        asked, taken = scraper(LONG_S)

        asked.ask([good.target, dead.target])

        assert list(taken) == [good.target]
        assert "refused" in asked.silent[dead.target]


@pytest.mark.parametrize("answer", [never, drips])
def test_time_limit_holds_for_the_whole_answer(answer):
    """A node that sends a byte now and then would hold a thread, and its own exporter, for ever."""
    with nodes(answer) as (node,):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            got(node, 0.3)

        assert time.monotonic() - began < LONG_S


def test_healthy_nodes_are_published_without_the_mute_one():
    """Its limit is half a minute; the others' pages are not that old."""
    with nodes(never, sends(http(page(1))), sends(http(page(2)))) as (mute, *good):
        asked, taken = scraper(LONG_S)

        began = time.monotonic()
        asked.ask([mute.target, *(node.target for node in good)])

        assert time.monotonic() - began < LONG_S / 3
        assert taken == {node.target: page(number) for number, node in enumerate(good, 1)}
        assert asked.silent == {mute.target: "no answer yet"}


def test_node_that_has_not_answered_is_not_asked_again():
    """Its exporter serves one connection at a time: a second one would only wait behind the first."""
    with nodes(never, sends(http(page()))) as (mute, good):
        asked, _ = scraper(LONG_S)
        for _ in range(5):
            asked.ask([mute.target, good.target])

        assert len(good.requests) == 5
        assert len(mute.requests) == 1


def test_no_two_requests_to_one_node_at_once():
    """Also where two names of the cluster lead there."""
    with nodes(sends(http(page()))) as (node,):
        asked, taken = scraper()
        asked.ask([node.target, node.target])

        assert len(node.requests) == 1
        assert node.most_connections == 1
        assert list(taken) == [node.target]


def test_late_answer_counts_in_the_next_round():
    """A node under load is slow, not lost."""
    go_on = []

    def slow(connection):
        while not go_on:
            connection.settimeout(0.02)
            try:
                connection.recv(1)
            except TimeoutError:
                continue
        connection.sendall(http(page(7)))

    with nodes(slow, sends(http(page()))) as (late, good):
        asked, taken = scraper(LONG_S)
        asked.ask([late.target, good.target])
        assert list(taken) == [good.target]

        go_on.append(True)
        deadline = time.monotonic() + LONG_S
        while late.target not in taken and time.monotonic() < deadline:
            asked.ask([late.target, good.target])

        assert taken[late.target] == page(7)
        assert asked.silent == {}


def test_node_that_recovers_is_asked_and_heard():
    """Silence is no verdict."""
    answers = [http(b"", "503 Busy"), http(page())]
    with nodes(lambda connection: connection.sendall(answers.pop(0))) as (node,):
        asked, taken = scraper()
        asked.ask([node.target])
        assert list(asked.silent) == [node.target]

        deadline = time.monotonic() + LONG_S
        while not taken and time.monotonic() < deadline:
            asked.ask([node.target])

        assert asked.silent == {}


def test_node_that_has_left_is_forgotten():
    """It is not counted as silent for ever."""
    with nodes(never) as (node,):
        node.close()
        asked, _ = scraper()
        asked.ask([node.target])
        assert list(asked.silent) == [node.target]

        asked.ask([])

        assert asked.silent == {}


def test_late_error_of_a_node_that_has_left_counts_for_nothing():
    """Its name is not known any more."""
    with nodes(never, sends(http(page()))) as (mute, good):
        asked, taken = scraper(0.7)
        asked.ask([mute.target, good.target])
        deadline = time.monotonic() + LONG_S
        while asked._asked and time.monotonic() < deadline:
            asked.ask([good.target])

        assert asked._asked == set()
        assert asked.silent == {}
        assert list(taken) == [good.target]


def test_hundreds_of_nodes_are_asked_by_few_threads():
    """Bounded, and each is asked once."""
    with nodes(*[sends(packed(page(number))) for number in range(200)]) as many:
        asked, taken = scraper(LONG_S)

        asked.ask([node.target for node in many])

        assert taken == {node.target: page(number) for number, node in enumerate(many)}
        assert {len(node.requests) for node in many} == {1}
