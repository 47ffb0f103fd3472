"""The route of MLflow's webhook over HTTP: closed by default, open to what is signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from serving.app import create_app
from serving.gateway import Gateway
from serving.webhook import LONGEST_BODY, PATH

if TYPE_CHECKING:
    from tests.integration.conftest import Station

KEY = "for these tests"


@pytest.fixture
def gateway(station: Callable[..., Station]) -> Gateway:
    """A gateway that does not look by itself within these tests."""
    made = station(webhook_secret=SecretStr(KEY), poll_seconds=3600.0)
    return Gateway(made.settings)


def signed(body: bytes, delivery: str = "d-1", age: float = 0.0) -> dict[str, str]:
    stamp = str(int(time.time() - age))
    digest = hmac.new(KEY.encode(), f"{delivery}.{stamp}.".encode() + body, hashlib.sha256)
    return {
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": stamp,
        "X-MLflow-Signature": f"v1,{base64.b64encode(digest.digest()).decode()}",
    }


def test_the_route_takes_signed_deliveries_and_nothing_else(gateway: Gateway) -> None:
    with TestClient(create_app(gateway.settings, gateway)) as client:
        body = b'{"entity": "model_version_alias"}'

        def send(headers: dict[str, str], body: bytes = body) -> tuple[int, str]:
            answer = client.post(PATH, headers=headers, content=body)
            return answer.status_code, answer.text

        assert send(signed(body)) == (204, "")
        assert send(signed(body)) == (204, "")  # a retry: taken, and nothing done
        for headers in ({}, signed(b"other"), signed(body, age=301.0)):
            status, text = send(headers)
            assert status == 401
            assert "urn:homeostat:unauthorized" in text
            assert KEY not in text
        large = b" " * (LONGEST_BODY + 1)
        assert send(signed(large), large)[0] == 413
        assert client.get(PATH).status_code == 405
        assert PATH in client.get("/openapi.json").json()["paths"]


def test_without_a_secret_the_route_is_not_there(station: Callable[..., Station]) -> None:
    settings = station().settings
    with TestClient(create_app(settings, Gateway(settings))) as client:
        answer = client.post(PATH, headers=signed(b""), content=b"")
        assert answer.status_code == 404
        assert answer.json()["code"] == "not-found"
