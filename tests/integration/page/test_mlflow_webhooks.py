"""Facts of MLflow's webhooks, of the installed server, and why they are only a hint.

The server of these tests may deliver to the loopback, believes its list of webhooks for two
seconds and tries twice; the defaults, which the facts are about, are read from its source.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psutil
import pytest
import uvicorn
from cryptography.fernet import Fernet
from mlflow import MlflowClient
from mlflow.entities.webhook import WebhookEvent, WebhookEventStr
from mlflow.environment_variables import MLFLOW_WEBHOOK_CACHE_TTL
from mlflow.exceptions import MlflowException
from mlflow.webhooks.delivery import _create_webhook_session
from pydantic import SecretStr
from requests.adapters import HTTPAdapter

from homeostat.policy import Policy
from homeostat.settings import Settings
from serving.app import GatewayApp, create_app
from serving.webhook import PATH

if TYPE_CHECKING:
    from tests.integration.page.conftest import Page, Runner

    PageOf = Callable[[str], Page]

ALIAS_SET: WebhookEventStr = "model_version_alias.created"
ALIAS_GONE: WebhookEventStr = "model_version_alias.deleted"
EVENTS: list[WebhookEventStr | WebhookEvent] = [
    ALIAS_SET,
    ALIAS_GONE,
    "registered_model.created",
    "model_version.created",
    "model_version_tag.set",
    "model_version_tag.deleted",
]
LIST_SECONDS = 2  # how long the server of these tests believes its list of webhooks
OPEN = {
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
    "MLFLOW_WEBHOOK_CACHE_TTL": str(LIST_SECONDS),
    "MLFLOW_WEBHOOK_REQUEST_MAX_RETRIES": "1",
    # Else each start of the server makes one, and cannot read the secrets of the start before.
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
}


@dataclass
class Delivery:
    """One arrival at the receiver."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def model(self) -> str:
        """The model that it is about."""
        return str(json.loads(self.body)["data"]["name"])

    @property
    def moved_to(self) -> int:
        """The version that an alias was set to; 0 for an event of another kind."""
        said = json.loads(self.body)
        alias = said["entity"] == "model_version_alias"
        return int(said["data"].get("version", 0)) if alias else 0


