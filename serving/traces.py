"""Traces: W3C `traceparent` in and out, and OpenTelemetry spans where the settings say where to.

A request that comes with a `traceparent` is answered with one: the same trace, and the span here as
the parent of whatever follows. Spans are made of those that the caller samples, and exported by a
thread of their own from a bounded queue: a collector that is away costs no answer. A request
without the header costs nothing.

Source: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

HEADER = b"traceparent"
EXPORT_SECONDS = 5  # that a collector may take
_FORM = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_SAMPLED = 1

Send = Callable[[Any], Awaitable[None]]
Finished = Callable[[str, float, str], None]


@dataclass(frozen=True, slots=True)
class Parent:
    """Where a request comes from.

    Args:
        trace: Its trace, 32 hexadecimal digits.
        span: The caller's span, 16 hexadecimal digits.
        flags: Two hexadecimal digits; the lowest bit says that the caller samples it.
    """

    trace: str
    span: str
    flags: str

    @property
    def sampled(self) -> bool:
        """Whether the caller keeps this trace."""
        return bool(int(self.flags, 16) & _SAMPLED)


def parent_of(headers: Iterable[tuple[bytes, bytes]]) -> Parent | None:
    """Where a request says that it comes from; None: it does not, or not as the standard has it."""
    given = [value for name, value in headers if name == HEADER]
    if len(given) != 1 or (found := _FORM.fullmatch(given[0])) is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == b"00" and more is not None:
        return None
    return Parent(trace.decode(), span.decode(), flags.decode())


class Span:
    """One request's part of its trace, from now until `end`.

    Args:
        parent: Where it comes from.
        name: What is done.
        tracer: Makes the span that is exported; None: there is none.
        finished: Is told model, seconds and trace of a prediction.
    """

    __slots__ = ("_begun", "_exported", "_finished", "_parent", "header")

    def __init__(
        self, parent: Parent, name: str, tracer: otel.Tracer | None, finished: Finished
    ) -> None:
        self._parent, self._finished = parent, finished
        self._begun = time.perf_counter()
        self._exported: otel.Span | None = None
        own = random.getrandbits(64) or 1
        if tracer is not None and parent.sampled:
            remote = otel.SpanContext(
                int(parent.trace, 16),
                int(parent.span, 16),
                is_remote=True,
                trace_flags=otel.TraceFlags(_SAMPLED),
            )
            context = otel.set_span_in_context(otel.NonRecordingSpan(remote))
            self._exported = tracer.start_span(name, context, kind=otel.SpanKind.SERVER)
            own = self._exported.get_span_context().span_id
        self.header = f"00-{parent.trace}-{own:016x}-{parent.flags}".encode()
        """The `traceparent` of the answer."""

    def end(self, status: int, model: str | None = None, **said: int | str) -> None:
        """The answer leaves.

        Args:
            status: Of HTTP.
            model: Whose prediction it was, if it was one.
            said: What else the span is to say.
        """
        if self._exported is not None:
            self._exported.set_attribute("http.response.status_code", status)
            if model is not None:
                self._exported.set_attribute("homeostat.model", model)
            for name, value in said.items():
                self._exported.set_attribute(f"homeostat.{name}", value)
            if status >= 500:
                self._exported.set_status(otel.StatusCode.ERROR)
            self._exported.end()
        if model is not None and status == 200:
            self._finished(model, time.perf_counter() - self._begun, self._parent.trace)


class Traces:
    """Begins spans.

    Args:
        address: Of an OTLP collector (HTTP, protobuf); empty: nothing is exported.
        finished: Is told model, seconds and trace of each traced prediction.
        exporter: In place of the one of `address`.
    """

    def __init__(
        self, address: str, finished: Finished, exporter: SpanExporter | None = None
    ) -> None:
        self._finished = finished
        self._provider: TracerProvider | None = None
        self._tracer: otel.Tracer | None = None
        if address and exporter is None:
            # Only where it is asked for: it takes a while to import.
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter(address, timeout=EXPORT_SECONDS)
        if exporter is not None:
            resource = Resource.create({"service.name": "homeostat-gateway"})
            self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
            self._tracer = self._provider.get_tracer("homeostat")

    def begin(self, parent: Parent, name: str) -> Span:
        """A span of a request."""
        return Span(parent, name, self._tracer, self._finished)

    def traced(self, scope: dict[str, Any], send: Send) -> Send:
        """How the answer to an ASGI request is sent: traced, where the request is."""
        parent = parent_of(scope["headers"])
        if parent is None:
            return send
        act = scope["path"].rpartition("/")[2]
        model = _model_of(scope["path"], act)
        span = self.begin(parent, act if model else scope["method"])

        async def answer(message: Any) -> None:  # noqa: ANN401 - ASGI
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HEADER, span.header)]
                said = {
                    name.decode().rpartition("-")[2]: int(value)
                    for name, value in message["headers"]
                    if name in (b"x-homeostat-version", b"x-homeostat-generation")
                }
                span.end(message["status"], model, **said)
            await send(message)

        return answer

    def stop(self) -> None:
        """Export what is left."""
        if self._provider is not None:
            self._provider.shutdown()


def _model_of(path: str, act: str) -> str | None:
    """The model whose rows an address answers; None: it does something else."""
    parts = path.split("/")
    return parts[3] if act in ("predict", "infer", "batch") and len(parts) > 4 else None
