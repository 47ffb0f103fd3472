"""What a provider says is believed only where it can be relied on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey
from pydantic import SecretStr

from homeostat.errors import SignInRefused, Unavailable
from homeostat.setting_tables import Grant, OidcSettings
from monitoring.outbound import Guard, Unanswered
from serving.page.provider import Claims, Provider, challenge_of

ISSUER = "https://id.example.org"
REDIRECT = "https://on-call.example.org/page/sign-in/oidc/done"
NOW = 1_800_000_000
KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
OTHER_KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
OIDC = OidcSettings(
    issuer=ISSUER,
    client_id="homeostat",
    client_secret=SecretStr("the secret"),
    grants=(Grant(value="on-call"), Grant(claim="realm_access.roles", value="auditor")),
)
CLAIMS = {
    "iss": ISSUER,
    "sub": "248289761001",
    "aud": "homeostat",
    "exp": NOW + 300,
    "iat": NOW,
    "nonce": "the nonce",
    "email": "ann@example.org",
    "email_verified": True,
    "groups": ["on-call"],
    "realm_access": {"roles": []},
}


class FakeProvider:
    """Answers as a provider does, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], dict[str, list[str]]]] = []
        self.keys = KeySet([KEY])
        self.says: dict[str, Any] = {}
        self.answer: tuple[int, object] | None = None
        self.token = signed(CLAIMS)

    def __call__(
        self, method: str, url: str, _: Guard, __: float, headers: object, body: bytes, longest: int
    ) -> tuple[int, bytes]:
        assert longest > 0
        self.asked.append((method, url, cast(dict[str, str], headers), parse_qs(body.decode())))
        status, said = 200, self._said(url)
        if self.answer and url.endswith("/token"):
            status, said = self.answer
        return status, json.dumps(said).encode()

    def _said(self, url: str) -> object:
        if url.endswith("/.well-known/openid-configuration"):
            ends = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
            found = {f"{name}_endpoint": f"{ISSUER}/{end}" for name, end in ends.items()}
            return found | {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"} | self.says
        if url.endswith("/keys"):
            return self.keys.as_dict()
        if url.endswith("/userinfo"):
            return {"sub": CLAIMS["sub"], "groups": ["owners"], "iss": "https://evil.example.org"}
        return {"id_token": self.token, "access_token": "for userinfo", "token_type": "Bearer"}


def signed(
    claims: dict[str, Any], key: RSAKey | OctKey = KEY, alg: str = "RS256", **head: str
) -> str:
    return jwt.encode({"alg": alg, "kid": "one"} | head, claims, key, [alg])


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def provider(fake: FakeProvider) -> Provider:
    return Provider(OIDC, REDIRECT, Guard(), lambda: NOW, fake)


def ask(provider: Provider) -> Claims:
    return provider.claims("the code", "the nonce", "the verifier")


def test_the_challenge_is_that_of_the_standard() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636, appendix B
    assert challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_browser_is_sent_with_state_nonce_and_the_hash_of_the_verifier(
    provider: Provider,
) -> None:
    at = urlsplit(provider.address("the state", "the nonce", "the verifier"))
    assert at._replace(query="").geturl() == f"{ISSUER}/authorize"
    asked = {name: value for name, [value] in parse_qs(at.query).items()}
    assert asked == {
        "response_type": "code",
        "client_id": "homeostat",
        "redirect_uri": REDIRECT,
        "scope": "openid profile email",
        "state": "the state",
        "nonce": "the nonce",
        "code_challenge": challenge_of("the verifier"),
        "code_challenge_method": "S256",
    }


def test_the_code_is_exchanged_with_the_verifier_and_the_secret_in_the_head(
    provider: Provider, fake: FakeProvider
) -> None:
    assert ask(provider)["email"] == "ann@example.org"
    method, url, headers, form = next(one for one in fake.asked if one[1].endswith("/token"))
    assert (method, url) == ("POST", f"{ISSUER}/token")
    assert headers["authorization"] == "Basic aG9tZW9zdGF0OnRoZStzZWNyZXQ="
    assert form["code_verifier"] == ["the verifier"]
    assert form["redirect_uri"] == [REDIRECT]
    assert "client_secret" not in form


def test_a_secret_goes_in_the_form_where_the_provider_takes_it_there_alone(
    provider: Provider, fake: FakeProvider
) -> None:
    fake.says = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    ask(provider)
    *_, headers, form = next(one for one in fake.asked if one[1].endswith("/token"))
    assert "authorization" not in headers
    assert (form["client_id"], form["client_secret"]) == (["homeostat"], ["the secret"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://evil.example.org"},
        {"aud": "another"},
        {"aud": ["homeostat", "another"]},
        {"aud": ["homeostat", "another"], "azp": "another"},
        {"azp": "another"},
        {"exp": NOW - 61},
        {"exp": None},
        {"iat": NOW + 61},
        {"nbf": NOW + 61},
        {"nonce": "of another sign-in"},
        {"nonce": None},
        {"sub": None},
    ],
    ids=str,
)
def test_a_token_that_is_not_for_us_now_is_refused(
    provider: Provider, fake: FakeProvider, wrong: dict[str, Any]
) -> None:
    whole = CLAIMS | wrong
    fake.token = signed({name: value for name, value in whole.items() if value is not None})
    with pytest.raises(SignInRefused):
        ask(provider)


def test_a_token_for_several_is_taken_where_it_was_made_for_us(
    provider: Provider, fake: FakeProvider
) -> None:
    fake.token = signed(CLAIMS | {"aud": ["homeostat", "another"], "azp": "homeostat"})
    assert ask(provider)["sub"] == "248289761001"


FORGED: dict[str, Callable[[], str]] = {
    "another key": lambda: signed(CLAIMS, OTHER_KEY),
    "no signature": lambda: signed(CLAIMS, KEY, "none").rstrip("."),
    "the public key as a secret": lambda: signed(
        CLAIMS, OctKey.import_key(json.dumps(KEY.as_dict(private=False))), "HS256"
    ),
    "changed after": lambda: f"{signed(CLAIMS)[:-8]}AAAAAAAA",
    "no token": lambda: "the code",
    "empty": lambda: "..",
}


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize("how", FORGED)
def test_a_token_that_the_provider_did_not_sign_is_refused(
    provider: Provider, fake: FakeProvider, how: str
) -> None:
    fake.token = FORGED[how]()
    with pytest.raises(SignInRefused, match="cannot be relied on"):
        ask(provider)


def test_a_provider_that_changes_its_keys_is_asked_for_them_again(fake: FakeProvider) -> None:
    now = [float(NOW)]
    provider = Provider(OIDC, REDIRECT, Guard(), lambda: now[0], fake)
    ask(provider)
    new = RSAKey.generate_key(2048, {"kid": "two"})
    fake.keys, fake.token = KeySet([new]), signed(CLAIMS, new, kid="two")
    now[0] += 29
    with pytest.raises(SignInRefused):  # it is not asked at each token that somebody sends
        ask(provider)
    now[0] += 2
    assert ask(provider)["sub"] == "248289761001"
    assert [url for _, url, *_ in fake.asked].count(f"{ISSUER}/keys") == 2


def test_what_the_id_token_leaves_out_is_asked_for_and_it_stands_above_that(
    provider: Provider, fake: FakeProvider
) -> None:
    fake.token = signed({name: value for name, value in CLAIMS.items() if name != "groups"})
    claims = ask(provider)
    assert claims["groups"] == ["owners"]
    assert claims["iss"] == ISSUER
    assert fake.asked[-1][2]["authorization"] == "Bearer for userinfo"


def test_whether_an_address_is_verified_is_asked_for_too(
    provider: Provider, fake: FakeProvider
) -> None:
    left = {name: value for name, value in CLAIMS.items() if name != "email_verified"}
    fake.token = signed(left)
    ask(provider)
    assert fake.asked[-1][1] == f"{ISSUER}/userinfo"


def test_what_is_said_of_another_person_does_not_count(
    provider: Provider, fake: FakeProvider
) -> None:
    left = {name: value for name, value in CLAIMS.items() if name != "groups"}
    fake.token = signed(left | {"sub": "another"})
    assert "groups" not in ask(provider)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((400, {"error": "invalid_grant", "error_description": "<b>secret</b>"}), "invalid_grant"),
        ((401, {"error": "invalid_client"}), "client_secret"),
        ((400, {"error": "<script>"}), "(400)"),
        ((200, {"access_token": "no ID token"}), "openid"),
    ],
)
def test_a_refused_code_says_why_and_repeats_nothing_of_the_providers_text(
    provider: Provider, fake: FakeProvider, answer: tuple[int, object], said: str
) -> None:
    fake.answer = answer
    with pytest.raises(SignInRefused) as error:
        ask(provider)
    assert said in str(error.value)
    for hidden in ("the code", "the verifier", "the secret", "<"):
        assert hidden not in str(error.value)


