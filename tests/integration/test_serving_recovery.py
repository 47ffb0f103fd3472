"""Retraining until it is well again, on a real gateway and its database."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import pytest
from fastapi.testclient import TestClient

from homeostat.clock import utc_now
from homeostat.policy import Policy, RetrainPolicy
from registry import Incident, incident_history, retrain_history, transaction
from registry.recoveries import standing_recovery
from registry.retrains import Learnt, finish_retrain, request_retrain
from serving.app import create_app
from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.conftest import Station

AUTH = {"Authorization": "Bearer the-token"}
ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(200)]
RULES = RetrainPolicy(min_labels=100, cool_down_seconds=0.0)


class Runs:
    """Prefect, as far as a gateway asks it: notes which runs were wanted."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def create_run(self, _deployment: str, parameters: dict[str, str], key: str) -> str:
        assert parameters["key"] == key
        self.keys.append(key)
        return f"run-{len(self.keys)}"

    def state(self, _run_id: str) -> str:
        return "RUNNING"

    def close(self) -> None:
        pass


class Stage:
    """A gateway that runs, who asks it, and what became of the model."""

    def __init__(self, station: Station, gateway: Gateway, client: TestClient, runs: Runs) -> None:
        self.station, self.gateway, self.client, self.runs = station, gateway, client, runs
        self._asked = 0

    def stream(self, count: int, wrong: float, source: str = "clinic") -> None:
        """Predictions whose labels say that so large a share of the answers was wrong."""
        for _ in range(count // 20):
            rows = [ROWS[(self._asked + n) % len(ROWS)] for n in range(20)]
            answer = self.client.post("/v1/models/digits/predict", json={"rows": rows})
            given = answer.json()["predictions"]
            labels = [
                {
                    "id": one["id"],
                    "label": (one["prediction"] + (n < 20 * wrong)) % 10,
                    "source": source,
                }
                for n, one in enumerate(given)
            ]
            assert self.client.post("/v1/labels", json={"labels": labels}).status_code == 200
            self._asked += 20

    def learn(self, version: int, rows: int, loss: float, champion_loss: float) -> None:
        """A retrain ends as its flow ends it, and its version takes all traffic."""
        learnt = Learnt(version, True, rows, utc_now(), loss, champion_loss, True)
        with transaction(self.gateway.parts.maker) as session:
            running = retrain_history(session, "digits")[-1]
            finish_retrain(session, running.key, "challenger: it passed", utc_now(), learnt)
        loaded = self.gateway.parts.library.load("digits", version)
        self.gateway.moves.finish_trial(loaded, self.station.routing(), "It is not worse.", {})
        wait_for(lambda: self.gateway.fleet.serving("digits").champion.version == version)

    def fail(self, outcome: str) -> None:
        """The retrain under way ends and leaves no version."""
        with transaction(self.gateway.parts.maker) as session:
            finish_retrain(session, retrain_history(session, "digits")[-1].key, outcome, utc_now())

    def retrain_by_hand(self) -> None:
        """Somebody runs the flow without an incident, whatever comes of it."""
        with transaction(self.gateway.parts.maker) as session:
            request_retrain(session, "digits", "", "by-hand", RULES, utc_now())
            finish_retrain(session, "by-hand", "rejected: version 2", utc_now())

    def incidents(self) -> list[Incident]:
        with transaction(self.gateway.parts.maker) as session:
            return incident_history(session, "digits")

    def story(self) -> str:
        return " ".join(event.text for one in self.incidents() for event in one.events)

    def state(self) -> str:
        found = self.incidents()
        assert len(found) == 1, [(one.title, one.details) for one in found]
        return found[0].state

    def is_learning(self) -> bool:
        with transaction(self.gateway.parts.maker) as session:
            return standing_recovery(session, "digits") is not None


@contextmanager
def running(station: Station, runs: Runs) -> Iterator[Stage]:
    gateway = Gateway(station.settings)
    gateway.controller._hands.responder._prefect = runs  # type: ignore[assignment]  # a fake
    with TestClient(create_app(station.settings, gateway), headers=AUTH) as client:
        wait_for(lambda: gateway.lease.held)
        yield Stage(station, gateway, client, runs)


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come true in time")


def test_a_change_is_learnt_again_until_the_loss_of_before_is_reached(
    station: Callable[..., Station],
) -> None:
    here, runs = station(Policy(retrain=RULES)), Runs()
    here.serve(1)
    with running(here, runs) as stage:
        stage.stream(60, wrong=0.0)
        stage.stream(120, wrong=1.0)
        wait_for(lambda: len(runs.keys) == 1)
        stage.learn(2, rows=120, loss=0.1, champion_loss=1.0)
        wait_for(lambda: stage.state() == "mitigated")
        assert "Version 2, which learnt what changed, answers: It is not worse." in stage.story()
        wait_for(lambda: "once 240 labels have come since the change" in stage.story())
        stage.stream(80, wrong=0.05)
    # Whoever takes over goes on: all of it is in the database.
    with running(here, runs) as stage:
        assert stage.is_learning()
        assert len(runs.keys) == 1
        stage.stream(60, wrong=0.05)
        wait_for(lambda: len(runs.keys) == 2)
        (incident,) = stage.incidents()
        assert runs.keys == [f"{incident.id}/1", f"{incident.id}/2"]
        stage.learn(3, rows=140, loss=0.01, champion_loss=0.1)
        wait_for(lambda: stage.state() == "resolved")
        assert "Well again. Mean loss 0.010 on the newest held-out rows" in stage.story()
        assert not stage.is_learning()
        stage.stream(100, wrong=0.0)
        assert len(runs.keys) == 2


def test_labels_that_show_it_well_spare_the_next_retrain(station: Callable[..., Station]) -> None:
    here, runs = station(Policy(retrain=RULES)), Runs()
    here.serve(1)
    with running(here, runs) as stage:
        stage.stream(60, wrong=0.0)
        stage.stream(120, wrong=1.0)
        wait_for(lambda: len(runs.keys) == 1)
        stage.learn(2, rows=120, loss=0.1, champion_loss=1.0)
        wait_for(lambda: stage.state() == "mitigated")
        stage.stream(140, wrong=0.0)
        wait_for(lambda: stage.state() == "resolved")
        assert re.search(r"Well again\. Mean loss 0\.000 on 1\d0 labels since", stage.story())
        assert len(runs.keys) == 1


def test_after_retrains_in_vain_none_starts_before_somebody_has_retrained_by_hand(
    station: Callable[..., Station],
) -> None:
    rules = RULES.model_copy(update={"max_in_vain": 2})
    here, runs = station(Policy(retrain=rules)), Runs()
    here.serve(1)
    with running(here, runs) as stage:
        stage.stream(60, wrong=0.0)
        stage.stream(120, wrong=1.0)
        wait_for(lambda: len(runs.keys) == 1)
        stage.fail("failed: the disk is full")
        wait_for(lambda: len(runs.keys) == 2)
        stage.fail("failed: the disk is full")
        wait_for(lambda: "the last 2 were in vain. The newest: failed: the disk" in stage.story())
        for _ in range(3):
            stage.gateway.controller.look()
        assert len(runs.keys) == 2
        assert stage.story().count("were in vain") == 1

        stage.retrain_by_hand()

        wait_for(lambda: len(runs.keys) == 3)


def test_labels_that_are_held_back_do_not_make_a_retrain_due(
    station: Callable[..., Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.recovering.SCREENED_EVERY", timedelta(0))
    here, runs = station(Policy(retrain=RULES)), Runs()
    here.serve(1)
    with running(here, runs) as stage:
        stage.stream(120, wrong=0.0)
        stage.stream(140, wrong=1.0, source="bot")  # new, and alone: nothing bears it out
        wait_for(stage.is_learning)
        for _ in range(3):
            stage.gateway.controller.look()
        assert runs.keys == []

        stage.stream(60, wrong=1.0)  # those who have always labelled say the same

        wait_for(lambda: len(runs.keys) == 1)


@pytest.mark.parametrize("mode", ["observe", "recommend"])
def test_where_the_policy_does_not_act_a_retrain_is_at_most_recommended(
    station: Callable[..., Station], mode: Literal["observe", "recommend"]
) -> None:
    here, runs = station(Policy(mode=mode, retrain=RULES)), Runs()
    here.serve(1)
    with running(here, runs) as stage:
        stage.stream(60, wrong=0.0)
        stage.stream(120, wrong=1.0)
        wait_for(stage.is_learning)
        if mode == "recommend":
            wait_for(
                lambda: "100 labels have come since the change: a retrain is due." in stage.story()
            )
        for _ in range(3):
            stage.gateway.controller.look()
        assert ("a retrain is due" in stage.story()) == (mode == "recommend")
        assert runs.keys == []
