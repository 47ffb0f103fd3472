"""The short way of predictions over real sockets, beside uvicorn's own."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import uvicorn

from homeostat.errors import HomeostatError, InvalidRow
from serving import access
from serving.batching import Done, Reply
from serving.draining import Leaving
from serving.meters import Meter
from serving.patience import Limits
from serving.predicting import Predictor, Wanted
from serving.protocol import GatewayProtocol, protocol_of

PATH = "/v1/models/m/predict"


class Echo(Predictor):
    """Admits everything for model `m` and answers with the body; some bodies mean more."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.parsed = 0
        self.stalled = threading.Event()
        self.shut_out: set[bytes | None] = set()
        self.caller = access.Caller("a", access.EVERY, None, "", b"", 0.0, Meter())

    def wanted(self, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Wanted | None:
        self.parsed += 1
        given = dict(headers)
        length = int(given.get(b"content-length", b"0"))
        return Wanted("m", given.get(b"authorization"), length) if url == PATH.encode() else None

    def enter(self, wanted: Wanted) -> access.Caller | None:
        return None if wanted.authorization in self.shut_out else self.caller

    def take(self, model: str, body: bytes, done: Done) -> None:
        assert model == "m"
        result: Reply | HomeostatError = Reply(body, 3, 7)
        if body == b"raise":
            raise ZeroDivisionError
        if body == b"refuse":
            result = InvalidRow("Row 0 is bad.", row=0)
        if body == b"stall":
            self.stalled.set()
            time.sleep(1.5)  # longer than a connection may be quiet here
        if body == b"wait":
            asyncio.get_running_loop().call_later(0.2, done, result)
        else:
            done(result)

    def count_refusal(self, model: str, error: HomeostatError) -> None:
        self.refused.append(f"{model}:{error.code}")


async def long_way(scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    """An application that says which way the request came."""
    if scope["type"] != "http":
        return
    body, more = b"the long way: ", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message.get("more_body", False)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def echo() -> Echo:
    return Echo()


@pytest.fixture(scope="module")
def port(echo: Echo) -> Iterator[int]:
    with serving_by(protocol_of(echo)) as port:
        yield port


@contextmanager
def serving_by(protocol: type[GatewayProtocol]) -> Iterator[int]:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            long_way,
            http=protocol,
            ws="none",
            lifespan="off",
            log_level="warning",
            timeout_keep_alive=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


class Caller:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.pending = b""

    def send(self, body: bytes, path: str = PATH, more: str = "") -> None:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{more}content-length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)

    def read(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        while b"\r\n\r\n" not in self.pending:
            self._receive()
        head, _, self.pending = self.pending.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers["content-length"])
        while len(self.pending) < length:
            self._receive()
        body, self.pending = self.pending[:length], self.pending[length:]
        return int(status.split()[1]), headers, body

    def _receive(self) -> None:
        received = self.socket.recv(65536)
        assert received, "the connection was closed"
        self.pending += received


@pytest.fixture
def caller(port: int) -> Iterator[Caller]:
    caller = Caller(port)
    with closing(caller.socket):
        yield caller


def test_one_connection_carries_many_predictions_whole_and_in_pieces(caller: Caller) -> None:
    caller.send(b"one")
    status, headers, body = caller.read()
    assert (status, body) == (200, b"one")
    assert headers["x-homeostat-version"] == "3"
    assert headers["x-homeostat-generation"] == "7"
    for piece in (b"POST /v1/models/m/pre", b"dict HTTP/1.1\r\nContent-Length: 5\r\n\r\nt", b"wo"):
        caller.socket.sendall(piece)
        time.sleep(0.02)
    caller.socket.sendall(b"!!")
    assert caller.read()[2] == b"two!!"


def test_what_is_pipelined_is_answered_in_its_turn(caller: Caller) -> None:
    caller.send(b"wait")
    caller.send(b"second")
    caller.send(b"third", path="/other")
    caller.send(b"fourth")
    assert [caller.read()[2].removeprefix(b"the long way: ") for _ in range(4)] == [
        *(b"wait", b"second", b"third", b"fourth")
    ]
    caller.send(b"short again")
    assert caller.read()[2] == b"short again"


def test_a_refusal_is_a_problem_and_the_connection_stays(caller: Caller, echo: Echo) -> None:
    caller.send(b"refuse")
    status, headers, body = caller.read()
    assert (status, headers["content-type"]) == (422, "application/problem+json")
    assert b"urn:homeostat:invalid-row" in body
    caller.send(b"raise")
    assert caller.read()[0] == 500
    assert echo.refused == ["m:invalid-row", "m:internal"]
    caller.send(b"good")
    assert caller.read()[2] == b"good"


@pytest.mark.parametrize(
    "more", ["connection: close\r\n", "expect: 100-continue\r\n", "connection: upgrade\r\n"]
)
def test_the_unusual_goes_the_long_way(port: int, more: str) -> None:
    caller = Caller(port)
    with closing(caller.socket):
        caller.send(b"x", path="/v1/models/other/predict")
        assert caller.read()[2] == b"the long way: x"
        caller.send(b"y", more=more)
        if more.startswith("expect"):
            assert caller.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        status, _, body = caller.read()
        assert status == 200
        assert body in (b"y", b"the long way: y")
        assert body == b"the long way: y" or more == "connection: upgrade\r\n"


def test_a_head_that_was_parsed_before_is_known_by_its_bytes_and_its_token_asked_again(
    caller: Caller, port: int, echo: Echo
) -> None:
    mine = "authorization: Bearer mine\r\n"
    caller.send(b"first", more=mine)
    assert caller.read()[2] == b"first"
    parsed = echo.parsed
    other = Caller(port)
    with closing(other.socket):
        for body in (b"again", b"later"):
            other.send(body, more=mine)
            assert other.read()[2] == body
        assert echo.parsed == parsed
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\n{mine}content-length: 5\r\n\r\n".encode()
        other.socket.sendall(head + b"piece"[:2])  # whole heads of known bytes, parsed all the same
        time.sleep(0.02)
        other.socket.sendall(b"piece"[2:] + head + b"third" + head + b"forth")
        assert [other.read()[2].removeprefix(b"the long way: ") for _ in range(3)] == [
            *(b"piece", b"third", b"forth")
        ]
        echo.shut_out.add(b"Bearer mine")
        other.send(b"after", more=mine)
        assert other.read()[2] == b"the long way: after"


@pytest.mark.parametrize("before", [b"\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"])
def test_no_head_is_learnt_from_bytes_that_are_not_one_request(port: int, before: bytes) -> None:
    """Or else its answer would be given to whoever sends these bytes before a body."""
    caller, stranger = Caller(port), Caller(port)
    body = b"abcdefghijk"
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with closing(caller.socket), closing(stranger.socket):
        caller.socket.sendall(before + head + body)
        while caller.read()[2].removeprefix(b"the long way: ") != body:
            pass
        stranger.socket.sendall(before + body)
        answer = stranger.socket.recv(65536)
        assert body not in answer


def test_a_quiet_connection_is_closed_and_one_that_asks_is_not(caller: Caller, port: int) -> None:
    """It is a second here; the timer of the first answer finds the second."""
    quiet = Caller(port)
    with closing(quiet.socket):
        quiet.send(b"one")
        caller.send(b"one")
        assert quiet.read()[2] == caller.read()[2] == b"one"
        time.sleep(0.6)
        caller.send(b"two")
        assert caller.read()[2] == b"two"
        assert quiet.socket.recv(1) == b""
    caller.send(b"three")
    assert caller.read()[2] == b"three"
    assert caller.socket.recv(1) == b""


def test_a_request_that_came_while_the_loop_stalled_is_answered_not_cut_off(
    caller: Caller, port: int, echo: Echo
) -> None:
    """The timer of a quiet connection is due before what was received meanwhile is read."""
    quiet = Caller(port)
    with closing(quiet.socket):
        quiet.send(b"one")
        assert quiet.read()[2] == b"one"
        caller.send(b"stall")
        assert echo.stalled.wait(5)
        quiet.send(b"two")
        assert quiet.read()[2] == b"two"
        assert caller.read()[2] == b"stall"


def test_a_caller_that_leaves_before_its_answer_harms_nobody(port: int, caller: Caller) -> None:
    gone = Caller(port)
    gone.send(b"wait")
    gone.socket.close()
    caller.send(b"wait")
    assert caller.read()[2] == b"wait"


def test_nothing_is_under_way_once_answered_or_gone(echo: Echo, port: int) -> None:
    """Last in this file: every request before it has left the count of its caller."""
    meter = echo.caller.meter
    with socket.create_connection(("127.0.0.1", port)) as half:
        half.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nwa".encode())
        until(lambda: meter.under_way == 1)
    until(lambda: meter.under_way == 0)
    with socket.create_connection(("127.0.0.1", port)) as gone:
        gone.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nwait".encode())
        until(lambda: meter.under_way == 1)
    until(lambda: meter.under_way == 0)


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def hasty(echo: Echo) -> Iterator[int]:
    """A server with little patience."""
    limits = Limits(head_seconds=0.3, body_seconds=0.6, head_bytes=2000, headers=20)
    with serving_by(protocol_of(echo, limits)) as port:
        yield port


def rest(caller: Caller) -> bytes:
    """All that comes until the server hangs up."""
    while received := caller.socket.recv(65536):
        caller.pending += received
    return caller.pending


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", b""),
        (b"POST /v1/models/m/predict HTTP/1.1\r\nhost: x", b"The head of the request"),
        (b"POST /v1/models/m/predict HTTP/1.1\r\ncontent-length: 9\r\n\r\nab", b"The body"),
        (b"POST /elsewhere HTTP/1.1\r\ncontent-length: 9\r\n\r\nab", b"The body"),
    ],
)
def test_who_is_too_slow_is_told_so_and_holds_nothing(
    echo: Echo, hasty: int, sent: bytes, told: bytes
) -> None:
    caller = Caller(hasty)
    caller.socket.sendall(sent)
    answer = rest(caller)
    assert (b"HTTP/1.1 408 " in answer) == bool(told)
    assert told in answer
    assert echo.caller.meter.under_way == 0


