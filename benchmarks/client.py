"""The benchmark's client: raw HTTP/1.1 over keep-alive connections, one thread, no event loop.

It must never be what is measured, so it does nothing but send bytes made beforehand, find the end
of an answer and note the time; `benchmarks.serving` shows what it gets out of a server that does
nothing. Waiting is by polling, on a core of its own: a timer would round to its millisecond.
"""

from __future__ import annotations

import random
import select
import socket
import time
from collections import deque
from dataclasses import dataclass, field

KEEP = 61  # of so many answers one is kept, to see afterwards that it was the right one
GRACE_SECONDS = 10.0  # for what is under way when a turn's time is up
CHUNK = 1 << 16
BUSY = (b"429", b"503")  # a refusal, which is counted and is no answer


@dataclass
class Turn:
    """What one turn saw: latencies and wall time in seconds, some whole answers by their row."""

    latencies: list[float] = field(default_factory=list)
    wall: float = 0.0
    unanswered: int = 0
    refused: int = 0
    kept: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.wall

    def latency(self, share: float) -> float:
        """The latency in milliseconds that a share of the requests stays below."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Failed(Exception):
    """A server did not answer as it should: in a few words, how."""


class _Connections:
    """Keep-alive connections to one port; each has at most one request under way."""

    def __init__(self, port: int, requests: list[bytes], count: int, keep: int) -> None:
        self.turn = Turn()
        self._keep = keep
        self.busy = 0
        self._requests = requests
        self._asked = 0
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._under_way: dict[int, tuple[int, float]] = {}
        self._parts: dict[int, bytes] = {}
        for _ in range(count):
            opened = socket.create_connection(("127.0.0.1", port), timeout=GRACE_SECONDS)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.setblocking(False)
            self._sockets[opened.fileno()] = opened
            self._poll.register(opened.fileno(), select.EPOLLIN)
        self.all = list(self._sockets)

    def send(self, connection: int, since: float) -> None:
        """Send the next row; its latency counts from a moment."""
        row = self._asked % len(self._requests)
        request = self._requests[row]
        self._asked += 1
        self._under_way[connection] = row, since
        if self._sockets[connection].send(request) != len(request):
            raise Failed("it does not read what it is sent")
        self.busy += 1

    def receive(self, wait: float) -> list[int]:
        """The connections whose answers are complete now, noted in the turn."""
        done = []
        for connection, _ in self._poll.poll(wait, CHUNK):
            try:
                data = self._sockets[connection].recv(CHUNK)
            except OSError as error:
                raise Failed(f"a connection broke: {error}") from error
            if not data:
                raise Failed("it closed a connection with a request under way")
            if connection in self._parts:
                data = self._parts.pop(connection) + data
            if not is_whole(data):
                self._parts[connection] = data
                continue
            row, since = self._under_way.pop(connection)
            self.busy -= 1
            done.append(connection)
            if data[9:12] in BUSY:
                self.turn.refused += 1
                continue
            self.turn.latencies.append(time.perf_counter() - since)
            if len(self.turn.latencies) % self._keep == 0:
                self.turn.kept.append((row, data))
        return done

    def unanswered(self) -> list[float]:
        """Since when each request waits that has no answer."""
        return [since for _, since in self._under_way.values()]

    def close(self) -> None:
        """Close them all."""
        self._poll.close()
        for opened in self._sockets.values():
            opened.close()


def is_whole(data: bytes) -> bool:
    """Whether an answer has come to its end.

    Raises:
        Failed: it is neither 200 nor a refusal, or does not say where it ends.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    if data[9:12] != b"200" and data[9:12] not in BUSY:
        raise Failed(f"it answered {data[:400]!r}")
    head = data[:end].lower()
    said = head.find(b"\r\ncontent-length:")
    if said >= 0:
        stop = head.find(b"\r\n", said + 2)
        return len(data) - end - 4 >= int(head[said + 17 : stop if stop > 0 else end])
    if b"\r\ntransfer-encoding: chunked" in head:
        return data.endswith(b"\r\n0\r\n\r\n")
    raise Failed(f"it does not say how long its answer is: {head!r}")


def body_of(answer: bytes) -> bytes:
    """The body of a whole answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"content-length:" in head.lower():
        return body
    parts = []
    while (size := int(body[: body.index(b"\r\n")], 16)) > 0:
        start = body.index(b"\r\n") + 2
        parts.append(body[start : start + size])
        body = body[start + size + 2 :]
    return b"".join(parts)


def ask_closed(
    port: int, requests: list[bytes], connections: int, seconds: float, keep: int = KEEP
) -> Turn:
    """Each connection asks again as soon as it is answered.

    Raises:
        Failed: an answer was wrong, or none came in time.
    """
    asked = _Connections(port, requests, connections, keep)
    try:
        start = time.perf_counter()
        until = start + seconds
        for connection in asked.all:
            asked.send(connection, time.perf_counter())
        while asked.busy:
            done = asked.receive(GRACE_SECONDS)
            if not done and time.perf_counter() > until + GRACE_SECONDS:
                raise Failed(f"{asked.busy} requests were not answered in {GRACE_SECONDS:.0f} s")
            for connection in done:
                now = time.perf_counter()
                if now < until:
                    asked.send(connection, now)
        asked.turn.wall = time.perf_counter() - start
        return asked.turn
    finally:
        asked.close()


def ask_open(
    port: int,
    requests: list[bytes],
    connections: int,
    rate: float,
    seconds: float,
    grace: float = 4.0,
) -> Turn:
    """Requests fall due at random moments (Poisson), however slow the answers are.

    A latency counts from the moment when the request was due, so a server that falls behind
    is seen to: what waits for a free connection waits in the figures too. What has no answer
    when the time to wait is up counts as if answered then.

    Raises:
        Failed: an answer was wrong.
    """
    asked = _Connections(port, requests, connections, KEEP)
    try:
        chance = random.Random(0)
        free = deque(asked.all)
        waiting: deque[float] = deque()
        start = time.perf_counter()
        until = start + seconds
        due = start + chance.expovariate(rate)
        while (now := time.perf_counter()) < until + grace:
            while due <= min(now, until):
                waiting.append(due)
                due += chance.expovariate(rate)
            while waiting and free:
                asked.send(free.popleft(), waiting.popleft())
            free.extend(asked.receive(0))
            if due > until and not waiting and not asked.busy:
                break
        turn, now = asked.turn, time.perf_counter()
        late = [now - since for since in (*waiting, *asked.unanswered())]
        turn.unanswered, turn.wall = len(late), now - start
        turn.latencies += late
        return turn
    finally:
        asked.close()
