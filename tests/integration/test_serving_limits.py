"""What is bounded: the spool while the database is away, and the copies of versions on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from homeostat.errors import Unavailable
from homeostat.setting_tables import LogSettings
from registry import connect, count_predictions, find_predictions, sessions, transaction
from registry.cache import ArtifactCache
from registry.incidents import incident_history
from serving.app import create_app
from serving.gateway import Gateway
from serving.housekeeping import Housekeeper

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

AUTH = {"Authorization": "Bearer the-token"}
ROW = {"row": [1.0] * 64}
LONG_AGO = 1_700_000_000.0  # seconds since 1970


def test_a_full_spool_refuses_predictions_until_the_database_has_taken_it(
    station: Callable[..., Station],
) -> None:
    here = station(max_spool_bytes=5_000)
    here.serve(1)
    with TestClient(create_app(here.settings), headers=AUTH) as client:
        assert client.post("/v1/models/digits/predict", json=ROW).status_code == 200
    nowhere = f"sqlite:///{here.settings.state_dir / 'no' / 'where.db'}"
    away = here.settings.model_copy(update={"database_url": nowhere})
    ids = []
    with TestClient(create_app(away), headers=AUTH) as client:
        for _ in range(100):
            answer = client.post("/v1/models/digits/predict", json=ROW)
            if answer.status_code != 200:
                break
            ids.append(answer.json()["predictions"][0]["id"])
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        assert "max_spool_bytes" in answer.json()["remedy"]
        assert client.get("/health/ready").status_code == 200
    assert 3 < len(ids) < 50
    gateway = Gateway(here.settings)
    with TestClient(create_app(here.settings, gateway), headers=AUTH) as client:
        gateway.writer.drain()
        assert client.post("/v1/models/digits/predict", json=ROW).status_code == 200
    with transaction(sessions(connect(here.settings.database))) as session:
        assert set(find_predictions(session, ids)) == set(ids)


def test_a_full_spool_may_answer_unlogged_and_on_call_hears_how_many(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    here = station(max_spool_bytes=5_000, log=LogSettings(when_full="unlogged"))
    here.serve(1, hand_clock.now)
    gateway = Gateway(here.settings, hand_clock)
    asked = 0
    with TestClient(create_app(here.settings, gateway), headers=AUTH) as client:
        gateway.writer.stop(5)
        gateway.controller.stop(5)
        while not (unlogged := unlogged_rows(gateway)):
            asked += 1
            assert client.post("/v1/models/digits/predict", json=ROW).status_code == 200
            assert asked < 50
        assert unlogged == 1
        assert client.post("/v1/models/digits/predict", json=ROW).status_code == 200
        gateway.unlogged.tell()
        (incident,) = client.get("/v1/incidents").json()["incidents"]
        assert incident["severity"] == "page"
        assert "answered without being logged since 2026-11-22 12:00:00" in str(incident)
        gateway.writer.drain()
        hand_clock.advance(10)
        assert client.post("/v1/models/digits/predict", json=ROW).status_code == 200
        gateway.unlogged.tell()
        told = client.get("/v1/incidents?every=true").json()["incidents"]
        gateway.unlogged.tell()
        assert client.get("/v1/incidents?every=true").json()["incidents"] == told
    with transaction(sessions(connect(here.settings.database))) as session:
        (kept,) = incident_history(session, "digits")
        assert count_predictions(session, "digits") == asked  # of asked + 2, two were not
    story = " ".join(event.text for event in kept.events)
    assert "2 predictions of digits were answered and not logged" in story
    assert unlogged_rows(gateway) == 2


def unlogged_rows(gateway: Gateway) -> float:
    name = "homeostat_predictions_unlogged_total"
    return gateway.metrics.registry.get_sample_value(name, {"model": "digits"}) or 0.0


class Mlflow:
    """Aliases of the one model."""

    def __init__(self, aliases: dict[str, int] | None) -> None:
        self._aliases = aliases

    def aliases(self, model: str) -> dict[str, int]:
        assert model == "digits"
        if self._aliases is None:
            raise Unavailable("MLflow is away.")
        return self._aliases


def age(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))


def test_copies_that_nobody_needs_go_and_no_other(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    here = station()
    now = hand_clock.now
    here.serve(1, now - timedelta(days=90))
    here.serve(2, now - timedelta(days=60))
    here.serve(3, now - timedelta(days=31))  # 1 was standby until then, 2 is now
    copies = here.settings.state_dir / "versions"
    first, second, third = (here.digests[version] for version in (1, 2, 3))
    named, unknown, fresh = ("a" * 64, "b" * 64, "c" * 64)
    for name in (f"{first}.replay", f"{third}.replay", named, unknown, ".making-x"):
        (copies / name).mkdir()
    cache = ArtifactCache(copies)
    cache.remember("digits", 9, named)
    cache.remember("digits", 8, unknown)
    age(copies)
    (copies / fresh).mkdir()
    os.utime(copies / fresh, (now.timestamp(), now.timestamp()))
    gateway = Gateway(here.settings, hand_clock)
    try:
        with pytest.raises(Unavailable):
            Housekeeper(gateway.parts, Mlflow(None)).tidy()
        assert (copies / unknown).exists()
        keeper = Housekeeper(gateway.parts, Mlflow({"champion": 3, "kept": 9}))
        assert set(keeper.tidy()) == {first, f"{first}.replay", unknown, ".making-x"}
        left = {path.name for path in copies.iterdir()}
        assert left == {second, third, f"{third}.replay", named, fresh, "names"}
        assert cache.names() == {
            ("digits", 2): second,
            ("digits", 3): third,
            ("digits", 9): named,
        }
        assert keeper.tidy() == []
    finally:
        gateway.stop()


def test_what_had_a_role_within_30_days_or_serves_here_stays(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    here = station()
    now = hand_clock.now
    here.serve(1, now - timedelta(days=90))
    here.serve(2, now - timedelta(days=60))
    here.serve(3, now - timedelta(days=29))
    copies = here.settings.state_dir / "versions"
    age(copies)
    gateway = Gateway(here.settings, hand_clock)
    try:
        gateway.parts.follow("digits")
        keeper = Housekeeper(gateway.parts, Mlflow({}))
        assert keeper.tidy() == []
        hand_clock.advance(2 * 86_400)
        assert keeper.tidy() == [here.digests[1]]
        hand_clock.advance(400 * 86_400)
        assert keeper.tidy() == []
    finally:
        gateway.stop()
