"""The hot path: predictions are answered where their bytes are parsed, without a task.

A request that ASGI carries costs a scope, a task, two events and two writes to its socket: more
than the prediction. This is uvicorn's own protocol with one more way out: a plain POST for
predictions goes from the parser to the batcher and back as one write. Whatever is unusual about
a request (no token, an unknown model, a body without length or too large, pipelining, a client
that does not read) goes the ordinary way, to the same answers.

Clients repeat themselves: all of a request but its body is most often, byte for byte, one that was
parsed before. Such a head is known by its bytes, and the parser, which costs more than anything
else here, is not asked about it again. Whether its token may still predict is asked each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from homeostat.errors import HomeostatError
from serving.access import Caller
from serving.batching import Reply
from serving.predicting import Predictor, Wanted
from serving.problems import MEDIA_TYPE, encode_problem, headers_of, internal, status_of

logger = logging.getLogger(__name__)

_OK = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"x-homeostat-version: %d\r\nx-homeostat-generation: %d\r\n"
)
_REFUSED = b"%scontent-type: %s\r\ncontent-length: %d\r\n"
_CLOSE = b"connection: close\r\n"
_END = b"\r\n\r\n"

HEADS_KNOWN = 1024  # at most, of all connections together; then they are learnt anew
HEAD_BYTES = 2048  # of one that is worth knowing


class Exchange(RequestResponseCycle):
    """One request that goes the short way; the protocol treats it as it does its own.

    Args:
        protocol: Its connection.
        wanted: What it wants, by its head.
        caller: Whose it is.
    """

    def __init__(self, protocol: GatewayProtocol, wanted: Wanted, caller: Caller) -> None:
        # Only what HttpToolsProtocol reads of a cycle: the rest serves ASGI.
        self.protocol = protocol
        self.wanted = wanted
        self.caller = caller
        self.received = b""
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False
        self.message_event = _NOBODY_WAITS
        self.whole = False  # all of it is here: an answer will come
        caller.meter.under_way += 1

    def answer(self, result: Reply | HomeostatError) -> None:
        """Write the answer, and let the next request of the connection in."""
        if self.response_complete:
            return
        self.response_complete = True
        self.caller.meter.leave()
        if self.disconnected:
            return
        if isinstance(result, HomeostatError):
            self.protocol.predictor.count_refusal(self.wanted.model, result)
            head, body = _refusal(result)
        else:
            body = result.body
            head = _OK % (len(body), result.version, result.generation)
        end = b"\r\n" if self.keep_alive else _CLOSE + b"\r\n"
        transport = self.protocol.transport
        transport.write(head + end + body)
        if not self.keep_alive:
            transport.close()
        self.protocol.on_response_complete()


class GatewayProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with the short way for predictions."""

    predictor: Predictor
    heads: dict[bytes, Wanted]  # shared by all connections of a server
    within = False  # the parser has a part of a request
    quiet_since = 0.0  # when the last answer left, by the clock of the loop

    def data_received(self, data: bytes) -> None:
        """Bytes came: one whole request with a known head, or whatever the parser makes of it."""
        before = self.cycle
        if self.within or (before is not None and not before.response_complete):
            super().data_received(data)
            return
        end = data.find(_END, 0, HEAD_BYTES) + len(_END)
        wanted = self.heads.get(data[:end])
        if wanted is not None and len(data) == end + wanted.length and not self.flow.write_paused:
            caller = self.predictor.enter(wanted)
            if caller is not None:
                self.cycle = exchange = Exchange(self, wanted, caller)
                exchange.received = data[end:]
                self._ask(exchange)
                return
        super().data_received(data)
        cycle = self.cycle
        if cycle is not before and isinstance(cycle, Exchange):
            self._learn(data, end, cycle)

    def on_message_begin(self) -> None:
        """A request begins; its ASGI scope is made only where it is needed."""
        self.within = True
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Choose the way of a request."""
        exchange = self._short_way()
        if exchange is not None:
            self.cycle = exchange
            return
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers += headers  # the scope holds this very list
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body; the parser gives no more than its Content-Length."""
        cycle = self.cycle
        if isinstance(cycle, Exchange):
            cycle.received = cycle.received + body if cycle.received else body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self.within = False
        cycle = self.cycle
        if isinstance(cycle, Exchange):
            self._ask(cycle)
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer left: the next request may come, or the connection be quiet for a while.

        uvicorn makes and cancels a timer for each answer; here one goes on from answer to answer.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.quiet_since = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.timeout_keep_alive_task is None:
            self._close_after(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been quiet for so long; the next answer looks again else."""
        self.timeout_keep_alive_task = None
        if self.within or (self.cycle is not None and not self.cycle.response_complete):
            return
        left = self.quiet_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._close_after(left)
        else:
            super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        """A client went; a request that was not whole yet is no longer under way."""
        cycle = self.cycle
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        if isinstance(cycle, Exchange) and not cycle.whole:
            cycle.whole = True
            cycle.caller.meter.leave()

    def _unset_keepalive_if_required(self) -> None:
        """Nothing: the timer finds out by itself that it came too soon."""

    def _close_after(self, seconds: float) -> None:
        handler: Callable[[], None] = self.timeout_keep_alive_handler
        self.timeout_keep_alive_task = self.loop.call_later(seconds, handler)

    def _ask(self, exchange: Exchange) -> None:
        exchange.whole = True
        try:
            self.predictor.take(exchange.wanted.model, exchange.received, exchange.answer)
        except Exception as error:
            logger.exception("a prediction of %s failed", exchange.wanted.model)
            exchange.answer(internal(error))

    def _learn(self, data: bytes, end: int, exchange: Exchange) -> None:
        """Know a head again, where the parser took just these bytes for one request with it."""
        if (
            end < len(_END)
            or not data.startswith(b"POST ")
            or not exchange.whole
            or exchange.wanted.length != len(data) - end
            or exchange.received != data[end:]
        ):
            return
        if len(self.heads) >= HEADS_KNOWN:
            self.heads.clear()
        self.heads[data[:end]] = exchange.wanted

    def _short_way(self) -> Exchange | None:
        parser = self.parser
        before = self.cycle
        if (
            (before is not None and not before.response_complete)  # pipelined: in its turn
            or parser.get_method() != b"POST"
            or parser.get_http_version() != "1.1"
            or parser.should_upgrade()
            or not parser.should_keep_alive()
            or self.expect_100_continue
            or self.flow.write_paused
        ):
            return None
        wanted = self.predictor.wanted(self.url, self.headers)
        if wanted is None:
            return None
        caller = self.predictor.enter(wanted)
        return None if caller is None else Exchange(self, wanted, caller)


def protocol_of(predictor: Predictor) -> type[GatewayProtocol]:
    """The protocol class that uvicorn is to make for each connection."""
    return type("BoundProtocol", (GatewayProtocol,), {"predictor": predictor, "heads": {}})


def _refusal(error: HomeostatError) -> tuple[bytes, bytes]:
    body = encode_problem(error)
    head = _REFUSED % (STATUS_LINE[status_of(error.code)], MEDIA_TYPE.encode(), len(body))
    for name, value in headers_of(error).items():
        head += f"{name}: {value}\r\n".encode("latin-1")
    return head, body


_NOBODY_WAITS = asyncio.Event()
