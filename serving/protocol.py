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
import select
from collections.abc import Callable
from functools import lru_cache

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from homeostat.errors import HomeostatError, InvalidRequest
from serving.access import Caller
from serving.batching import Reply
from serving.draining import Leaving
from serving.line import Overloaded
from serving.patience import HeadTooLarge, Limits, Sweep, TooSlow
from serving.predicting import Predictor, Wanted
from serving.problems import MEDIA_TYPE, encode_problem, headers_of, internal, status_of
from serving.traces import Span

logger = logging.getLogger(__name__)

_OK = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"x-homeostat-version: %d\r\nx-homeostat-generation: %d\r\n"
)
_REFUSED = b"%scontent-type: %s\r\ncontent-length: %d\r\n"
_CLOSE = b"connection: close\r\n"
_END = b"\r\n\r\n"

HEADS_KNOWN = 1024  # at most, of all connections together; then they are learnt anew
READ_SECONDS = 0.1  # in which the loop comes to what a socket holds
NEW_SECONDS = 0.3  # for a new client to ask, when the process ends
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
        self.keep_alive = not protocol.leaving.begun
        self.disconnected = False
        self.response_complete = False
        self.message_event = _NOBODY_WAITS
        self.whole = False  # all of it is here: an answer will come
        self.span: Span | None = None
        if wanted.parent is not None:
            self.span = protocol.predictor.traces.begin(wanted.parent, "predict")
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
            refusal = _known_refusal if isinstance(result, Overloaded) else _refusal
            head, body = refusal(result)
            status, said = status_of(result.code), {}
        else:
            body = result.body
            head = _OK % (len(body), result.version, result.generation)
            status, said = 200, {"version": result.version, "generation": result.generation}
        if self.span is not None:
            head += b"traceparent: " + self.span.header + b"\r\n"
            self.span.end(status, self.wanted.model, **said)
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
    limits: Limits
    leaving: Leaving
    sweep: Sweep
    began = 0.0  # when the connection or, later, the request that the parser is in, began
    silent = True  # nothing came yet
    headed = False  # the head of that request is whole
    head_bytes = 0  # of the headers that the parser told
    unheaded = 0  # that came of a head which is not whole
    unread_since: float | None = None  # since when the client does not read its answers
    refused: HomeostatError | None = None  # what the parser is not to go on with

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came; it may not be silent for long."""
        super().connection_made(transport)  # type: ignore[arg-type] # uvicorn says Transport
        self.began = self.loop.time()
        self.sweep.add(self, self.loop)

    def end_if_late(self, now: float) -> None:
        """Hang up on a client that is too slow to ask, or to read."""
        limits = self.limits
        if self.unread_since is not None:
            if now - self.unread_since > limits.body_seconds:
                self.transport.abort()
        elif self.flow.read_paused:  # it waits for us
            self.began = now
        elif self.within:
            if now - self.began > (limits.body_seconds if self.headed else limits.head_seconds):
                what = "body" if self.headed else "head"
                self._refuse(TooSlow(f"The {what} of the request did not come in time."))
        elif self.silent and now - self.began > limits.head_seconds:
            self.transport.close()

    def pause_writing(self) -> None:
        """A client does not read."""
        self.unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self.unread_since = None
        super().resume_writing()

    def shutdown(self) -> None:
        """The process ends: answer what has begun to come, and close."""
        if self.silent:  # a client that has just connected is about to ask
            self.loop.call_later(NEW_SECONDS, self._close_if_silent)
        elif not self.within:
            super().shutdown()
        elif self.headed:  # its body is on its way
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """The parser stopped: say why, where we know better."""
        self._refuse(self.refused or InvalidRequest(msg, remedy="Send requests of HTTP/1.1."))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; too many or too long ones stop the parser."""
        self.head_bytes += len(name) + len(value)
        super().on_header(name, value)
        if len(self.headers) > self.limits.headers or self.head_bytes > self.limits.head_bytes:
            self.refused = self._too_large()
            raise self.refused

    def data_received(self, data: bytes) -> None:
        """Bytes came: one whole request with a known head, or whatever the parser makes of it."""
        self.silent = False
        before = self.cycle
        if self.within or (before is not None and not before.response_complete):
            self._feed(data)
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
        self._feed(data)
        cycle = self.cycle
        if cycle is not before and isinstance(cycle, Exchange):
            self._learn(data, end, cycle)

    def on_message_begin(self) -> None:
        """A request begins; its ASGI scope is made only where it is needed."""
        self.within = True
        self.began, self.headed, self.head_bytes, self.unheaded = self.loop.time(), False, 0, 0
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Choose the way of a request."""
        self.headed = True
        exchange = self._short_way()
        if exchange is not None:
            self.cycle = exchange
            return
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers += headers  # the scope holds this very list
        super().on_headers_complete()
        if self.leaving.begun:  # the client is to know that it cannot ask again here
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"close")]

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
        elif self._has_unread():  # timers come before what was received: where both are due,
            self._close_after(READ_SECONDS)  # a request lies here that a close would throw away
        else:
            super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        """A client went; a request that was not whole yet is no longer under way."""
        cycle = self.cycle
        super().connection_lost(exc)
        self.sweep.remove(self)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        if isinstance(cycle, Exchange) and not cycle.whole:
            cycle.whole = True
            cycle.caller.meter.leave()

    def _feed(self, data: bytes) -> None:
        """Let the parser have bytes, but no endless head."""
        super().data_received(data)
        if self.within and not self.headed and not self.transport.is_closing():
            self.unheaded += len(data)
            if self.unheaded > self.limits.head_bytes:
                self._refuse(self._too_large())

    def _close_if_silent(self) -> None:
        if self.silent:
            self.transport.close()

    def _refuse(self, error: HomeostatError) -> None:
        """Say why, unless an answer has begun, and hang up."""
        cycle = self.cycle
        if isinstance(cycle, Exchange) or not (cycle and self.headed and cycle.response_started):
            head, body = _refusal(error)
            self.transport.write(head + _CLOSE + b"\r\n" + body)
        self.transport.close()

    def _too_large(self) -> HeadTooLarge:
        limits = self.limits
        return HeadTooLarge(
            f"The head of the request is beyond {limits.headers} headers or {limits.head_bytes} "
            "bytes.",
            remedy="Send fewer and shorter headers.",
            limit=limits.head_bytes,
        )

    def _unset_keepalive_if_required(self) -> None:
        """Nothing: the timer finds out by itself that it came too soon."""

    def _has_unread(self) -> bool:
        """Whether bytes, or the client's end, lie at the socket and were not read yet."""
        look = select.poll()  # select() knows no descriptor above 1023
        look.register(self.transport.get_extra_info("socket"), select.POLLIN)
        return bool(look.poll(0))

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
            or exchange.span is not None  # its head comes once only
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


def protocol_of(
    predictor: Predictor, limits: Limits | None = None, leaving: Leaving | None = None
) -> type[GatewayProtocol]:
    """The protocol class that uvicorn is to make for each connection.

    Args:
        predictor: Answers on the short way.
        limits: What a connection may take.
        leaving: Whether the process was asked to end.
    """
    shared = {
        "predictor": predictor,
        "heads": {},
        "limits": limits or Limits(),
        "leaving": leaving or Leaving(),
        "sweep": Sweep(),
    }
    return type("BoundProtocol", (GatewayProtocol,), shared)


def _refusal(error: HomeostatError) -> tuple[bytes, bytes]:
    body = encode_problem(error)
    head = _REFUSED % (STATUS_LINE[status_of(error.code)], MEDIA_TYPE.encode(), len(body))
    for name, value in headers_of(error).items():
        head += f"{name}: {value}\r\n".encode("latin-1")
    return head, body


_known_refusal = lru_cache(maxsize=64)(_refusal)  # of an error that many are told
_NOBODY_WAITS = asyncio.Event()
