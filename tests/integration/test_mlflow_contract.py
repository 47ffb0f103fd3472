"""What we build on in MLflow, and what we guard against: facts of the installed server.

A test here that fails says that an upgrade of MLflow changed one: read what of ours leans on it
before its bound is moved. The names L1 to L12 are those of docs/registry.md.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import httpx
import mlflow
import psutil
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.cli import gc
from mlflow.entities.webhook import WebhookEvent, WebhookEventStr
from mlflow.environment_variables import MLFLOW_WEBHOOK_CACHE_TTL
from mlflow.exceptions import MlflowException
from mlflow.webhooks.delivery import _create_webhook_session
from requests.adapters import HTTPAdapter

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
class Page:
    """MLflow as its page drives it, with a model of this test's own."""

    client: MlflowClient
    url: str
    model: str

    def versions(self, count: int) -> None:
        """Register the model with so many versions of one and the same run."""
        self.client.create_registered_model(self.model)
        run = self.client.create_run("0")
        source = f"{run.info.artifact_uri}/model"
        for _ in range(count):
            self.client.create_model_version(self.model, source, run.info.run_id)

    def set(self, version: int, alias: str = "champion") -> None:
        self.client.set_registered_model_alias(self.model, alias, str(version))

    def aliases(self) -> dict[str, int]:
        found = self.client.get_registered_model(self.model).aliases
        return {alias: int(version) for alias, version in found.items()}

    def call(self, method: str, route: str, **body: str) -> httpx.Response:
        """A call as the page makes it: raw REST."""
        place = f"{self.url}/api/2.0/mlflow/{route}"
        return httpx.request(method, place, json=body, timeout=30.0, trust_env=False)


def a_page(url: str) -> Page:
    return Page(MlflowClient(url, url), url, f"facts-{uuid4().hex[:8]}")


@pytest.fixture
def page(mlflow_url: str) -> Page:
    """A page of the server that all tests share: it delivers no webhooks to the loopback."""
    return a_page(mlflow_url)


Runner = Callable[..., AbstractContextManager[str]]


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
def armed(courier: Courier, receiver: Receiver) -> Iterator[Page]:
    """A page of the delivering server, with two versions."""
    page = a_page(courier.url)
    page.versions(2)
    yield page
    receiver.answer = lambda _: 200


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come true in time")


def test_l1_the_same_work_logged_again_is_another_version(page: Page) -> None:
    page.versions(3)
    found = page.client.search_model_versions(f"name = '{page.model}'")
    assert sorted(int(one.version) for one in found) == [1, 2, 3]
    assert len({one.source for one in found}) == 1


def test_l2_moving_an_alias_changes_no_timestamp(page: Page) -> None:
    page.versions(2)

    def stamps() -> list[int]:
        model = page.client.get_registered_model(page.model)
        versions = [page.client.get_model_version(page.model, one) for one in ("1", "2")]
        return [model.last_updated_timestamp, *(one.last_updated_timestamp for one in versions)]

    before = stamps()
    page.set(1)
    page.set(2)
    assert page.aliases() == {"champion": 2}
    assert stamps() == before


def test_l3_the_champions_version_can_be_deleted_and_its_alias_goes_without_an_event(
    armed: Page, receiver: Receiver
) -> None:
    armed.set(1)
    wait_for(lambda: len(receiver.of(armed.model)) == 4)  # one model, two versions, one alias
    armed.client.delete_model_version(armed.model, "1")
    assert armed.aliases() == {}
    armed.set(2)  # deliveries keep their order where none fails: this one comes after any other
    wait_for(lambda: receiver.moves(armed.model) == [1, 2])
    assert len(receiver.of(armed.model)) == 5


