"""What a gateway asks of Prefect and tells a receiver of alerts, answered by one small server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Stub:
    """Prefect's few routes and a receiver of alerts, as one small server."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []
        self.deployments: list[str] = []
        self.state = "RUNNING"
        self.prefect_away = True
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stub._get(self)

            def do_POST(self) -> None:
                stub._post(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def _get(self, call: BaseHTTPRequestHandler) -> None:
        if self.prefect_away:
            self._say(call, 503, {})
        elif call.path.startswith("/api/deployments/name/"):
            self.deployments.append(call.path.removeprefix("/api/deployments/name/"))
            self._say(call, 200, {"id": "d1"})
        else:
            self._say(call, 200, {"state_type": self.state})

    def _post(self, call: BaseHTTPRequestHandler) -> None:
        body = json.loads(call.rfile.read(int(call.headers["content-length"])))
        if call.path == "/alerts":
            self.alerts.append(body)
            self._say(call, 200, {})
            return
        assert call.path == "/api/deployments/d1/create_flow_run"
        self.runs.append(body)
        self._say(call, 201, {"id": f"run-{len(self.runs)}"})

    @staticmethod
    def _say(call: BaseHTTPRequestHandler, status: int, body: object) -> None:
        said = json.dumps(body).encode()
        call.send_response(status)
        call.send_header("content-length", str(len(said)))
        call.end_headers()
        call.wfile.write(said)


@contextmanager
def serving(stub: Stub) -> Iterator[None]:
    thread = threading.Thread(target=stub.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stub.server.shutdown()
        stub.server.server_close()
