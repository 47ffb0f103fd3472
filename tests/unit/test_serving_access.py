"""Tokens are checked from memory; a holder is counted whatever becomes of the request."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from homeostat.errors import (
    Forbidden,
    RateLimited,
    SettingsError,
    Unauthorized,
    Unavailable,
    UnknownModel,
)
from homeostat.policy import Policy
from homeostat.settings import Settings
from registry.tokens import Token, hash_of
from serving.access import Access
from serving.meters import Meter

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECRET = "_".join(("hst", "0123456789ab", "secret"))
TOKEN = Token(
    "0123456789ab",
    "ann",
    hash_of(SECRET),
    ("read", "predict"),
    ("mine",),
    NOON,
    "test",
    NOON + timedelta(hours=1),
    None,
    None,
)


class Hand:
    """A clock in seconds that a test moves."""

    def __init__(self) -> None:
        self.now = NOON.timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    models = {"mine": Policy(), "theirs": Policy()}
    return Settings(state_dir=tmp_path, token=SecretStr("the-token"), models=models)


@pytest.fixture
def access(settings: Settings, clock: Hand) -> Access:
    made = Access(settings, clock)
    made.know([TOKEN])
    return made


def bearer(secret: str) -> bytes:
    return f"Bearer {secret}".encode()


def test_a_token_names_its_holder_until_it_ends(access: Access, clock: Hand) -> None:
    caller = access.check(bearer(SECRET))
    assert (caller.name, sorted(caller.verbs), caller.root) == ("ann", ["predict", "read"], False)
    assert access.used == {"0123456789ab": clock.now}
    clock.now += 3600
    with pytest.raises(Unauthorized):
        access.check(bearer(SECRET))


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer ",
        b"Basic " + SECRET.encode(),
        SECRET.encode(),
        bearer(SECRET + "x"),
        bearer("hst_0123456789ab_"),
        bearer("hst_ffffffffffff_secret"),
        bearer("the-toke"),
        b"Bearer \xff\xfe",
    ],
)
def test_every_other_header_gets_one_and_the_same_text(
    access: Access, header: bytes | None
) -> None:
    with pytest.raises(Unauthorized, match=r"^The request has no valid token\."):
        access.check(header)


def test_a_revoked_token_is_refused_from_the_next_look_on(access: Access) -> None:
    access.know([replace(TOKEN, revoked_at=NOON)])
    with pytest.raises(Unauthorized):
        access.check(bearer(SECRET))


def test_another_holders_model_is_as_one_that_is_not_there(access: Access) -> None:
    caller = access.check(bearer(SECRET))
    access.require(caller, "predict", "mine")
    said = []
    for model in ("theirs", "nobodys"):
        with pytest.raises(UnknownModel) as caught:
            access.require(caller, "predict", model)
        said.append(str(caught.value).replace(model, "MODEL"))
    assert said[0] == said[1]
    assert "theirs" not in said[1]
    assert access.visible(caller) == ("mine",)


def test_a_verb_that_is_missing_is_named_only_where_the_model_is_known(access: Access) -> None:
    caller = access.check(bearer(SECRET))
    with pytest.raises(Forbidden, match="'promote'") as caught:
        access.require(caller, "promote", "mine")
    assert caught.value.fields["verb"] == "promote"
    with pytest.raises(UnknownModel):
        access.require(caller, "promote", "theirs")
    with pytest.raises(Forbidden):
        access.require(caller, "label", "mine")
    assert access.refused == {("ann", "promote"): 1}  # a label that is refused moves nothing


def test_admin_is_every_verb_but_no_other_model(access: Access) -> None:
    access.know([replace(TOKEN, verbs=("admin",))])
    caller = access.check(bearer(SECRET))
    for verb in ("read", "label", "promote", "admin"):
        access.require(caller, verb, "mine")
    with pytest.raises(UnknownModel):
        access.require(caller, "admin", "theirs")


def test_who_acts_is_the_tokens_holder_and_only_the_administrator_names_others(
    access: Access,
) -> None:
    ann, root = access.check(bearer(SECRET)), access.check(bearer("the-token"))
    assert (ann.acts_as("API"), ann.acts_as("ann"), root.acts_as("bob")) == ("ann", "ann", "bob")
    with pytest.raises(Forbidden, match="cannot act as 'bob'"):
        ann.acts_as("bob")


def test_with_the_database_away_too_long_only_the_administrators_token_works(
    access: Access,
) -> None:
    access.forget()
    assert access.check(bearer("the-token")).root
    with pytest.raises(Unavailable):
        access.check(bearer(SECRET))
    with pytest.raises(Unauthorized):
        access.check(bearer("no such"))


def test_a_made_token_never_becomes_the_administrators(settings: Settings) -> None:
    with pytest.raises(SettingsError):
        Access(settings.model_copy(update={"token": SecretStr(SECRET)}))


def test_all_secrets_of_a_name_share_its_limits(settings: Settings, clock: Hand) -> None:
    access = Access(settings.model_copy(update={"token_rate": 1.0}), clock)
    other = "hst_ba9876543210_secret"
    second = replace(TOKEN, key="ba9876543210", hash=hash_of(other))
    access.know([TOKEN, second])
    meter = access.check(bearer(SECRET)).meter
    assert access.check(bearer(other)).meter is meter
    access.know([TOKEN])
    assert access.check(bearer(SECRET)).meter is meter


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    meter = Meter(rate=2, burst=3)
    assert [meter.take(100.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert meter.take(100.4) == pytest.approx(0.1)
    assert meter.take(100.5) == 0
    assert [meter.take(900.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_slow_rate_lets_the_first_request_in_and_says_when_to_come_again() -> None:
    meter = Meter(rate=0.1)
    meter.enter("ann", 0.0)
    with pytest.raises(RateLimited) as caught:
        meter.enter("ann", 1.0)
    assert caught.value.fields["retry_after"] == 9


def test_so_many_are_under_way_and_no_more_until_one_leaves() -> None:
    meter = Meter(concurrent=2)
    meter.enter("ann", 0.0)
    meter.enter("ann", 0.0)
    with pytest.raises(RateLimited, match="2 requests of 'ann' are under way"):
        meter.enter("ann", 0.0)
    meter.leave()
    meter.enter("ann", 0.0)
