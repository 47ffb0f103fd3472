"""The hot path: `POST /v1/models/{model}/predict` as plain ASGI, before the router.

A FastAPI route costs about 100 CPU microseconds before any work, this about 20; the rest of
the gateway stays FastAPI, and this route stands in the same OpenAPI document.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from homeostat.errors import HomeostatError, InvalidRequest, UnknownVersion
from serving.access import Access, Caller
from serving.batching import Batcher, Done
from serving.bodies import BodyTooLarge, ClientGone, Message, Receive, read_body
from serving.entries import parse_request
from serving.fleet import Fleet
from serving.metrics import Metrics
from serving.problems import MEDIA_TYPE, encode_problem, headers_of, internal, status_of
from serving.repeats import HEADER as KEY
from serving.repeats import Repeats
from serving.traces import HEADER, Parent, Traces, parent_of

Scope = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]

PREFIX = "/v1/models/"
SUFFIX = "/predict"
_PREFIX, _SUFFIX = PREFIX.encode(), SUFFIX.encode()
_VERSION = b"x-homeostat-version"

# A caller that is refused in the middle of sending is read for so long, so that it can see the
# answer before the connection closes.
LINGER_SECONDS = 0.5
LINGER_BYTES = 1024 * 1024

logger = logging.getLogger(__name__)


class MethodNotAllowed(InvalidRequest):
    """The address takes another method."""

    code = "method-not-allowed"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the head of a plain POST asks for: whose predictions, as whom, how many bytes long."""

    model: str
    authorization: bytes | None
    length: int
    parent: Parent | None = None


