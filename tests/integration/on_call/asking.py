"""What the tests of the page of on-call ask it with, over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastapi.testclient import TestClient

from homeostat.clock import utc_now
from monitoring.signals import Signal, triage
from registry import connect, raise_signal, sessions, transaction
from registry.tokens import create_token
from serving.app import create_app
from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.conftest import Station

HERE = "http://127.0.0.1:8000"
HOSTILE = "<script>alert('x')</script>"


@contextmanager
def page_of(here: Station, address: str = HERE) -> Iterator[TestClient]:
    app = create_app(here.settings, Gateway(here.settings))
    with TestClient(app, base_url=address, follow_redirects=False) as client:
        yield client


def sign_in(client: TestClient, given: str = "") -> None:
    answer = client.post("/page/sign-in", data={"token": given or "the-token", "next": "/"})
    assert answer.status_code == 303, answer.text


def token_of(here: Station, name: str, *verbs: str, models: tuple[str, ...] = ()) -> str:
    with transaction(sessions(connect(here.settings.database))) as session:
        return create_token(session, name, verbs, models, actor="t", now=utc_now())[1]


def open_incident(here: Station, reason: str = "it says so") -> str:
    signal = Signal("registry", "test", 1.0, 1.0, 1, 1, {"reason": reason, "severity": "page"})
    with transaction(sessions(connect(here.settings.database))) as session:
        return raise_signal(
            session, "digits", 1, signal, triage(signal), utc_now(), "homeostat undo"
        ).id


def form_of(text: str) -> str:
    found = re.search(r'name="form" value="([0-9a-f]+)"', text)
    assert found
    return found[1]