def test_a_provider_that_is_away_is_named_and_tokens_are_the_way_in() -> None:
    def away(*_: object) -> tuple[int, bytes]:
        raise Unanswered("ConnectError (Connection refused)")

    provider = Provider(OIDC, REDIRECT, Guard(), fetch=away)
    with pytest.raises(Unavailable, match=r"Connection refused.*Sign in with a token"):
        provider.address("s", "n", "v")


@pytest.mark.parametrize("answer", [(404, b"{}"), (200, b"<html>"), (200, b"[]")])
def test_what_is_no_provider_is_named(answer: tuple[int, bytes]) -> None:
    provider = Provider(OIDC, REDIRECT, Guard(), fetch=lambda *_: answer)
    with pytest.raises(Unavailable, match=f"{ISSUER}/.well-known"):
        provider.address("s", "n", "v")


def test_a_provider_by_another_name_or_without_https_is_refused(
    provider: Provider, fake: FakeProvider
) -> None:
    fake.says = {"issuer": f"{ISSUER}/"}
    with pytest.raises(SignInRefused, match="exactly"):
        provider.address("s", "n", "v")
    fake.says = {"authorization_endpoint": "http://id.example.org/authorize"}
    with pytest.raises(Unavailable, match="https"):
        provider.address("s", "n", "v")