class Predictor:
    """Parses, asks the batcher, answers.

    Args:
        access: The door.
        fleet: Which models there are.
        batcher: What answers.
        metrics: What is counted.
        max_body_bytes: Limit of a body.
        max_rows: Limit of one request's rows.
        traces: Begins a span of each request that comes with a trace.
        max_elements: Limit of the values in them; 0: none but the body's.
    """

    def __init__(
        self,
        access: Access,
        fleet: Fleet,
        batcher: Batcher,
        metrics: Metrics,
        *,
        max_body_bytes: int,
        max_rows: int,
        traces: Traces | None = None,
        max_elements: int = 0,
    ) -> None:
        self._access = access
        self._fleet = fleet
        self._batcher = batcher
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self.traces = traces or Traces("", lambda *_: None)
        self._max_rows, self._max_elements = max_rows, max_elements
        self._repeats = Repeats()

    @staticmethod
    def model_of(scope: Scope) -> str | None:
        """The model that a request wants predictions of; None: it is for another route."""
        path: str = scope["path"]
        if not path.startswith(PREFIX) or not path.endswith(SUFFIX):
            return None
        model = path[len(PREFIX) : -len(SUFFIX)]
        return model if model and "/" not in model else None

    async def __call__(self, model: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            # A model that is not the caller's costs nobody the reading of the body.
            caller = self._check(model, scope)
            meter = caller.meter
            try:
                version = self._pinned(model, scope, caller)
                body = await read_body(scope["headers"], receive, self._max_body_bytes)
                if (full := self._batcher.refuses(model)) is not None:
                    raise full.with_traceback(None)
                request = parse_request(
                    body, self._max_rows, self._fleet.columns(model), self._max_elements
                )
                request.version, request.pinned = version, version > 0
                key = next((v for name, v in scope["headers"] if name == KEY), None)
                if key is None:
                    reply = await self._batcher.submit(model, request)
                else:
                    reply = await self._repeats.once(
                        (caller.name, model, key),
                        b"%d %b" % (version, body),
                        lambda: self._batcher.submit(model, request),
                    )
            finally:
                meter.leave()
        except ClientGone:
            return
        except HomeostatError as error:
            await self._refuse(model, error, receive, send)
            return
        except Exception as error:
            logger.exception("a prediction of %s failed", model)
            await self._refuse(model, internal(error), receive, send)
            return
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(reply.body)),
                    (b"x-homeostat-version", b"%d" % reply.version),
                    (b"x-homeostat-generation", b"%d" % reply.generation),
                ],
            }
        )
        await send({"type": "http.response.body", "body": reply.body})

    def wanted(self, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Wanted | None:
        """What a plain POST wants, by its head alone, if nothing is unusual about it.

        None sends it the long way round, which knows what to say.
        """
        if not url.startswith(_PREFIX) or not url.endswith(_SUFFIX):
            return None
        model = url[len(_PREFIX) : -len(_SUFFIX)].decode("latin-1")
        authorization, length, parent = None, b"", None
        for name, value in headers:
            if name == b"authorization":
                authorization = value
            elif name == b"content-length":
                length = value
            elif name == HEADER:
                parent = parent_of(headers)
            elif name in (_VERSION, KEY):
                return None
        if model not in self._fleet.models or not length.isdigit():
            return None
        if int(length) > self._max_body_bytes:
            return None
        return Wanted(model, authorization, int(length), parent)

    def enter(self, wanted: Wanted) -> Caller | None:
        """Whose request it is, if they may have it now; None sends it the long way round."""
        try:
            caller = self._access.check(wanted.authorization)
        except HomeostatError:
            return None
        if "predict" not in caller.verbs or not caller.sees(wanted.model):
            return None
        meter = caller.meter
        return None if meter.full or meter.take(time.monotonic()) else caller

    def take(self, model: str, body: bytes, done: Done) -> None:
        """Answer the body of an admitted request; `done` is given the reply or the error."""
        full = self._batcher.refuses(model)  # before the body is parsed: that is most of the cost
        if full is not None:
            done(full)
            return
        try:
            request = parse_request(
                body, self._max_rows, self._fleet.columns(model), self._max_elements
            )
        except HomeostatError as error:
            done(error)
            return
        self._batcher.queue(model, request, done)

    def count_refusal(self, model: str, error: HomeostatError) -> None:
        """Count a request that got no prediction."""
        known = model if model in self._fleet.models else ""  # no label for whatever is sent
        self._metrics.requests.labels(known, error.code).inc()

    def _check(self, model: str, scope: Scope) -> Caller:
        """Let a request in; its caller's meter is to be left when it is answered."""
        if scope["method"] != "POST":
            raise MethodNotAllowed(
                f"{scope['method']} is not taken here.", remedy="Send a POST request.", allow="POST"
            )
        header = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        caller = self._access.check(header)
        self._access.require(caller, "predict", model)
        caller.meter.enter(caller.name, time.monotonic())
        return caller

    def _pinned(self, model: str, scope: Scope, caller: Caller) -> int:
        """The version that a caller pins, if they may; 0: they pin none.

        One that answers callers is for whoever may predict; another that is loaded, the standby
        or a challenger in shadow, for who may also promote.

        Raises:
            InvalidRequest: the header is no version.
            UnknownVersion: no such version is loaded.
            Forbidden: it answers nobody, and the caller may not have it all the same.
        """
        value: bytes | None = next((v for name, v in scope["headers"] if name == _VERSION), None)
        if value is None:
            return 0
        if not value.isdigit() or len(value) > 9 or not int(value):
            raise InvalidRequest(
                f"X-Homeostat-Version is '{value[:80].decode('latin-1')}', which is no version.",
                remedy="Versions are whole numbers from 1.",
            )
        split, version = self._fleet.serving(model), int(value)
        if split.find(version) is None:
            loaded = ", ".join(str(one.version) for one in split.versions)
            raise UnknownVersion(
                f"Version {version} of '{model}' is not loaded; {loaded} can be pinned.",
                remedy="Pin one of these; the alias challenger loads another.",
                model=model,
                version=version,
            )
        if all(one.version != version for one in split.answering):
            self._access.require(caller, "promote", model)
        return version

    async def _refuse(
        self, model: str, error: HomeostatError, receive: Receive, send: Send
    ) -> None:
        self.count_refusal(model, error)
        await send_problem(error, receive, send)


async def send_problem(error: HomeostatError, receive: Receive, send: Send) -> None:
    """Answer with a problem document; after a refusal in mid-body close the connection."""
    body = encode_problem(error)
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        *((name.encode(), value.encode()) for name, value in headers_of(error).items()),
    ]
    unread = isinstance(error, BodyTooLarge)
    if unread:
        headers.append((b"connection", b"close"))
    start = {"type": "http.response.start", "status": status_of(error.code), "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": unread})
    if unread:
        await _linger(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _linger(receive: Receive) -> None:
    read = 0
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while read < LINGER_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                read += len(message.get("body", b""))
    except TimeoutError:
        return