def test_who_asks_in_time_and_rests_in_between_is_not_late(hasty: int) -> None:
    caller = Caller(hasty)
    for _ in range(4):
        caller.send(b"x", more="connection: keep-alive\r\n")
        assert caller.read()[0] == 200
        time.sleep(0.4)  # longer than the head of a request may take


@pytest.mark.parametrize(
    "head",
    [
        b"host: x\r\n" * 21 + b"\r\n",
        b"x: " + b"y" * 2000 + b"\r\n\r\n",
        b"x: " + b"y" * 4000,  # and no end of it
    ],
)
def test_a_head_beyond_its_limits_is_refused(hasty: int, head: bytes) -> None:
    caller = Caller(hasty)
    caller.socket.sendall(b"POST /v1/models/m/predict HTTP/1.1\r\n" + head)
    answer = rest(caller)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"head-too-large" in answer


def test_a_server_that_leaves_answers_and_lets_go_of_each_connection(echo: Echo) -> None:
    leaving = Leaving()
    with serving_by(protocol_of(echo, None, leaving)) as port:
        short, long = Caller(port), Caller(port)
        for caller, path in ((short, PATH), (long, "/elsewhere")):
            caller.send(b"before", path)
            assert "connection" not in caller.read()[1]
        leaving.begun = True
        for caller, path in ((short, PATH), (long, "/elsewhere")):
            caller.send(b"after", path)
            status, headers, _ = caller.read()
            assert (status, headers["connection"]) == (200, "close")
            assert rest(caller) == b""
