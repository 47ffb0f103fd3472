"""Signing in at a real provider, in a process of its own that others wrote."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from homeostat.clock import utc_now
from monitoring.signals import Signal, triage
from registry import connect, raise_signal, sessions, transaction
from serving.app import create_app
from serving.gateway import Gateway
from serving.page.oidc import PENDING
from serving.page.sessions import COOKIE

if TYPE_CHECKING:
    from tests.integration.browser.conftest import OidcProvider
    from tests.integration.conftest import Station

HERE = "http://127.0.0.1:8000"
BEGIN = "/page/sign-in/oidc"


@contextmanager
def page_of(
    station: Callable[..., Station], provider: OidcProvider, **changes: object
) -> Iterator[TestClient]:
    here = station(oidc=provider.settings(HERE, **changes))
    here.serve(1)
    app = create_app(here.settings, Gateway(here.settings))
    with TestClient(app, base_url=HERE, follow_redirects=False) as client:
        yield client


def come_back(client: TestClient, provider: OidcProvider, person: str, to: str = "/") -> str:
    """Go out, agree there, and come back as a browser does: by which address."""
    out = client.get(BEGIN, params={"next": to})
    assert out.status_code == 303, out.text
    return provider.agree(out.headers["location"], person)


def open_incident(client: TestClient) -> str:
    gateway = client.app.gateway  # type: ignore[attr-defined]
    signal = Signal("registry", "test", 1.0, 1.0, 1, 1, {"reason": "why", "severity": "page"})
    with transaction(sessions(connect(gateway.settings.database))) as session:
        return raise_signal(session, "digits", 1, signal, triage(signal), utc_now(), "undo").id


def test_who_signed_in_there_is_who_acts_here_within_their_grants(
    station: Callable[..., Station], oidc_provider: OidcProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with page_of(station, oidc_provider, label="the house's door") as client:
        asked = client.get("/page/sign-in?next=/page/models/digits").text
        assert "Sign in with the house&#39;s door" in asked
        assert f"{HERE}{BEGIN}?next=/page/models/digits" in asked
        back = come_back(client, oidc_provider, "ann", "/page/models/digits")
        assert back.startswith(f"{HERE}{BEGIN}/done?")
        answer = client.get(back)
        assert answer.status_code == 200, answer.text
        assert 'content="0; url=/page/models/digits"' in answer.text
        assert "SameSite=strict" in str(answer.headers)
        page = client.get("/page/models/digits")
        assert page.status_code == 200
        assert "ann@example.org" in page.text
        form = page.text.partition('name="form" value="')[2].partition('"')[0]
        incident = open_incident(client)
        done = client.post(f"/page/incidents/{incident}/acknowledge", data={"form": form})
        assert done.status_code == 303
        assert "Acknowledged by ann@example.org." in client.get(f"/page/incidents/{incident}").text
        refused = client.get("/page/models/digits/promote?version=2")
        assert refused.status_code == 403
        assert "does not have the verb" in refused.text
        secrets = [*parse_qs(urlsplit(back).query)["code"], client.cookies[COOKIE]]
        assert client.post("/page/sign-out", data={"form": form}).status_code == 303
        assert client.get("/").status_code == 303
        oidc = client.app.gateway.settings.oidc  # type: ignore[attr-defined]
        secrets.append(oidc.client_secret.get_secret_value())
        ours = [one for one in caplog.records if not one.name.startswith("http")]  # the browser's
        logged = "\n".join(one.getMessage() for one in ours)
        assert "'ann@example.org' signed in" in logged
        assert not [secret for secret in secrets if secret in logged]


def test_an_answer_is_taken_once_and_in_the_browser_that_asked(
    station: Callable[..., Station], oidc_provider: OidcProvider
) -> None:
    with page_of(station, oidc_provider) as client:
        back = come_back(client, oidc_provider, "ann")
        pending = client.cookies[PENDING]
        elsewhere = httpx.Cookies(client.cookies)
        client.cookies.clear()
        other = client.get(back)
        assert other.status_code == 401
        assert "begun in this browser" in other.text
        client.cookies = elsewhere
        assert client.get(back).status_code == 200
        assert PENDING not in client.cookies
        client.cookies.clear()
        client.cookies.set(PENDING, pending)
        again = client.get(back)  # the provider takes no code twice
        assert again.status_code == 401
        assert "invalid_grant" in again.text
        assert COOKIE not in client.cookies


@pytest.mark.parametrize(
    ("person", "status", "said"),
    [
        ("bob", 403, "nothing here is granted to you"),
        ("eve", 401, "does not say that your address of mail is verified"),
    ],
)
def test_whom_the_settings_give_nothing_is_told_so_and_is_not_signed_in(
    station: Callable[..., Station],
    oidc_provider: OidcProvider,
    person: str,
    status: int,
    said: str,
) -> None:
    with page_of(station, oidc_provider) as client:
        answer = client.get(come_back(client, oidc_provider, person))
        assert (answer.status_code, COOKIE in client.cookies) == (status, False)
        assert said in answer.text


def test_who_does_not_agree_there_is_told_so(
    station: Callable[..., Station], oidc_provider: OidcProvider
) -> None:
    with page_of(station, oidc_provider) as client:
        back = come_back(client, oidc_provider, "ann")
        state = parse_qs(urlsplit(back).query)["state"][0]
        answer = client.get(f"{BEGIN}/done", params={"error": "access_denied", "state": state})
        assert answer.status_code == 401
        assert "did not let you in (access_denied)" in answer.text


def test_a_wrong_secret_is_named_and_not_shown(
    station: Callable[..., Station], oidc_provider: OidcProvider
) -> None:
    with page_of(station, oidc_provider, client_secret=SecretStr("open sesame")) as client:
        answer = client.get(come_back(client, oidc_provider, "ann"))
        assert answer.status_code == 401
        assert "oidc.client_secret" in answer.text
        assert "open sesame" not in answer.text


def test_a_provider_that_is_away_leaves_tokens_as_the_way_in(
    station: Callable[..., Station], oidc_provider: OidcProvider
) -> None:
    with page_of(station, oidc_provider, issuer="http://127.0.0.1:9") as client:
        away = client.get(BEGIN)
        assert away.status_code == 503
        assert "cannot be used" in away.text
        assert "Sign in with a token meanwhile" in away.text
        entered = client.post("/page/sign-in", data={"token": "the-token", "next": "/"})
        assert entered.status_code == 303
        assert client.get("/").status_code == 200


def test_without_a_provider_there_is_no_such_door(station: Callable[..., Station]) -> None:
    here = station()
    here.serve(1)
    app = create_app(here.settings, Gateway(here.settings))
    with TestClient(app, base_url=HERE, follow_redirects=False) as client:
        assert "Sign in with" not in client.get("/page/sign-in").text
        assert client.get(BEGIN).status_code == 404
        assert client.get(f"{BEGIN}/done?code=x&state=y").status_code == 404
