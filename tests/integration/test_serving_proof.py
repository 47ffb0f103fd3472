"""A swap is believed when answers show it: pointer, intent and measured traffic, compared."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.testclient import TestClient

from homeostat.demo.receiver import AlertReceiver
from homeostat.errors import ArtifactError, NotProven
from homeostat.policy import Policy
from serving import proof
from serving.app import create_app
from serving.fleet import Fleet
from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.conftest import Station

AUTH = {"Authorization": "Bearer the-token"}


def ask(client: TestClient, rows: int = 30) -> httpx.Response:
    answer: httpx.Response = client.post(
        "/v1/models/digits/predict", json={"rows": [[0.0] * 64] * rows}
    )
    return answer


def agreement(client: TestClient) -> dict[str, object]:
    found: dict[str, object] = client.get("/v1/models/digits").json()["agreement"]
    return found


def is_over(alert: dict[str, Any]) -> bool:
    return (alert["status"], alert["details"].get("subject")) == ("resolved", "traffic")


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def test_a_promotion_is_answered_once_answers_or_quiet_show_it(
    station: Callable[..., Station],
) -> None:
    here = station(Policy(alias_moves="override"))
    here.serve(1)
    with TestClient(create_app(here.settings, Gateway(here.settings)), headers=AUTH) as client:
        until(lambda: agreement(client)["state"] == "proven")
        body = {"version": 2, "reason": "the test says so"}
        answer = client.post("/v1/models/digits/promote", json=body)
        assert answer.status_code == 200, answer.text
        assert agreement(client)["state"] == "proven"
        assert ask(client).json()["version"] == 2
        until(lambda: agreement(client)["measured"] == [2])
        shown = client.get("/metrics").text
        assert 'homeostat_agrees{model="digits",what="traffic"} 1.0' in shown


@pytest.mark.parametrize("asked", [True, False], ids=["traffic", "silence"])
def test_a_swap_that_does_nothing_is_not_reported_as_one(
    station: Callable[..., Station], monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    with AlertReceiver() as receiver:
        here = station(Policy(alias_moves="override", alerts=(receiver.address,)))
        here.serve(1)
        with TestClient(create_app(here.settings, Gateway(here.settings)), headers=AUTH) as client:
            until(lambda: agreement(client)["state"] == "proven")
            monkeypatch.setattr(Fleet, "swap", lambda *_: True)  # says so, and does nothing
            began = time.monotonic()
            body = {"version": 2, "reason": "the test says so"}
            answer = client.post("/v1/models/digits/promote", json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "not-proven")
            while asked and time.monotonic() - began < 6.0:
                assert ask(client).json()["version"] == 1
            words = "Routing 2 says that version 2 of 'digits' answers"
            until(lambda: any(words in one.data["text"] for one in receiver.alerts))
            assert time.monotonic() - began < 10.0
            subjects = {one.data["details"]["subject"] for one in receiver.alerts}
            assert subjects - {"mlflow"} == {"traffic"}  # no MLflow runs here, which is told too
            assert agreement(client)["differs"] == "traffic"
            monkeypatch.undo()  # the gateway obeys the routing in its next look
            until(lambda: ask(client).json()["version"] == 2)
            until(lambda: any(is_over(one.data) for one in receiver.alerts))
            assert agreement(client)["state"] == "proven"


def test_success_is_claimed_once_every_gateway_shows_it_and_the_one_that_does_not_is_named(
    station: Callable[..., Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "TELL_SECONDS", 1.0)
    with AlertReceiver() as receiver, contextlib.ExitStack() as stack:
        here = station(Policy(alias_moves="override", alerts=(receiver.address,)))
        here.serve(1)
        first, second = Gateway(here.settings), Gateway(here.settings)
        apps = [create_app(here.settings, one) for one in (first, second)]
        clients = [stack.enter_context(TestClient(app, headers=AUTH)) for app in apps]
        until(lambda: first.lease.held and second.parts.proven == {"digits": 1})

        def cannot(*_: object) -> None:
            raise ArtifactError("its disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(second.parts, "obey", cannot)
            routing = first.moves.request("digits", 2, "test", "the test says so", override=True)
            with pytest.raises(
                NotProven, match=r"answers of gateway .* obeys generation 1, do not"
            ):
                first.prover.wait(routing, 1.5)
            assert ask(clients[0]).json()["version"] == 2
            until(lambda: any("obeys generation 1" in one.data["text"] for one in receiver.alerts))
            until(lambda: _behind(clients[0]) == 1)
            shown = clients[0].get("/metrics").text
            assert 'homeostat_gateways_behind{model="digits"} 1.0' in shown
            assert 'homeostat_gateways{state="live"} 2.0' in shown
        first.prover.wait(routing)
        assert ask(clients[1]).json()["version"] == 2
        until(lambda: any(is_over(one.data) for one in receiver.alerts))
        until(lambda: _behind(clients[1]) == 0)
        gateways = clients[1].get("/v1/gateways").json()["gateways"]
        assert [one["answers_this"] for one in gateways] == [False, True]
        assert {one["serving"]["digits"]["generation"] for one in gateways} == {2}


def _behind(client: TestClient) -> int:
    (model,) = client.get("/v1/gateways").json()["models"]
    return len(model["behind"])
