"""Several gateways over one database: what one of them sees is evidence for all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from homeostat.policy import Policy, RollbackPolicy
from monitoring.sequential import GuardDetector
from serving.app import create_app
from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.conftest import Station

AUTH = {"Authorization": "Bearer the-token"}
ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(200)]
Replica = tuple[Gateway, TestClient]


@contextlib.contextmanager
def replicas(station: Station, count: int = 2) -> Iterator[list[Replica]]:
    """Gateways of one database, each as its own process would have it."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            gateway = Gateway(station.settings)
            client = TestClient(create_app(station.settings, gateway), headers=AUTH)
            made.append((gateway, stack.enter_context(client)))
        yield made


def predict(client: TestClient, first: int, count: int) -> list[dict[str, int]]:
    body = {"rows": [ROWS[n % len(ROWS)] for n in range(first, first + count)]}
    answer = client.post("/v1/models/digits/predict", json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, int]] = answer.json()["predictions"]
    return found


def label(client: TestClient, given: list[dict[str, int]], truths: list[int]) -> None:
    labels = [{"id": one["id"], "label": truth} for one, truth in zip(given, truths, strict=True)]
    answer = client.post("/v1/labels", json={"labels": labels})
    assert {one["status"] for one in answer.json()["results"]} == {"accepted"}


def label_evidence(gateway: Gateway) -> dict[str, tuple[int, float]]:
    samples = gateway.watches["digits"].samples()
    return {one.detector: (one.rows, one.value) for one in samples if one.detector != "input-drift"}


def test_labels_are_the_same_evidence_on_every_gateway(
    station: Callable[..., Station], database_url: str
) -> None:
    policy = Policy(rollback=RollbackPolicy(budget_labels=10**9))
    here = station(policy, database_url, poll_seconds=3600.0)
    here.serve(1)
    here.serve(2)
    here.put_on_trial(3)
    with replicas(here, 3) as made:
        for turn in range(9):
            _, asked = made[turn % 3]
            _, told = made[turn % 2]  # the third takes none, and labels go to another than answered
            given = predict(asked, turn * 10, 10)
            made[turn % 3][0].writer.drain()
            label(told, given, [(turn + n) % 10 for n in range(10)])
        for gateway, _ in made:
            gateway.feedback.catch_up()
        one, other, silent = (label_evidence(gateway) for gateway, _ in made)
        assert one["loss"][0] == one["worse-than-standby"][0] == 90
        assert one == other == silent
        trials = {gateway.watches["digits"].trial for gateway, _ in made}
        assert len(trials) == 1
        with contextlib.closing(_Stopped(Gateway(here.settings))) as late:
            late.gateway.parts.follow("digits")
            late.gateway.keeper.restore("digits")
            assert label_evidence(late.gateway) == one
            assert {late.gateway.watches["digits"].trial} == trials


@pytest.mark.parametrize("count", [1, 2])
def test_the_gateway_that_takes_the_deciding_label_sends_traffic_back_in_that_call(
    station: Callable[..., Station], database_url: str, count: int
) -> None:
    """As many labels decide as with one gateway, though each took but half of them."""
    here = station(Policy(), database_url, poll_seconds=3600.0)
    here.serve(1)
    here.serve(2)
    truths = here.says(1, ROWS)
    rules = RollbackPolicy()
    guard = GuardDetector(rules.budget_labels, rules.tolerance)
    lost = [float(said != truth) for said, truth in zip(here.says(2, ROWS), truths, strict=True)]
    deciding = 0
    while not guard.drift_detected:
        guard.update(lost[deciding * 5 : deciding * 5 + 5])
        deciding += 1
    assert 1 < deciding < 20
    with replicas(here, count) as made:
        for turn in range(deciding):
            gateway, client = made[turn % count]
            assert here.routing().champion == 2
            given = predict(client, turn * 5, 5)
            label(client, given, truths[turn * 5 : turn * 5 + 5])
        assert gateway.fleet.serving("digits").champion.version == 1
        assert (here.routing().champion, here.routing().actor) == (1, "guard")


class _Stopped:
    """A gateway whose threads were never started."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def close(self) -> None:
        self.gateway.stop()
