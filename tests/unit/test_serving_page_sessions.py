"""The page's sessions: a signed cookie that names a token, and nothing that anybody can forge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from homeostat.errors import Forbidden, Unauthorized
from homeostat.settings import Settings
from registry.tokens import Token, hash_of
from serving.access import Access
from serving.page.doors import check_origin, local
from serving.page.sessions import HOURS, Sessions

GIVEN = "hst_0123456789ab_secret"  # what ann was given
START = datetime(2026, 11, 26, 3, tzinfo=UTC)
OURS = Settings(token=SecretStr("the-token"))


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now.timestamp()


ANN = Token(
    key="0123456789ab",
    name="ann",
    hash=hash_of(GIVEN),
    verbs=("read", "rollback"),
    models=(),
    created_at=START,
    created_by="root",
    expires_at=START + timedelta(days=1),
    revoked_at=None,
    used_at=None,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(clock: Clock) -> Access:
    made = Access(OURS, clock)
    made.know([ANN])
    return made


@pytest.fixture
def sessions(access: Access, clock: Clock) -> Sessions:
    return Sessions(access, OURS, clock)


def test_a_session_names_its_tokens_holder_and_holds_no_token(sessions: Sessions) -> None:
    cookie, caller = sessions.begin(GIVEN)
    assert caller.name == sessions.whose(cookie).name == "ann"
    assert GIVEN not in cookie
    assert hash_of(GIVEN) not in cookie


def test_the_administrators_token_begins_a_session_too(sessions: Sessions) -> None:
    cookie, _ = sessions.begin(" the-token\n")
    assert sessions.whose(cookie).root


def test_another_gateway_of_the_installation_knows_the_session(
    sessions: Sessions, access: Access, clock: Clock
) -> None:
    cookie, _ = sessions.begin(GIVEN)
    assert Sessions(access, OURS, clock).whose(cookie).name == "ann"
    with pytest.raises(Unauthorized):
        Sessions(access, Settings(token=SecretStr("another")), clock).whose(cookie)


@pytest.mark.parametrize("place", [0, 15, 40, 55, -1])
def test_a_changed_cookie_is_nobodys(sessions: Sessions, place: int) -> None:
    cookie = list(sessions.begin(GIVEN)[0])
    cookie[place] = "0" if cookie[place] != "0" else "1"
    with pytest.raises(Unauthorized):
        sessions.whose("".join(cookie))


@pytest.mark.parametrize("cookie", ["", ".", "....", "a.b.c.d.e", "é", "the-token"])
def test_what_is_no_cookie_is_nobodys(sessions: Sessions, cookie: str) -> None:
    with pytest.raises(Unauthorized):
        sessions.whose(cookie)


def test_a_session_is_over_after_a_shift(sessions: Sessions, clock: Clock) -> None:
    cookie, _ = sessions.begin(GIVEN)
    clock.now += timedelta(hours=HOURS, seconds=-2)
    sessions.whose(cookie)
    clock.now += timedelta(seconds=4)
    with pytest.raises(Unauthorized):
        sessions.whose(cookie)


def test_a_session_ends_with_its_token(sessions: Sessions, access: Access) -> None:
    cookie, _ = sessions.begin(GIVEN)
    access.know([replace(ANN, revoked_at=START)])
    with pytest.raises(Unauthorized):
        sessions.whose(cookie)
    access.know([replace(ANN, hash=hash_of("another secret under this key"))])
    with pytest.raises(Unauthorized):
        sessions.whose(cookie)
    access.know([ANN])
    assert sessions.whose(cookie).name == "ann"


def test_a_token_that_may_not_read_begins_no_session(sessions: Sessions, access: Access) -> None:
    access.know([replace(ANN, verbs=("predict",))])
    with pytest.raises(Forbidden):
        sessions.begin(GIVEN)


def test_a_form_of_another_session_is_refused(sessions: Sessions) -> None:
    mine, other = sessions.begin(GIVEN)[0], sessions.begin(GIVEN)[0]
    sessions.check_form(mine, sessions.form_token(mine))
    for wrong in (sessions.form_token(other), "", "é"):
        with pytest.raises(Forbidden):
            sessions.check_form(mine, wrong)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:8000", "origin": "http://evil.example"},
        {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:5000"},
        {"host": "127.0.0.1:8000", "origin": "null"},
        {"host": "127.0.0.1:8000", "sec-fetch-site": "cross-site"},
        {"host": "127.0.0.1:8000", "sec-fetch-site": "same-site"},
    ],
)
def test_what_another_site_sends_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        check_origin(headers)


def test_what_the_page_itself_sends_is_taken() -> None:
    own = {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}
    check_origin(own | {"sec-fetch-site": "same-origin"})


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("/page/models/digits?at=now", "/page/models/digits?at=now"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("", "/"),
        ("/\t/evil.example", "/"),
        ("javascript:alert(1)", "/"),
    ],
)
def test_signing_in_leads_to_a_page_of_ours_only(asked: str, given: str) -> None:
    assert local(asked) == given
