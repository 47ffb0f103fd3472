"""Where a request says that it comes from, and the spans that are made of it."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest

from serving.metrics import Spread
from serving.traces import Parent, Traces, parent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", True),
        (f"cc-{TRACE}-{SPAN}-01-what-will-be", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{TRACE[1:]}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}", False),
        (f"00-{TRACE}-{SPAN}-01\n", False),
        ("", False),
        ("\xff" * 55, False),
    ],
)
def test_a_traceparent_is_understood_as_the_standard_has_it(given: str, understood: bool) -> None:
    headers = [(b"host", b"x"), (b"traceparent", given.encode("latin-1"))]
    found = parent_of(headers)
    assert found == (Parent(TRACE, SPAN, given[53:55]) if understood else None)
    assert parent_of(headers * 2) is None


def test_a_sampled_request_is_a_span_of_its_trace_and_others_are_none() -> None:
    exporter = InMemorySpanExporter()
    told: list[tuple[str, str]] = []
    traces = Traces("", lambda model, _, trace: told.append((model, trace)), exporter)
    kept = traces.begin(Parent(TRACE, SPAN, "01"), "predict")
    kept.end(200, "digits", version=3, generation=7)
    traces.begin(Parent("1" * 32, SPAN, "00"), "predict").end(200, "digits")
    traces.begin(Parent(TRACE, SPAN, "01"), "predict").end(503, "digits")
    traces.stop()
    first, second = exporter.get_finished_spans()
    assert first.context is not None
    assert first.parent is not None
    assert kept.header == f"00-{TRACE}-{first.context.span_id:016x}-01".encode()
    assert (first.context.trace_id, first.parent.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert first.attributes == {
        "http.response.status_code": 200,
        "homeostat.model": "digits",
        "homeostat.version": 3,
        "homeostat.generation": 7,
    }
    assert (first.status.is_ok, second.status.is_ok) == (True, False)
    assert told == [("digits", TRACE), ("digits", "1" * 32)]


def test_a_bucket_shows_the_trace_that_fell_into_it_last() -> None:
    registry = CollectorRegistry()
    spread = Spread("seconds", "Of an answer", (0.01, 0.1), registry)
    spread.add("digits", [0.05, 0.5])
    spread.show("digits", 0.05, "a" * 32)
    spread.show("digits", 0.06, TRACE)
    text: str = generate_latest(registry).decode()  # type: ignore[no-untyped-call]  # theirs
    lines = text.splitlines()
    (shown,) = [line for line in lines if "# {" in line]
    assert shown.startswith('seconds_bucket{le="0.1",model="digits"} 1.0')
    assert f'# {{trace_id="{TRACE}"}} 0.06 ' in shown


class Collector(BaseHTTPRequestHandler):
    """Takes what is exported."""

    taken: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["content-length"]))
        self.taken.append(
            gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body
        )
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_spans_go_to_the_collector_of_the_settings() -> None:
    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    traces = Traces(f"http://127.0.0.1:{server.server_port}/v1/traces", lambda *_: None)
    traces.begin(Parent(TRACE, SPAN, "01"), "predict").end(200, "digits")
    traces.stop()
    thread.join(20)
    server.server_close()
    (exported,) = ExportTraceServiceRequest.FromString(Collector.taken[0]).resource_spans
    (span,) = exported.scope_spans[0].spans
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.name) == (TRACE, SPAN, "predict")
