"""Who signed in at a provider: what they may do here, and for how long."""

from __future__ import annotations

import time
from functools import partial

import pytest
from pydantic import SecretStr

from homeostat.errors import Forbidden, SettingsError, SignInRefused, Unauthorized
from homeostat.policy import Policy
from homeostat.setting_tables import Grant, OidcSettings
from homeostat.settings import Settings, load_settings
from serving.access import Access
from serving.page.oidc import PENDING_SECONDS, begin, resume
from serving.page.people import Person, person_of, rights_of
from serving.page.sessions import Sessions

ISSUER = "https://id.example.org"
NOW = 1_800_000_000
OIDC = OidcSettings(
    issuer=ISSUER,
    client_id="homeostat",
    client_secret=SecretStr("the secret"),
    grants=(
        Grant(value="on-call", verbs=("read", "rollback"), models=("digits",)),
        Grant(value="owners", verbs=("admin",), models=("letters",)),
        Grant(value="movers", verbs=("promote",), models=("digits",)),
        Grant(claim="realm_access.roles", value="auditor"),
    ),
)
MODELS = ("digits", "letters")
CLAIMS = {
    "email": "ann@example.org",
    "email_verified": True,
    "groups": ["on-call"],
    "realm_access": {"roles": []},
}


def person(**claims: object) -> Person:
    return person_of(CLAIMS | claims, OIDC)


def test_nobody_gets_a_right_that_no_grant_gives_and_each_for_its_models_alone() -> None:
    both = rights_of(person(groups=["on-call", "owners", "unknown"]), OIDC.grants, MODELS)
    assert both["digits"] == {"read", "rollback"}
    assert {"read", "promote", "admin"} <= both["letters"]
    assert rights_of(person(), OIDC.grants, MODELS) == {"digits": {"read", "rollback"}}


def test_a_role_within_a_claim_counts_for_every_model() -> None:
    auditor = person(groups=[], realm_access={"roles": ["auditor"]})
    assert rights_of(auditor, OIDC.grants, MODELS) == {name: {"read"} for name in MODELS}


@pytest.mark.parametrize("groups", [[], ["unknown"], "on", ["movers"], None, {"on-call": 1}, 7])
def test_whom_no_grant_lets_see_anything_gets_in_nowhere(groups: object) -> None:
    with pytest.raises(Forbidden, match=r"ann@example\.org"):
        rights_of(person(groups=groups), OIDC.grants, MODELS)


@pytest.mark.parametrize(
    "claims",
    [
        {"email": None},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email": "guard"},
        {"email": "controller"},
        {"email": "ann\nadmin"},
        {"email": ["ann@example.org"]},
    ],
    ids=str,
)
def test_who_has_no_name_that_an_actor_can_have_is_refused(claims: dict[str, object]) -> None:
    with pytest.raises(SignInRefused, match=r"oidc\.name_claim"):
        person(**claims)


class Clock:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


def settings_with(oidc: OidcSettings) -> Settings:
    models = {name: Policy() for name in MODELS}
    return Settings(token=SecretStr("the-token"), models=models, oidc=oidc)


def sessions_with(oidc: OidcSettings = OIDC, clock: Clock | None = None) -> Sessions:
    made, at = settings_with(oidc), clock or Clock()
    return Sessions(Access(made, at), made, at)


def test_a_session_is_of_the_person_and_of_what_the_settings_give_them() -> None:
    sessions = sessions_with()
    cookie, caller = sessions.begin_as(person())
    assert caller.name == sessions.whose(cookie).name == "ann@example.org"
    assert not caller.root
    assert caller.of("digits") == {"read", "rollback"}
    assert caller.of("letters") == frozenset()


def test_a_right_with_one_model_is_none_with_another() -> None:
    access = Access(settings_with(OIDC), lambda: NOW)
    rights = rights_of(person(groups=["on-call", "owners"]), OIDC.grants, MODELS)
    caller = access.person("ann@example.org", rights)
    access.require(caller, "promote", "letters")
    with pytest.raises(Forbidden, match="grant") as error:
        access.require(caller, "promote", "digits")
    assert "token" not in str(error.value)
    assert access.refused["ann@example.org", "promote"] == 1


@pytest.mark.parametrize(
    "change",
    [{"grants": ()}, {"client_id": "another"}, {"issuer": "https://other.example.org"}],
    ids=str,
)
def test_a_session_ends_with_the_grant_and_with_the_provider(change: dict[str, object]) -> None:
    cookie, _ = sessions_with().begin_as(person())
    assert sessions_with().whose(cookie).name == "ann@example.org"
    with pytest.raises(Unauthorized):
        sessions_with(OIDC.model_copy(update=change)).whose(cookie)


def test_a_persons_session_ends_by_time_and_when_they_sign_out() -> None:
    clock = Clock()
    sessions = sessions_with(OIDC.model_copy(update={"session_hours": 2}), clock)
    ended, _ = sessions.begin_as(person())
    cookie, _ = sessions.begin_as(person())
    sessions.end(ended)
    with pytest.raises(Unauthorized):
        sessions.whose(ended)
    clock.now += 2 * 3600 - 1
    sessions.whose(cookie)
    clock.now += 2
    with pytest.raises(Unauthorized):
        sessions.whose(cookie)


def test_a_cookie_in_which_somebody_else_is_written_is_nobodys() -> None:
    sessions = sessions_with()
    cookie, _ = sessions.begin_as(person())
    other = Person("bob", (("groups", "owners"),)).written()
    with pytest.raises(Unauthorized):
        sessions.whose(".".join([f"~{other}", *cookie.split(".")[1:]]))


def test_what_comes_back_belongs_to_what_went_out() -> None:
    sessions = sessions_with()
    out = begin(sessions, "/page/models/digits?at=ü", lambda: NOW)
    back = resume(sessions, out.cookie, out.state, lambda: NOW)
    assert back == out
    assert back.back == "/page/models/digits?at=ü"
    assert len({out.state, out.nonce, out.verifier, out.cookie.rpartition(":")[2]}) == 4
    assert not any(hidden in out.cookie for hidden in (out.state, out.nonce, out.verifier))


def test_another_browsers_answer_a_late_one_and_a_changed_one_are_refused() -> None:
    sessions = sessions_with()
    out, other = (begin(sessions, "/", time.time) for _ in range(2))
    soon, late = time.time(), time.time() + PENDING_SECONDS + 1
    moved = out.cookie.replace(":%2F:", ":%2Fpage:")
    assert moved != out.cookie
    for cookie, state, at in (
        (out.cookie, other.state, soon),
        (out.cookie, "", soon),
        ("", out.state, soon),
        ("é:x", "é", soon),
        (moved, out.state, soon),
        (out.cookie, out.state, late),
    ):
        with pytest.raises(SignInRefused, match="in this browser"):
            resume(sessions, cookie, state, partial(float, at))


def test_an_address_that_no_cookie_has_room_for_leads_to_the_fleet() -> None:
    assert begin(sessions_with(), f"/{'ü' * 600}").back == "/"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"issuer": "http://id.example.org", "client_id": "a"}, "https"),
        ({"issuer": ISSUER}, "client_id"),
        ({"scopes": ["email"]}, "openid"),
        ({"grants": [{"value": "x", "models": ["no-such"]}]}, "no-such"),
        ({"grants": [{"value": "x", "verbs": ["fly"]}]}, "verbs"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_and_show_no_secret(
    wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as error:
        load_settings(oidc={"client_secret": "open sesame", **wrong})
    assert "open sesame" not in str(error.value)
