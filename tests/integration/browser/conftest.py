"""A real browser and a gateway that it can ask: headless Chromium by Playwright; an OIDC provider.

Chromium is the machine's own (Debian: `apt install chromium`): Playwright would fetch one of its
own from elsewhere. Where there is none these tests are left out, but never in continuous
integration, whose script installs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from homeostat.clock import utc_now
from homeostat.setting_tables import OidcSettings
from monitoring.signals import Signal, triage
from registry import connect, raise_signal, sessions, transaction
from serving.app import create_app
from serving.gateway import Gateway
from tests.asking import ask

if TYPE_CHECKING:
    from tests.integration.conftest import Station

PATIENCE_MS = 120_000  # other tests may keep the cores busy
NAMES = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


@dataclass(frozen=True)
class OidcProvider:
    """A provider that runs in a process of its own: oidc-provider-mock, which others wrote."""

    issuer: str

    def settings(self, page_address: str, **changes: object) -> OidcSettings:
        """Of a client of its own, with a secret that the provider checks."""
        redirect = f"{page_address}/page/sign-in/oidc/done"
        asked = {"redirect_uris": [redirect]}
        made = ask("POST", f"{self.issuer}/oauth2/clients", json=asked).json()
        given = {
            "issuer": self.issuer,
            "client_id": made["client_id"],
            "client_secret": made["client_secret"],
            "grants": ({"value": "on-call", "verbs": ("read", "rollback")},),
        }
        return OidcSettings.model_validate(given | changes)

    def agree(self, address: str, person: str) -> str:
        """Where the provider sends a person who was sent to an address and signs in there."""
        answer = ask("POST", address, data={"sub": person})
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]


@pytest.fixture(scope="session")
def oidc_provider() -> Iterator[OidcProvider]:
    """A provider at which ann is on call, bob is in a group that nobody knows, eve has no mail."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    people = [
        {"sub": "ann", "email": "ann@example.org", "email_verified": True, "groups": ["on-call"]},
        {"sub": "bob", "email": "bob@example.org", "email_verified": True, "groups": ["canteen"]},
        {"sub": "eve", "email": "eve@example.org", "groups": ["on-call"]},
    ]
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port)]
    command += ["--require-registration", "true", "--require-nonce", "true"]
    for one in people:
        command += ["--user-claims", json.dumps(one)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        found = OidcProvider(f"http://127.0.0.1:{port}")
        try:
            _wait_for_provider(found.issuer, process)
            yield found
        finally:
            process.terminate()


def _wait_for_provider(issuer: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(httpx.TransportError):
            ask("GET", f"{issuer}/.well-known/openid-configuration")
            return
        assert process.poll() is None, "the provider ended"
        assert time.monotonic() < deadline, "the provider does not answer"
        time.sleep(0.05)


@dataclass(frozen=True)
class Served:
    """A gateway that listens: with some traffic, labels, a trial and an incident."""

    address: str
    incident: str
    provider: OidcProvider

    def ask(self, path: str, **body: object) -> httpx.Response:
        """The JSON routes, with the administrator's token."""
        header = {"Authorization": "Bearer the-token"}
        return ask("POST", f"{self.address}{path}", json=body, headers=header)

    @property
    def pages(self) -> tuple[str, ...]:
        """One of every kind of page."""
        return (
            "/",
            "/page/models/digits",
            f"/page/incidents/{self.incident}",
            "/page/models/digits/versions/1",
            "/page/models/digits/promote?version=3",
            "/page/runbooks/loss",
        )

    def sign_in(self, context: BrowserContext) -> Page:
        """A page of somebody who is signed in; what it complains of is in `complaints`."""
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(f"{self.address}/page/sign-in")
        page.fill("#token", "the-token")
        page.press("#token", "Enter")
        page.wait_for_url(f"{self.address}/")
        return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium; it ends with its file: until then an event loop runs in this thread."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        assert not os.environ.get("CI"), "continuous integration has to have a Chromium"
        pytest.skip("no Chromium on this machine: apt install chromium")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def served(station: Callable[..., Station], oidc_provider: OidcProvider) -> Iterator[Served]:
    """A gateway on a free port of the loopback, and a provider that people can sign in at."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        here = station(gateway_port=port, oidc=oidc_provider.settings(address))
        yield from _served(here, listener, address, oidc_provider)


def _served(
    here: Station, listener: socket.socket, address: str, provider: OidcProvider
) -> Iterator[Served]:
    here.serve(1)
    here.put_on_trial(2)
    signal = Signal("registry", "test", 1.0, 1.0, 1, 1, {"reason": HOSTILE, "severity": "page"})
    with transaction(sessions(connect(here.settings.database))) as session:
        undo = "homeostat rollback digits --reason 'why'"
        verdict = triage(signal)
        opened = raise_signal(session, "digits", 1, signal, verdict, utc_now(), undo)
    gateway = Gateway(here.settings)
    config = uvicorn.Config(
        create_app(here.settings, gateway), log_level="warning", timeout_graceful_shutdown=3
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        found = Served(address, opened.id, provider)
        _wait_for(lambda: server.started)
        rows = [[float((n + k) % 16) for k in range(64)] for n in range(120)]
        said = found.ask("/v1/models/digits/predict", rows=rows).json()["predictions"]
        labels = [{"id": one["id"], "label": one["prediction"]} for one in said]
        assert found.ask("/v1/labels", labels=labels).status_code == 200
        yield found
    finally:
        gateway.leaving.begun = True  # as the gateway's own server does first
        server.should_exit = True
        thread.join(30)


def _wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
