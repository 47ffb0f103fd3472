"""Alerts over a real loopback connection."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from monitoring import Alert, DeliveryFailed
from monitoring.delivery import deliver as send
from monitoring.outbound import Guard, Sending

HERE = Sending(Guard(loopback=True))
ALERT = Alert(
    id="0190-1",
    key="digits:loss",
    status="open",
    severity="page",
    title="Accuracy fell",
    text="Traffic went back to version 1.",
    model="digits",
    at=datetime(2026, 11, 21, 12, 0, tzinfo=UTC),
    details={"version": 2},
)


def deliver(url: str, alert: Alert, timeout: float = 5.0) -> None:
    send(url, alert, HERE, timeout)


class Receiver(ThreadingHTTPServer):
    """Answers as its path says and keeps what it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[str, str, bytes]] = []
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.got.append((self.path, self.headers["Content-Type"], body))
        if self.path.startswith("/slow"):
            self.server.release.wait(10)
        if self.path.startswith("/drip"):
            self._drip()
            return
        status = {"/moved": 302, "/broken": 500, "/created": 201}.get(self.path.split("?")[0], 200)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _drip(self) -> None:
        for byte in b"HTTP/1.1 200 OK\r\n":
            if self.server.release.wait(0.1):
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join(10)


def test_an_alert_arrives_as_a_cloud_event(receiver: Receiver) -> None:
    deliver(f"{receiver.url}/created", ALERT)
    [(path, kind, body)] = receiver.got
    event = json.loads(body)
    assert (path, kind) == ("/created", "application/cloudevents+json; charset=utf-8")
    assert (event["specversion"], event["id"]) == ("1.0", "0190-1")
    assert event["type"] == "homeostat.incident.open"
    assert event["source"] == "/homeostat/models/digits"
    assert event["subject"] == "digits:loss"
    assert event["time"] == "2026-11-21T12:00:00+00:00"
    assert event["data"]["details"] == {"version": 2}


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    with pytest.raises(DeliveryFailed, match="302, and redirects are not followed"):
        deliver(f"{receiver.url}/moved", ALERT)
    assert [path for path, _, _ in receiver.got] == ["/moved"]


def test_a_refusal_says_its_status_and_no_secret(receiver: Receiver) -> None:
    with pytest.raises(DeliveryFailed, match="it answered 500") as caught:
        deliver(f"{receiver.url}/broken?token=topsecret", ALERT)
    assert "topsecret" not in str(caught.value) + str(caught.value.fields)
    assert caught.value.code == "delivery-failed"


@pytest.mark.parametrize("path", ["/slow", "/drip"])
def test_a_receiver_that_does_not_answer_in_time_is_given_up(receiver: Receiver, path: str) -> None:
    start = time.monotonic()
    with pytest.raises(DeliveryFailed):
        deliver(receiver.url + path, ALERT, timeout=0.5)
    assert time.monotonic() - start < 3


def test_nobody_listening_is_said_without_the_secret() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DeliveryFailed, match="ConnectError") as caught:
        deliver(f"http://user:topsecret@127.0.0.1:{port}/hook/topsecret", ALERT)
    assert "topsecret" not in str(caught.value)


def test_other_addresses_go_through_apprise(receiver: Receiver) -> None:
    deliver(f"json://127.0.0.1:{receiver.server_port}/hook", ALERT, timeout=10)
    [(path, _, body)] = receiver.got
    told = json.loads(body)
    assert path.rstrip("/") == "/hook"
    assert told["title"] == "[open] digits: Accuracy fell"
    assert told["message"] == ALERT.text


def test_apprise_being_refused_is_a_failure(receiver: Receiver) -> None:
    with pytest.raises(DeliveryFailed, match=r"json://\*\*\*"):
        deliver(f"json://user:topsecret@127.0.0.1:{receiver.server_port}/broken", ALERT, timeout=10)


def test_an_address_that_nothing_knows_is_a_failure_without_the_secret() -> None:
    with pytest.raises(DeliveryFailed, match="Apprise knows no such address") as caught:
        deliver("carrierpigeon://topsecret", ALERT, timeout=10)
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "alertmanager+http", "json"])
def test_what_is_not_allowed_is_not_called(receiver: Receiver, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{receiver.server_port}/hook"
    with pytest.raises(DeliveryFailed, match=r"127\.0\.0\.1 is 127\.0\.0\.1, which is not"):
        send(url, ALERT)
    assert receiver.got == []
    allowed = Sending(Guard(("127.0.0.0/8",)))
    send(url, ALERT, allowed, timeout=10)
    assert len(receiver.got) == 1


def test_the_connection_goes_to_the_address_that_was_checked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that points elsewhere when asked again reaches nothing by that."""
    answers = [["127.0.0.1"], ["169.254.169.254"]]
    asked: list[str] = []

    def resolve(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        if host in ("127.0.0.1", "169.254.169.254"):  # a connection to an address
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]
        asked.append(host)
        found = answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = f"http://rebinds.example.org:{receiver.server_port}/hook"
    deliver(url, ALERT)
    assert (asked, len(receiver.got)) == (["rebinds.example.org"], 1)
    with pytest.raises(DeliveryFailed, match=r"rebinds\.example\.org is 169\.254\.169\.254, which"):
        deliver(url, ALERT)
    assert len(receiver.got) == 1
