"""The hot path: predictions are answered where their bytes are parsed, without a task.

A request that ASGI carries costs a scope, a task, two events and two writes to its socket: more
than the prediction. This is uvicorn's own protocol with one more way out: a plain POST for
predictions goes from the parser to the batcher and back as one write. Whatever is unusual about
a request (no token, an unknown model, a body without length or too large, pipelining, a client
that does not read) goes the ordinary way, to the same answers.
"""

from __future__ import annotations

import asyncio
import logging

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from homeostat.errors import HomeostatError
from serving.access import Caller
from serving.batching import Reply
from serving.predicting import Predictor
from serving.problems import MEDIA_TYPE, encode_problem, headers_of, internal, status_of

logger = logging.getLogger(__name__)

_OK = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"x-homeostat-version: %d\r\nx-homeostat-generation: %d\r\n"
)
_REFUSED = b"%scontent-type: %s\r\ncontent-length: %d\r\n"
_CLOSE = b"connection: close\r\n"


class Exchange(RequestResponseCycle):
    """One request that goes the short way; the protocol treats it as it does its own.

    Args:
        protocol: Its connection.
        model: What it wants predictions of.
        caller: Whose it is.
    """

    def __init__(self, protocol: GatewayProtocol, model: str, caller: Caller) -> None:
        # Only what HttpToolsProtocol reads of a cycle: the rest serves ASGI.
        self.protocol = protocol
        self.model = model
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
            self.protocol.predictor.count_refusal(self.model, result)
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

    def on_message_begin(self) -> None:
        """A request begins; its ASGI scope is made only where it is needed."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Choose the way of a request."""
        admitted = self._short_way()
        if admitted is not None:
            self.cycle = Exchange(self, *admitted)
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
        cycle = self.cycle
        if not isinstance(cycle, Exchange):
            super().on_message_complete()
            return
        cycle.whole = True
        try:
            self.predictor.take(cycle.model, cycle.received, cycle.answer)
        except Exception as error:
            logger.exception("a prediction of %s failed", cycle.model)
            cycle.answer(internal(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """A client went; a request that was not whole yet is no longer under way."""
        cycle = self.cycle
        super().connection_lost(exc)
        if isinstance(cycle, Exchange) and not cycle.whole:
            cycle.whole = True
            cycle.caller.meter.leave()

    def _short_way(self) -> tuple[str, Caller] | None:
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
        return self.predictor.admits(self.url, self.headers)


def protocol_of(predictor: Predictor) -> type[GatewayProtocol]:
    """The protocol class that uvicorn is to make for each connection."""
    return type("BoundProtocol", (GatewayProtocol,), {"predictor": predictor})


def _refusal(error: HomeostatError) -> tuple[bytes, bytes]:
    body = encode_problem(error)
    head = _REFUSED % (STATUS_LINE[status_of(error.code)], MEDIA_TYPE.encode(), len(body))
    for name, value in headers_of(error).items():
        head += f"{name}: {value}\r\n".encode("latin-1")
    return head, body


_NOBODY_WAITS = asyncio.Event()
