"""The on-call tool of the demo: a small HTTP server that keeps every alert it is sent."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

LARGEST_ALERT = 1_000_000  # bytes; ours are a few thousand


@dataclass(frozen=True)
class Received:
    """One alert as it arrived: when (seconds of `time.monotonic`) and the CloudEvent."""

    at: float
    event: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        """The event's own content: title, text, status, details."""
        data = self.event.get("data", {})
        return data if isinstance(data, dict) else {}

    @property
    def words(self) -> str:
        """The whole event as text, to look for a word in."""
        return json.dumps(self.event)


@dataclass
class AlertReceiver:
    """Listens on a free loopback port from `with` to its end; `alerts` grows as they come."""

    alerts: list[Received] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        alerts = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = min(int(self.headers.get("Content-Length", 0)), LARGEST_ALERT)
                try:
                    event = json.loads(self.rfile.read(length))
                except ValueError:
                    self.send_error(400)
                    return
                alerts.append(Received(time.monotonic(), event))
                self.send_response(202)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
                """Say nothing: the story is told elsewhere."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    @property
    def address(self) -> str:
        """Where alerts are to be sent."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}/alerts"