@dataclass
class Receiver:
    """An endpoint of the loopback that writes down what comes and answers as it is told."""

    url: str = ""
    arrived: list[Delivery] = field(default_factory=list)
    answer: Callable[[Delivery], int] = lambda _: 200

    def at(self, path: str) -> list[Delivery]:
        """What came at a path."""
        return [one for one in list(self.arrived) if one.path == path]

    def of(self, model: str) -> list[Delivery]:
        """What came about a model."""
        return [one for one in list(self.arrived) if one.model == model]

    def moves(self, model: str) -> list[int]:
        """The versions that alias events of a model named, as they came."""
        return [one.moved_to for one in self.of(model) if one.moved_to]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            delivery = Delivery(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            kept.arrived.append(delivery)
            self.send_response(kept.answer(delivery))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.daemon_threads = True
    kept.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield kept
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass(frozen=True)
class Courier:
    """A server that may deliver to the loopback, warm, with a webhook to the receiver."""

    url: str
    folder: Path


@pytest.fixture(scope="module")
def courier(
    tmp_path_factory: pytest.TempPathFactory, run_mlflow: Runner, receiver: Receiver
) -> Iterator[Courier]:
    """The guard against private addresses is off for this server alone, and its times short."""
    folder = tmp_path_factory.mktemp("courier")
    with run_mlflow(folder, **OPEN) as url:
        client = MlflowClient(url, url)  # before any event, so that the server's list has it
        client.create_webhook("facts", receiver.url, EVENTS, secret=uuid4().hex)
        yield Courier(url, folder)


@pytest.fixture
def armed(courier: Courier, receiver: Receiver, page_of: PageOf) -> Iterator[Page]:
    """A page of the delivering server, with two versions."""
    page = page_of(courier.url)
    page.versions(2)
    yield page
    receiver.answer = lambda _: 200


def test_l3_the_champions_version_can_be_deleted_and_its_alias_goes_without_an_event(
    armed: Page, receiver: Receiver
) -> None:
    armed.set(1)
    armed.wait_for(lambda: len(receiver.of(armed.model)) == 4)  # one model, two versions, one alias
    armed.client.delete_model_version(armed.model, "1")
    assert armed.aliases() == {}
    armed.set(2)  # deliveries keep their order where none fails: this one comes after any other
    armed.wait_for(lambda: receiver.moves(armed.model) == [1, 2])
    assert len(receiver.of(armed.model)) == 5


def test_l5_a_webhook_is_deaf_until_the_servers_list_runs_out(
    armed: Page, receiver: Receiver
) -> None:
    """Its list lives for 60 s by default; the server of this test keeps it for two."""
    assert MLFLOW_WEBHOOK_CACHE_TTL.default == 60

    def fire() -> float:  # nothing else here takes aliases away: the first time makes the list
        before = time.monotonic()
        armed.client.delete_registered_model_alias(armed.model, "champion")
        return before

    listed = fire()
    second = armed.client.create_webhook("second", f"{receiver.url}/second", [ALIAS_GONE])
    try:
        fire()
        armed.wait_for(lambda: fire() and receiver.at("/hook/second"))
        assert receiver.at("/hook/second")[0].at - listed >= LIST_SECONDS
    finally:
        armed.client.delete_webhook(second.webhook_id)


def test_l6_a_delivery_that_keeps_failing_is_dropped_for_good(
    armed: Page, receiver: Receiver
) -> None:
    """By default it is tried four times in about 7 s; the server of this test tries twice."""
    adapter = _create_webhook_session().get_adapter("https://example.org")
    assert isinstance(adapter, HTTPAdapter)
    assert adapter.max_retries.total == 3
    receiver.answer = lambda _: 500
    armed.set(1)
    armed.wait_for(lambda: receiver.moves(armed.model) == [1, 1])
    receiver.answer = lambda _: 200
    armed.set(2)
    armed.wait_for(lambda: receiver.moves(armed.model) == [1, 1, 2])
    time.sleep(0.3)  # a first retry comes at once
    assert receiver.moves(armed.model) == [1, 1, 2]


def test_l7_a_retry_brings_a_stale_event_last_under_its_first_id_and_time(
    armed: Page, receiver: Receiver
) -> None:
    overtaken = threading.Event()

    def answer(delivery: Delivery) -> int:
        if delivery.moved_to == 1 and not overtaken.is_set():
            overtaken.wait(10)
            return 503
        if delivery.moved_to == 2:
            overtaken.set()
        return 200

    receiver.answer = answer
    armed.set(1)
    armed.wait_for(lambda: receiver.moves(armed.model) == [1])
    armed.set(2)
    armed.wait_for(lambda: receiver.moves(armed.model) == [1, 2, 1])
    first, _, last = [one for one in receiver.of(armed.model) if one.moved_to]
    for name in ("x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature"):
        assert last.headers[name] == first.headers[name]
    assert armed.aliases() == {"champion": 2}


def test_l11_a_renamed_model_leaves_nothing_at_its_old_name_and_no_event(
    armed: Page, receiver: Receiver
) -> None:
    armed.set(1)
    armed.wait_for(lambda: len(receiver.of(armed.model)) == 4)
    renamed = f"{armed.model}-renamed"
    armed.client.rename_registered_model(armed.model, renamed)
    with pytest.raises(MlflowException, match="not found"):
        armed.client.get_registered_model(armed.model)
    assert armed.client.get_registered_model(renamed).aliases == {"champion": "1"}
    armed.client.set_registered_model_alias(renamed, "champion", "2")
    armed.wait_for(lambda: receiver.moves(renamed) == [2])
    assert len(receiver.of(renamed)) == 1  # of the move, not of the renaming
    assert len(receiver.of(armed.model)) == 4


def test_setting_an_alias_to_where_it_is_fires_an_event(armed: Page, receiver: Receiver) -> None:
    armed.set(1)
    armed.set(1)
    armed.wait_for(lambda: receiver.moves(armed.model) == [1, 1])


def test_a_signed_delivery_has_the_gateway_look_long_before_its_next_poll(
    courier: Courier, page_of: PageOf, tmp_path: Path, migrated_sqlite: Path
) -> None:
    """MLflow's own delivery, to a gateway that by itself would look again after an hour."""
    page = page_of(courier.url)
    page.versions(1)
    shutil.copy(migrated_sqlite, tmp_path / "lifecycle.db")
    secret = uuid4().hex
    settings = Settings(
        state_dir=tmp_path,
        mlflow_url=courier.url,
        prefect_url="http://127.0.0.1:9/api",
        poll_seconds=3600.0,
        webhook_secret=SecretStr(secret),
        models={page.model: Policy()},
    )
    with _running(create_app(settings)) as url:
        hook = page.client.create_webhook("hint", f"{url}{PATH}", [ALIAS_SET], secret=secret)

        def answered() -> bool:
            tags = page.client.get_model_version(page.model, "1").tags
            if tags.get("lifecycle.state") == "rejected":  # nobody registered it with us
                return True
            page.set(1)  # as often as the server may still hold its old list of webhooks; see L5
            return False

        try:
            page.wait_for(answered, seconds=60.0)
        finally:
            page.client.delete_webhook(hook.webhook_id)


def test_l8_what_was_not_delivered_dies_with_the_server(
    courier: Courier, receiver: Receiver, page_of: PageOf, run_mlflow: Runner
) -> None:
    """The last of this file: it ends the server as a crash does, and starts it anew."""
    page = page_of(courier.url)
    page.versions(2)
    page.wait_for(lambda: len(receiver.of(page.model)) == 3)
    release = threading.Event()
    receiver.answer = lambda _: 200 if release.wait(10) else 500
    moves = 30
    for n in range(moves):
        page.set(n % 2 + 1)
    assert page.aliases() == {"champion": 2}
    _kill(courier.url)
    release.set()
    delivered = len(receiver.moves(page.model))
    assert delivered <= 10 < moves  # ten at once, and no more: the threads that deliver
    with run_mlflow(courier.folder, **OPEN) as url:
        again = page_of(url)
        again.versions(1)  # deliveries keep their order: these come after any that was kept
        again.wait_for(lambda: len(receiver.of(again.model)) == 2)
    assert len(receiver.moves(page.model)) == delivered


@contextmanager
def _running(app: GatewayApp) -> Iterator[str]:
    """A gateway on a port of the loopback, in a thread."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30.0
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def _kill(url: str) -> None:
    port = url.rsplit(":", 1)[1]
    for child in psutil.Process().children():
        if port in child.cmdline():
            for process in (*child.children(recursive=True), child):
                process.kill()
            return
    raise AssertionError(f"no server of ours listens at {url}")
