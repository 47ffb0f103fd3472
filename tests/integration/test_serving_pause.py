"""Automation that somebody paused, and versions that somebody lets out of quarantine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from sqlalchemy import select

from flows.placement import place
from homeostat.errors import Refused
from homeostat.policy import Policy
from registry import (
    Verdict,
    connect,
    lines_of,
    open_incidents,
    quarantine,
    quarantined,
    record_verdict,
    retrain_history,
    sessions,
    transaction,
    verify_ledger,
)
from registry.losses import LabelledLoss
from registry.pauses import pause_automation, standing_pause
from registry.tables import OutboxRow
from registry.tokens import create_token
from serving.automation import free, pause, resume
from serving.gateway import Gateway

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from flows.site import Site
    from tests.integration.conftest import HandClock, Station

PAGER = Policy(alerts=("http://127.0.0.1:9/alerts",))


class Stage:
    """A gateway with version 2 as champion and 1 as its standby, whose loop the test turns."""

    def __init__(self, station: Station, clock: HandClock) -> None:
        self.station, self.clock = station, clock
        station.serve(1, clock())
        station.serve(2, clock())
        self.gateway = Gateway(station.settings, clock)
        self.gateway.prover.now = lambda: clock().timestamp()
        self.parts = self.gateway.parts
        self.look()

    def look(self) -> None:
        self.clock.advance(1)
        self.gateway.controller.look()
        self.gateway.prover.look("digits")

    def label(self, losses: dict[int, float], count: int = 400) -> None:
        rows = [LabelledLoss(self.clock(), losses) for _ in range(count)]
        self.gateway.watches["digits"].label(rows)
        self.gateway.controller._hands.guard.check("digits")

    def fail(self) -> None:
        self.gateway.watches["digits"]._failures._failing.extend([self.clock()] * 3)
        self.gateway.controller._hands.guard.check("digits")

    def told(self) -> str:
        with transaction(self.parts.maker) as session:
            return " ".join(one["text"] for one in session.scalars(select(OutboxRow.alert)))


@pytest.fixture
def stage(station: Callable[..., Station], hand_clock: HandClock) -> Iterator[Stage]:
    made = Stage(station(PAGER), hand_clock)
    yield made
    made.gateway.stop()


def test_while_paused_nothing_moves_and_the_commands_are_sent(stage: Stage) -> None:
    pause(stage.parts, "digits", "ann", "I look at it")
    stage.label({1: 0.0, 2: 1.0})  # a rollback is due, and a retrain
    stage.look()
    stage.look()
    assert stage.station.routing().champion == 2
    assert "homeostat rollback digits --reason 'why'" in stage.told()
    assert "prefect deployment run retrain/retrain -p model=digits" in stage.told()
    with transaction(stage.parts.maker) as session:
        assert retrain_history(session, "digits") == []
        assert open_incidents(session, "digits")

    resume(stage.parts, "digits", "ann", "seen")
    stage.look()
    assert stage.station.routing().champion == 1
    with transaction(stage.parts.maker) as session:
        lines = [one for one in lines_of(session, "digits") if one.kind == "automation"]
        assert [(one.actor, one.reason, one.after) for one in lines] == [
            ("ann", "I look at it", "paused"),
            ("ann", "seen", None),
        ]
        assert verify_ledger(session, "digits").intact


def test_a_version_that_fails_its_callers_is_taken_out_all_the_same(stage: Stage) -> None:
    pause(stage.parts, "digits", "ann", "I look at it")
    stage.fail()
    assert (stage.station.routing().champion, stage.station.routing().actor) == (1, "guard")


def test_a_pause_with_an_end_is_over_then(stage: Stage) -> None:
    pause(stage.parts, "digits", "ann", "the feed is mended at two", hours=2)
    stage.label({1: 0.0, 2: 1.0})
    stage.clock.advance(7_100)
    stage.look()
    assert stage.station.routing().champion == 2
    stage.clock.advance(100)
    stage.look()
    assert stage.station.routing().champion == 1


def test_a_pause_by_another_gateway_is_not_overtaken_by_a_rollback(stage: Stage) -> None:
    with transaction(stage.parts.maker) as session:
        pause_automation(session, "digits", "ann", "I look at it", stage.clock())
    stage.label({1: 0.0, 2: 1.0})  # this gateway has not looked since
    assert stage.station.routing().champion == 2


def test_a_trial_waits_while_paused_unless_its_version_fails(stage: Stage) -> None:
    stage.station.put_on_trial(3, stage.clock())
    stage.look()
    pause(stage.parts, "digits", "ann", "I look at it")
    stage.clock.advance(100_000)  # beyond its deadline
    stage.look()
    assert stage.station.routing().challenger == 3
    stage.label({2: 0.0, 3: 1.0}, 60)
    stage.look()
    trial = stage.gateway.watches["digits"].trial
    assert trial is not None
    assert trial.decision == "worse"
    assert stage.station.routing().challenger == 3
    assert "The trial of version 3 should end" in stage.told()
    for _ in range(3):
        stage.gateway.watches["digits"].shadow_failed(3)
    stage.look()
    assert stage.station.routing().challenger is None


def test_what_a_flow_makes_meanwhile_is_not_put_on_trial(stage: Stage) -> None:
    pause(stage.parts, "digits", "ann", "I look at it")
    told: list[tuple[object, ...]] = []

    class Shop:
        versions = type("Versions", (), {"tag": lambda _, *said: told.append(said)})()

        @contextmanager
        def session(self) -> Iterator[Any]:
            with transaction(stage.parts.maker) as session:
                yield session

    verdict = Verdict(True, (), stage.station.digests[3])
    with transaction(stage.parts.maker) as session:
        record_verdict(session, "digits", 3, verdict, stage.clock())
    site = cast("Site", Shop())
    where = place(site, Policy(), "digits", 3, verdict, actor="t", reason="r", now=stage.clock())
    assert where == "candidate"
    assert "ann has paused automation: I look at it" in str(told)


def test_a_version_that_was_rolled_back_is_freed_without_traffic(stage: Stage) -> None:
    stage.label({1: 0.0, 2: 1.0})
    stage.look()
    assert stage.station.routing().champion == 1
    free(stage.parts, "digits", 2, "ann", "its labels were wrong")
    with transaction(stage.parts.maker) as session:
        assert quarantined(session, "digits", stage.station.digests[2]) is None
        line = lines_of(session, "digits")[-1]
        assert (line.kind, line.actor, line.version, line.after) == ("quarantine", "ann", 2, None)
    assert stage.station.routing().champion == 1
    with pytest.raises(Refused, match="in no quarantine"):
        free(stage.parts, "digits", 2, "ann", "again")


def ask(client: TestClient, path: str, **body: object) -> httpx.Response:
    answer: httpx.Response = client.post(f"/v1/models/digits/{path}", json=body)
    return answer


def test_the_routes_pause_list_and_release_for_who_may(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    here = station()
    with transaction(sessions(connect(here.settings.database))) as session:
        low = create_token(session, "lee", ("rollback",), (), actor="t", now=hand_clock())[1]
    with here.answering(hand_clock) as (gateway, client):
        said = ask(client, "automation/pause", reason="look", hours=1, actor="ann").json()["pause"]
        assert (said["by"], said["reason"]) == ("ann", "look")
        assert said["until"] == "2026-11-22T13:00:00+00:00"
        assert client.get("/v1/models/digits").json()["pause"] == said
        assert client.get("/v1/models").json()["models"][0]["pause"] == said
        assert ask(client, "automation/resume", reason="seen").json()["pause"] is None
        assert ask(client, "automation/resume", reason="seen").status_code == 409
        assert ask(client, "automation/stop", reason="x").status_code == 400
        with transaction(gateway.parts.maker) as session:
            digest = here.digests[1]
            quarantine(session, "digits", digest, "bad", hand_clock(), actor="t", version=1)
            assert standing_pause(session, "digits", hand_clock()) is None
        (one,) = client.get("/v1/models/digits/quarantine").json()["quarantine"]
        assert (one["version"], one["by"], one["reason"]) == (1, "t", "bad")
        wish = {"version": 1, "reason": "it is good"}
        lee = {"Authorization": f"Bearer {low}"}
        path = "/v1/models/digits/quarantine/release"
        assert client.post(path, json=wish, headers=lee).status_code == 403
        assert client.post(path, json=wish).json()["digest"] == digest
        assert client.get("/v1/models/digits/quarantine").json() == {"quarantine": []}
        assert client.post(path, json=wish).status_code == 409
