"""The benchmark's own client: what it would miss would be missing from every figure."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from benchmarks.client import Failed, ask_closed, ask_open, body_of, is_whole

HEAD = b"HTTP/1.1 200 OK\r\nserver: x\r\n"
PLAIN = HEAD + b"Content-Length: 4\r\n\r\nbody"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED])
def test_an_answer_is_whole_at_its_last_byte_and_not_before(answer: bytes) -> None:
    assert [is_whole(answer[:end]) for end in range(len(answer) + 1)] == [False] * len(answer) + [
        True
    ]
    assert body_of(answer) == b"body"


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nserver: x\r\n\r\n"],
)
def test_an_answer_that_is_not_200_or_has_no_end_fails_the_side(answer: bytes) -> None:
    with pytest.raises(Failed):
        is_whole(answer)


@contextmanager
def server(answers: int, answer: bytes = PLAIN) -> Iterator[int]:
    """Answers so many requests of one connection, then reads and says no more."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                asked = 0
                while connection.recv(1 << 16):
                    asked += 1
                    if asked <= answers:
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(5)


def test_a_closed_loop_has_a_latency_for_each_answer_and_keeps_those_it_was_told_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = itertools.count()  # a clock that moves by a second whenever it is read
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr("benchmarks.client.time", clock)
    with server(answers=10**9) as port:
        turn = ask_closed(port, [b"first", b"second"], 1, 20.0, keep=1)
    assert len(turn.kept) == len(turn.latencies) > 2
    assert turn.kept[:3] == [(0, PLAIN), (1, PLAIN), (0, PLAIN)]
    assert turn.wall >= sum(turn.latencies)


def test_a_refusal_is_counted_and_is_no_answer() -> None:
    with server(10**9, b"HTTP/1.1 429 Busy\r\ncontent-length: 0\r\n\r\n") as port:
        turn = ask_closed(port, [b"row"], 1, 0.5)
    assert turn.refused  # how often depends on the machine
    assert not turn.latencies
    assert not turn.kept


def test_what_a_server_leaves_unanswered_in_an_open_loop_counts_from_when_it_was_due() -> None:
    """One connection, one answer: the rest waits for it, and is late by all of the wait."""
    with server(answers=1) as port:
        turn = ask_open(port, [b"row"], 1, 2000.0, 0.01, grace=1.0)  # in which one answer comes
    assert turn.unanswered == len(turn.latencies) - 1 > 3
    assert min(sorted(turn.latencies)[1:]) > 1.0