def test_l4_a_live_versions_files_can_be_collected_while_the_registry_says_ready(
    page: Page, mlflow_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", page.url)
    mlflow.set_tracking_uri(page.url)
    try:
        info = mlflow.pyfunc.log_model(
            name="net",
            python_model=lambda model_input: model_input,
            pip_requirements=[],
            registered_model_name=page.model,
        )
        page.set(1)
        page.client.delete_logged_model(info.model_id)
        options = ["--backend-store-uri", f"sqlite:///{mlflow_folder / 'mlflow.db'}"]
        options += ["--logged-model-ids", info.model_id, "--tracking-uri", page.url]
        done = CliRunner().invoke(gc, options)
        assert done.exit_code == 0, done.output
        assert page.client.get_model_version(page.model, "1").status == "READY"
        assert page.aliases() == {"champion": 1}
        with pytest.raises(MlflowException):
            mlflow.pyfunc.load_model(f"models:/{page.model}@champion")
    finally:
        mlflow.set_tracking_uri("")


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
        wait_for(lambda: fire() and receiver.at("/hook/second"))
        assert receiver.at("/hook/second")[0].at - listed >= LIST_SECONDS
    finally:
        armed.client.delete_webhook(second.webhook_id)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_l5b_a_receiver_on_the_loopback_is_refused_by_default(page: Page, scheme: str) -> None:
    with pytest.raises(MlflowException, match=r"scheme|public"):
        page.client.create_webhook("loopback", f"{scheme}://127.0.0.1:9/hook", [ALIAS_SET])


def test_l6_a_delivery_that_keeps_failing_is_dropped_for_good(
    armed: Page, receiver: Receiver
) -> None:
    """By default it is tried four times in about 7 s; the server of this test tries twice."""
    adapter = _create_webhook_session().get_adapter("https://example.org")
    assert isinstance(adapter, HTTPAdapter)
    assert adapter.max_retries.total == 3
    receiver.answer = lambda _: 500
    armed.set(1)
    wait_for(lambda: receiver.moves(armed.model) == [1, 1])
    receiver.answer = lambda _: 200
    armed.set(2)
    wait_for(lambda: receiver.moves(armed.model) == [1, 1, 2])
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
    wait_for(lambda: receiver.moves(armed.model) == [1])
    armed.set(2)
    wait_for(lambda: receiver.moves(armed.model) == [1, 2, 1])
    first, _, last = [one for one in receiver.of(armed.model) if one.moved_to]
    for name in ("x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature"):
        assert last.headers[name] == first.headers[name]
    assert armed.aliases() == {"champion": 2}


@pytest.mark.parametrize("attempt", range(3))
def test_l9_of_three_that_set_one_alias_the_last_wins_and_none_is_told(
    page: Page, attempt: int
) -> None:
    page.versions(3)
    answers: list[httpx.Response] = []

    def move(version: int) -> None:
        body = {"name": page.model, "alias": "champion", "version": str(version)}
        answers.append(page.call("POST", "registered-models/alias", **body))

    page.set(1)
    movers = [threading.Thread(target=move, args=(version,)) for version in (1, 2, 3)]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join()
    assert [answer.status_code for answer in answers] == [200, 200, 200], attempt
    assert page.aliases()["champion"] in (1, 2, 3)


def test_l10_alias_names_are_told_apart_by_case_and_two_kinds_are_reserved(page: Page) -> None:
    page.versions(2)
    page.set(1, "champion")
    page.set(2, "Champion")
    page.set(1, "modèle")
    page.set(1, "a" * 255)
    assert {"champion": 1, "Champion": 2, "modèle": 1}.items() <= page.aliases().items()
    for reserved in ("latest", "v1", "V12"):
        with pytest.raises(MlflowException, match="reserved"):
            page.set(1, reserved)


def test_l11_a_renamed_model_leaves_nothing_at_its_old_name_and_no_event(
    armed: Page, receiver: Receiver
) -> None:
    armed.set(1)
    wait_for(lambda: len(receiver.of(armed.model)) == 4)
    renamed = f"{armed.model}-renamed"
    armed.client.rename_registered_model(armed.model, renamed)
    with pytest.raises(MlflowException, match="not found"):
        armed.client.get_registered_model(armed.model)
    assert armed.client.get_registered_model(renamed).aliases == {"champion": "1"}
    armed.client.set_registered_model_alias(renamed, "champion", "2")
    wait_for(lambda: receiver.moves(renamed) == [2])
    assert len(receiver.of(renamed)) == 1  # of the move, not of the renaming
    assert len(receiver.of(armed.model)) == 4


def test_l12_a_stale_tab_takes_away_the_alias_of_another_version(page: Page) -> None:
    page.versions(2)
    page.set(1)
    page.set(2)  # by somebody else; the first tab still shows it on version 1
    gone = {"name": page.model, "alias": "champion", "version": "1"}
    assert page.call("DELETE", "registered-models/alias", **gone).status_code == 200
    assert page.aliases() == {}


def test_setting_an_alias_to_where_it_is_fires_an_event(armed: Page, receiver: Receiver) -> None:
    armed.set(1)
    armed.set(1)
    wait_for(lambda: receiver.moves(armed.model) == [1, 1])


def test_l8_what_was_not_delivered_dies_with_the_server(
    courier: Courier, receiver: Receiver
) -> None:
    """The last of this file: it ends the server as a crash does.

    A start of MLflow is too dear to look whether the next one delivers: it has nothing to do so
    from, as no table keeps a delivery.
    """
    page = a_page(courier.url)
    page.versions(2)
    wait_for(lambda: len(receiver.of(page.model)) == 3)
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
    with closing(sqlite3.connect(courier.folder / "mlflow.db")) as kept:
        tables = kept.execute("select name from sqlite_master where type = 'table'")
        about = {name for (name,) in tables if "webhook" in name or "deliver" in name}
    assert about == {"webhooks", "webhook_events"}


def _kill(url: str) -> None:
    port = url.rsplit(":", 1)[1]
    for child in psutil.Process().children():
        if port in child.cmdline():
            for process in (*child.children(recursive=True), child):
                process.kill()
            return
    raise AssertionError(f"no server of ours listens at {url}")
