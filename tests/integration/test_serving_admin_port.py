"""Beyond the loopback the routes that act have a port of their own, and figures need a token."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from homeostat.clock import utc_now
from homeostat.settings import ADMIN_PORT
from registry import connect, sessions, transaction
from registry.tokens import create_token
from serving.app import create_app
from serving.listening import open_sockets

if TYPE_CHECKING:
    from tests.integration.conftest import Station

AUTH = {"Authorization": "Bearer the-token"}
ROW = {"row": [1.0] * 64}
ACTS = (
    ("POST", "/v1/models/digits/promote"),
    ("POST", "/v1/models/digits/rollback"),
    ("POST", "/v1/models/digits/overrides"),
    ("POST", "/v1/models/digits/approvals"),
    ("POST", "/v1/models/digits/restore"),
    ("GET", "/v1/models/digits/history"),
    ("GET", "/v1/incidents"),
)


@contextmanager
def gateway_of(here: Station) -> Iterator[tuple[TestClient, TestClient]]:
    """A gateway that is asked by its port, and by that of the routes that act."""
    app = create_app(here.settings)
    public = TestClient(app, base_url="http://10.0.0.1:8000", headers=AUTH)
    acting = TestClient(app, base_url=f"http://127.0.0.1:{ADMIN_PORT}", headers=AUTH)
    with public:
        yield public, acting


@pytest.fixture
def open_to_others(station: Callable[..., Station]) -> Station:
    here = station(host="0.0.0.0")  # noqa: S104 - nothing listens: an address to be recognised
    here.serve(1)
    return here


def test_the_routes_that_act_are_on_their_own_port_alone(open_to_others: Station) -> None:
    with gateway_of(open_to_others) as (public, acting):
        for method, path in ACTS:
            refused = public.request(method, path, json={})
            assert (refused.status_code, refused.json()["code"]) == (404, "not-found")
            assert "gateway_admin_port" in refused.json()["remedy"]
            found = acting.request(method, path, json=None if method == "GET" else {})
            assert found.status_code != 404, (path, found.text)
        for client in (public, acting):
            assert client.post("/v1/models/digits/predict", json=ROW).status_code == 200
            assert client.get("/v1/models/digits").status_code == 200


def test_figures_need_the_verb_read_where_others_can_ask(open_to_others: Station) -> None:
    with transaction(sessions(connect(open_to_others.settings.database))) as session:
        made = {
            verb: create_token(session, verb, [verb], (), actor="t", now=utc_now())[1]
            for verb in ("read", "predict")
        }
    with gateway_of(open_to_others) as (public, acting):
        for path in ("/metrics", "/health/ready"):
            public.headers.pop("Authorization", None)
            acting.headers.pop("Authorization", None)
            assert public.get(path).status_code == 401
            assert acting.get(path).status_code == 200
            for verb, status in (("read", 200), ("predict", 403)):
                header = {"Authorization": f"Bearer {made[verb]}"}
                assert public.get(path, headers=header).status_code == status
        assert public.get("/health/live").status_code == 200


def test_on_the_loopback_one_port_has_all_and_figures_are_open(
    station: Callable[..., Station],
) -> None:
    here = station()
    here.serve(1)
    with TestClient(create_app(here.settings), base_url="http://127.0.0.1:8000") as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/health/ready").status_code == 200
        assert client.get("/v1/incidents", headers=AUTH).status_code == 200


def test_a_gateway_listens_on_both_ports(station: Callable[..., Station]) -> None:
    with closing(socket.socket()) as one, closing(socket.socket()) as two:
        for probe in (one, two):
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in (one, two)]
    here = station(gateway_port=ports[0], gateway_admin_port=ports[1])
    found = open_sockets(here.settings, 0)
    try:
        assert [each.getsockname()[1] for each in found] == ports
    finally:
        for each in found:
            each.close()
