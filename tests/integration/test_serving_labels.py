"""What a gateway says of its labels: how late they come, how many, and whose come first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from homeostat.policy import Policy

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

AUTH = {"Authorization": "Bearer the-token"}
ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(80)]
np.random.default_rng(3).shuffle(ROWS)  # in their order near ones are alike


def test_accuracy_is_immature_until_slow_labels_are_in_and_says_which_come_first(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    """Of each 80 answers half are wrong and labelled in 10 s, 20 right ones in 600 s."""
    here = station(Policy(), poll_seconds=3600.0)
    truths = here.says(1, ROWS)
    with here.answering(hand_clock) as (gateway, client):

        def ask() -> list[str]:
            answer = client.post("/v1/models/digits/predict", json={"rows": ROWS})
            gateway.writer.drain()
            return [one["id"] for one in answer.json()["predictions"]]

        def tell(ids: list[str], places: range, off: int) -> None:
            labels = [{"id": ids[n], "label": (truths[n] + off) % 10} for n in places]
            assert client.post("/v1/labels", json={"labels": labels}).status_code == 200

        empty = client.get("/v1/models/digits/labels").json()
        assert (empty["mature_after"], empty["mature"]["coverage"]) == (None, 0.0)
        for _ in range(2):
            ids = ask()
            hand_clock.advance(10)
            tell(ids, range(40), 1)
            hand_clock.advance(590)
            tell(ids, range(40, 60), 0)
            hand_clock.advance(400)
        young = ask()
        hand_clock.advance(10)
        tell(young, range(40), 1)
        told = [{"id": young[50], "label": "an eleventh digit"}]
        assert client.post("/v1/labels", json={"labels": told}).status_code == 200
        gateway.gathering.turn()
        said = client.get("/v1/models/digits/labels").json()
        shown = client.get("/v1/models/digits").json()
        status, strange = shown["estimate"], shown["open_set"]
        gateway.controller.look()
        figures = client.get("/metrics").text
    assert said["estimate"]["estimated"] is True
    assert status["rows"] == 240
    assert status["loss"] is not None or status["trouble"]
    assert 'homeostat_estimated_accuracy{model="digits",what="low"}' in figures
    assert 'homeostat_open_set_share{model="digits",what="low"}' in figures
    assert (strange["estimated"], strange["rows"], said["open_set"]) == (True, 240, strange)
    assert (strange["measured"]["labels"], strange["measured"]["unseen"]) == (161, 1)
    assert said["mature_after"] == pytest.approx(600, abs=1)
    assert said["final"] == pytest.approx(0.75, abs=0.01)
    assert (said["mature"]["predictions"], said["mature"]["labels"]) == (160, 120)
    assert said["mature"]["coverage"] == 0.75
    assert said["mature"]["loss"] == pytest.approx(80 / 120)
    assert said["immature"]["loss"] == 1.0  # only the complaints are in
    assert said["gap"][0] > 0
    assert (said["quick"], said["slow"]) == (1.0, 0.0)


def test_a_revised_label_changes_past_accuracy_and_both_views_stay(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    """40 of 80 answers are told wrong; 30 of these labels were wrong themselves."""
    here = station(Policy(), poll_seconds=3600.0)
    truths = here.says(1, ROWS)
    with here.answering(hand_clock) as (gateway, client):
        answer = client.post("/v1/models/digits/predict", json={"rows": ROWS}).json()
        ids = [one["id"] for one in answer["predictions"]]
        hand_clock.advance(10)
        first = [{"id": ids[n], "label": (truths[n] + (n < 40)) % 10} for n in range(len(ids))]
        assert client.post("/v1/labels", json={"labels": first}).status_code == 200
        seen = {one.detector: one.rows for one in gateway.watches["digits"].samples()}
        hand_clock.advance(10)
        then = hand_clock()
        hand_clock.advance(10)
        fixes = [{"id": ids[n], "label": truths[n]} for n in range(30)]
        refused = client.post("/v1/labels", json={"labels": fixes})
        assert refused.status_code == 409
        assert "`revise`" in refused.json()["remedy"]
        wanted = [one | {"revise": True} for one in fixes]
        told = client.post("/v1/labels", json={"labels": wanted}).json()["results"]
        assert {one["status"] for one in told} == {"revised"}
        after = {one.detector: one.rows for one in gateway.watches["digits"].samples()}
        assert after["loss"] == seen["loss"] == 80  # a bet that was paid is not taken back
        now = client.get("/v1/models/digits/labels").json()
        past = client.get("/v1/models/digits/labels", params={"as_of": then.isoformat()}).json()
        late = {"as_of": (then + timedelta(days=9)).isoformat()}
        assert client.get("/v1/models/digits/labels", params=late).status_code == 422
    assert (now["mature"]["loss"], now["revised"]) == (10 / 80, 30)
    assert (past["mature"]["loss"], past["revised"]) == (40 / 80, 0)
    assert past["known"]["loss"] == 10 / 80


def test_rows_in_another_unit_are_a_data_break_that_names_the_feature(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    here = station(Policy(), poll_seconds=3600.0)
    with here.answering(hand_clock) as (gateway, client):
        for scale in (1.0, 0.1, 0.1, 0.1):
            rows = [[row[0], row[1] * scale, *row[2:]] for row in ROWS]
            assert client.post("/v1/models/digits/predict", json={"rows": rows}).is_success
            hand_clock.advance(1)
        gateway.gathering.turn()
        (signal,) = gateway.watches["digits"].champion_signals()
    (found,) = signal.details["breaks"]
    assert (found["name"], found["kind"], found["factor"]) == ("pixel_0_1", "unit", 0.1)
