"""Traffic goes back to the newest version that does well now, where no standby can take it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest
from fastapi.testclient import TestClient

from homeostat.clock import utc_now
from homeostat.policy import Policy
from registry import (
    incident_history,
    quarantine,
    quarantined,
    routing_history,
    transaction,
)
from serving.app import create_app
from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.conftest import Station

AUTH = {"Authorization": "Bearer the-token"}
ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(200)]


@contextmanager
def running(station: Station) -> Iterator[tuple[Gateway, TestClient]]:
    gateway = Gateway(station.settings)
    with TestClient(create_app(station.settings, gateway), headers=AUTH) as client:
        wait_for(lambda: gateway.lease.held)
        yield gateway, client


def stream(client: TestClient, truths: Sequence[Any]) -> None:
    """Predictions of all rows, with these truths for labels."""
    for start in range(0, len(ROWS), 20):
        body = {"rows": ROWS[start : start + 20]}
        given = client.post("/v1/models/digits/predict", json=body).json()["predictions"]
        labels = [
            {"id": one["id"], "label": truths[start + place]} for place, one in enumerate(given)
        ]
        assert client.post("/v1/labels", json={"labels": labels}).status_code == 200


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come true in time")


@pytest.mark.parametrize("mode", ["act", "recommend"])
def test_when_the_world_of_an_older_version_comes_back_so_does_that_version(
    station: Callable[..., Station], mode: Literal["act", "recommend"]
) -> None:
    """The standby is as wrong as the champion: the one before it knows these rows."""
    here = station(Policy(mode=mode))
    for version in (1, 2, 3):
        here.serve(version)
    with running(here) as (gateway, client):
        stream(client, here.says(3, ROWS))
        assert here.routing().champion == 3
        stream(client, here.says(1, ROWS))
        if mode == "act":
            wait_for(lambda: here.routing().champion == 1)
            with transaction(gateway.parts.maker) as session:
                routing = routing_history(session, "digits")[-1]
            assert (routing.actor, routing.standby) == ("guard", None)
            assert routing.reason.startswith("Version 1 is the newest that does well on the newest")
            assert routing.evidence["target"]["loss"] == 0.0
            wait_for(lambda: gateway.fleet.serving("digits").champion.version == 1)
            return

        def story() -> str:
            with transaction(gateway.parts.maker) as session:
                every = incident_history(session, "digits")
            return " ".join(event.text for one in every for event in one.events)

        wait_for(lambda: "Version 1 is the newest that does well" in story())
        assert here.routing().champion == 3


def test_a_standby_that_does_well_is_left_to_the_guard(
    station: Callable[..., Station],
) -> None:
    """Its rollback quarantines the digest, which that to an older version does not."""
    here = station(Policy())
    for version in (1, 2):
        here.serve(version)
    with running(here) as (gateway, client):
        stream(client, here.says(2, ROWS))
        stream(client, here.says(1, ROWS))
        wait_for(lambda: here.routing().champion == 1)
        with transaction(gateway.parts.maker) as session:
            assert quarantined(session, "digits", here.digests[2]) is not None


def test_a_person_who_rolls_back_without_a_standby_gets_the_newest_that_does_well(
    station: Callable[..., Station],
) -> None:
    here = station(Policy(mode="observe"))
    for version in (2, 1, 3):
        here.serve(version)
    with running(here) as (gateway, client):
        with transaction(gateway.parts.maker) as session:
            digest = here.digests[1]
            quarantine(session, "digits", digest, "it leaks", utc_now(), actor="test")
        body = {"reason": "It hurts.", "actor": "ann"}
        refused = client.post("/v1/models/digits/rollback", json=body)
        assert refused.status_code == 409
        assert "in quarantine: it leaks" in refused.json()["detail"]
        assert "None of its last versions was shown to do well" in refused.json()["detail"]
        stream(client, here.says(2, ROWS))
        gone = client.post("/v1/models/digits/rollback", json=body)
        assert gone.status_code == 200, gone.text
        assert (gone.json()["champion"], gone.json()["actor"]) == (2, "ann")
        assert gone.json()["reason"].startswith("It hurts. Version 2 is the newest that does well")
