"""The page of on-call over HTTP: who gets in, what it shows, what it never does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from homeostat.clock import utc_now
from homeostat.settings import ADMIN_PORT
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


def sign_in(client: TestClient, token: str = "the-token") -> None:  # noqa: S107 - of this test
    answer = client.post("/page/sign-in", data={"token": token, "next": "/"})
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


@pytest.fixture
def here(station: Callable[..., Station]) -> Station:
    made = station()
    made.serve(1)
    return made


def test_who_is_not_signed_in_is_asked_to_and_comes_back(here: Station) -> None:
    with page_of(here) as client:
        asked = client.get("/?at=x")
        assert asked.status_code == 303
        assert asked.headers["location"] == "/page/sign-in?next=%2F%3Fat%3Dx"
        wrong = client.post("/page/sign-in", data={"token": "wrong", "next": "/"})
        assert wrong.status_code == 401
        assert "does not work here" in wrong.text
        assert not client.cookies
        right = client.post("/page/sign-in", data={"token": "the-token", "next": "/page/x"})
        assert (right.status_code, right.headers["location"]) == (303, "/page/x")
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "the-token" not in cookie
        assert client.get("/").status_code == 200


def test_the_fleet_says_what_serves_on_whose_word_and_what_is_open_first(here: Station) -> None:
    incident = open_incident(here, HOSTILE)
    with page_of(here) as client:
        sign_in(client)
        answer = client.get("/")
        text = answer.text
        assert "1 page open" in text
        assert f"/page/incidents/{incident}" in text
        assert text.index("Open incidents") < text.index("What serves")
        for said in ("version 1", "champion, 100", "by <strong>test</strong>", "the test says so"):
            assert said in text
        assert HOSTILE not in text
        assert "&lt;script&gt;" in text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert not re.search(r"<script(?! src)|<style| style=| on[a-z]+=", text)


def test_other_holders_models_are_not_there(station: Callable[..., Station]) -> None:
    made = station()
    other = made.settings.policy("digits")
    made = station_with(made, {"digits": other, "letters": other})
    made.serve(1)
    incident = open_incident(made)
    token = token_of(made, "lee", "read", models=("letters",))
    with page_of(made) as client:
        sign_in(client, token)
        text = client.get("/").text
        assert "letters" in text
        assert "digits" not in text
        assert incident not in text


def station_with(made: Station, models: dict[str, object]) -> Station:
    return type(made)(made.settings.model_copy(update={"models": models}), made.digests)


def test_a_token_without_read_sees_nothing(here: Station) -> None:
    token = token_of(here, "shop", "predict")
    with page_of(here) as client:
        refused = client.post("/page/sign-in", data={"token": token})
        assert refused.status_code == 403
        assert not client.cookies


def test_signing_out_ends_the_session_and_needs_the_pages_own_form(here: Station) -> None:
    with page_of(here) as client:
        sign_in(client)
        form = form_of(client.get("/").text)
        assert client.post("/page/sign-out", data={"form": "0" * 64}).status_code == 403
        other = client.post(
            "/page/sign-out", data={"form": form}, headers={"origin": "http://evil.example"}
        )
        assert other.status_code == 403
        assert client.get("/").status_code == 200
        assert client.post("/page/sign-out", data={"form": form}).status_code == 303
        assert client.get("/").status_code == 303


def test_the_page_is_at_the_port_of_the_routes_that_act_alone(
    station: Callable[..., Station],
) -> None:
    made = station(host="0.0.0.0")  # noqa: S104 - nothing listens: an address to be recognised
    made.serve(1)
    with page_of(made, "http://10.0.0.1:8000") as public:
        for path in ("/", "/page/sign-in", "/page/static/page.css"):
            assert public.get(path).status_code == 404
    with page_of(made, f"http://127.0.0.1:{ADMIN_PORT}") as acting:
        assert acting.get("/page/sign-in").status_code == 200


def test_a_link_from_elsewhere_keeps_its_session(here: Station) -> None:
    """A browser holds a strict cookie back there: a page of ours asks again, and then it comes."""
    with page_of(here) as client:
        answer = client.get("/?a=b", headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 200
        assert 'content="0; url=/?a=b"' in answer.text
