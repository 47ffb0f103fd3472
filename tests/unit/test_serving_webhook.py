"""MLflow's webhook as a hint: who may wake the gateway, and how often."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest

from homeostat.errors import Unauthorized
from serving.handlers import NotFound
from serving.webhook import ID, REMEMBERED, SIGNATURE, STAMP, Webhook

KEY = "for these tests"
BODY = json.dumps({"entity": "model_version_alias", "action": "created", "data": {}}).encode()


class Gateway:
    """Counts how often it is woken, on a clock that the test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 25, 12, tzinfo=UTC)
        self.woken = 0
        self.hook = Webhook(KEY, lambda: self.now, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def headers(
        self, delivery: str = "d-1", body: bytes = BODY, *, key: str = KEY, stamp: str = ""
    ) -> dict[str, str]:
        """As MLflow signs a delivery now."""
        stamp = stamp or str(int(self.now.timestamp()))
        signed = f"{delivery}.{stamp}.".encode() + body
        digest = hmac.new(key.encode(), signed, hashlib.sha256).digest()
        return {ID: delivery, STAMP: stamp, SIGNATURE: f"v1,{base64.b64encode(digest).decode()}"}


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def test_a_signed_delivery_wakes_the_gateway(gateway: Gateway) -> None:
    assert gateway.hook.take(gateway.headers(), BODY)
    assert gateway.woken == 1


def test_a_delivery_that_comes_twice_wakes_once(gateway: Gateway) -> None:
    headers = gateway.headers()
    assert gateway.hook.take(headers, BODY)
    gateway.now += timedelta(seconds=90)  # a retry: same id, same time, same signature
    assert not gateway.hook.take(headers, BODY)
    assert gateway.woken == 1


@pytest.mark.parametrize(
    "change",
    [
        {SIGNATURE: ""},
        {SIGNATURE: "v1,"},
        {SIGNATURE: "v1,not base64"},
        {SIGNATURE: "v1,ü"},
        {ID: "d-2"},
        {ID: ""},
        {STAMP: "1"},
    ],
)
def test_a_delivery_whose_signature_does_not_fit_is_refused(
    gateway: Gateway, change: dict[str, str]
) -> None:
    with pytest.raises(Unauthorized):
        gateway.hook.take(gateway.headers() | change, BODY)
    assert not gateway.woken


def test_the_signature_needs_its_scheme_our_key_and_every_byte(gateway: Gateway) -> None:
    good = gateway.headers()
    bare = good | {SIGNATURE: good[SIGNATURE].removeprefix("v1,")}
    for headers, body in (
        (bare, BODY),
        (gateway.headers(key="another"), BODY),
        (good, BODY + b" "),
    ):
        with pytest.raises(Unauthorized):
            gateway.hook.take(headers, body)
    assert not gateway.woken


@pytest.mark.parametrize("seconds", [-301, 301])
def test_a_delivery_of_another_time_is_refused(gateway: Gateway, seconds: int) -> None:
    headers = gateway.headers()
    gateway.now += timedelta(seconds=seconds)
    with pytest.raises(Unauthorized, match="another time"):
        gateway.hook.take(headers, BODY)


@pytest.mark.parametrize("stamp", ["soon", "-1", "9" * 4000, "²"])
def test_a_signed_time_that_is_none_is_refused(gateway: Gateway, stamp: str) -> None:
    with pytest.raises(Unauthorized):
        gateway.hook.take(gateway.headers(stamp=stamp), BODY)


def test_a_delivery_at_the_edge_of_the_window_still_counts(gateway: Gateway) -> None:
    headers = gateway.headers()
    gateway.now += timedelta(seconds=300)
    assert gateway.hook.take(headers, BODY)


def test_our_own_tags_wake_nobody(gateway: Gateway) -> None:
    for key, woken in (("lifecycle.state", False), ("owner", True)):
        said = {"entity": "model_version_tag", "action": "set", "data": {"key": key}}
        body = json.dumps(said).encode()
        assert gateway.hook.take(gateway.headers(key, body), body) is woken


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"[" * 100_000, b"\xff"])
def test_a_signed_body_of_any_shape_is_only_a_hint(gateway: Gateway, body: bytes) -> None:
    assert gateway.hook.take(gateway.headers("d", body), body)


def test_what_is_remembered_is_bounded(gateway: Gateway) -> None:
    for n in range(REMEMBERED + 10):
        gateway.hook.take(gateway.headers(f"d-{n}"), BODY)
    assert len(gateway.hook._seen) == REMEMBERED


def test_without_a_secret_there_is_no_such_route() -> None:
    gateway = Gateway()
    closed = Webhook("", lambda: gateway.now, gateway._wake)
    with pytest.raises(NotFound, match="webhook_secret"):
        closed.take(gateway.headers(key=""), BODY)
