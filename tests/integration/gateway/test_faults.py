"""What goes wrong: a bad champion, a database that is away, a spoilt copy, a second gateway."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import Caller, Site, Trained


def when_claimed(client: Caller) -> dict[str, Any]:
    """The incident about the traffic, once answers have shown that its harm ended."""
    deadline = time.monotonic() + 10
    while True:
        found = client.get("/v1/incidents").json()["incidents"]
        (incident,) = [one for one in found if "subject" not in one["details"]]
        if incident["state"] == "mitigated" or time.monotonic() > deadline:
            return dict(incident)
        time.sleep(0.05)


def test_the_deciding_label_sends_traffic_back_before_its_call_returns(
    site: Site, trained: Trained
) -> None:
    site.serve(1)
    site.serve(2)
    rows, truths = list(trained.held.rows), list(trained.held.labels)
    with site.caller() as client:
        assert client.predict(rows[:1])["version"] == 2
        needed = 0
        for start in range(0, 500, 10):
            body = client.predict(rows[start : start + 10])
            ids = [one["id"] for one in body["predictions"]]
            assert client.label(ids, truths[start : start + 10]).status_code == 200
            needed += 10
            after = client.predict(rows[:1])
            if after["version"] == 1:
                break
        assert after["release"] == "digits:1@g3"
        assert needed <= 60
        incident = when_claimed(client)
        assert (incident["kind"], incident["state"]) == ("worse-than-standby", "mitigated")
        assert incident["undo"].startswith("homeostat promote digits --version 2 --override")
        history = client.get("/v1/models/digits/history").json()["routings"]
        assert [one["actor"] for one in history] == ["test", "test", "guard"]
        # What the undo command does:
        wish = {"version": 2, "reason": "it is right after all"}
        refused = client.post("/v1/models/digits/promote", json=wish)
        assert (refused.status_code, refused.json()["code"]) == (409, "gate-refused")
        undone = client.post("/v1/models/digits/promote", json=wish | {"override": True})
        assert undone.status_code == 200, undone.text
        assert client.predict(rows[:1])["version"] == 2
        back = client.post("/v1/models/digits/rollback", json={"reason": "enough"})
        assert back.json()["champion"] == 1
        assert client.predict(rows[:1])["version"] == 1
        none = client.post("/v1/models/digits/rollback", json={"reason": "again"})
        assert (none.status_code, none.json()["code"]) == (409, "no-target")


def test_a_champion_that_fails_where_the_standby_does_not_is_rolled_back(
    site: Site, trained: Trained
) -> None:
    site.serve(1)
    site.serve(2)
    gateway = Gateway(site.settings)
    rows = list(trained.held.rows)
    with site.caller(gateway) as client:
        split_now = gateway.fleet.serving("digits")
        for weights in split_now.champion.module.parameters():
            weights.data.fill_(torch.nan)
        for _ in range(3):
            answer = client.post("/v1/models/digits/predict", json={"rows": rows[:2]})
            if answer.status_code == 200:
                break
            assert (answer.status_code, answer.json()["code"]) == (500, "learner-failed")
        site.wait_for(lambda: gateway.fleet.serving("digits").champion.version == 1)
        assert client.predict(rows[:2])["version"] == 1
        (incident,) = client.get("/v1/incidents").json()["incidents"]
        assert incident["kind"] == "hard-failure"


def test_with_the_database_away_predictions_go_on_and_labels_ask_to_come_again(
    client: Caller, site: Site, trained: Trained
) -> None:
    rows, truths = list(trained.held.rows[:5]), list(trained.held.labels[:5])
    ids = [one["id"] for one in client.predict(rows)["predictions"]]
    database = site.settings.state_dir / "lifecycle.db"
    site.wait_for(lambda: "predictions_logged_total 5.0" in client.get("/metrics").text)
    hidden = database.with_name("hidden")
    for suffix in ("", "-wal", "-shm"):
        part = Path(f"{database}{suffix}")
        if part.exists():
            part.rename(f"{hidden}{suffix}")
    database.mkdir()  # so that nobody makes a new one
    # Only now: a thread of the gateway may have opened one more connection meanwhile.
    client.app.gateway.parts.maker.kw["bind"].dispose()  # type: ignore[attr-defined]  # ours
    later = [one["id"] for one in client.predict(rows)["predictions"]]
    answer = client.label(ids, truths)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    database.rmdir()
    for suffix in ("", "-wal", "-shm"):
        part = Path(f"{hidden}{suffix}")
        if part.exists():
            part.rename(f"{database}{suffix}")
    assert client.label(ids, truths).status_code == 200
    assert client.label(later, truths).status_code == 200


def test_a_gateway_starts_with_mlflow_and_the_database_away(site: Site, trained: Trained) -> None:
    site.serve(1)
    site.serve(2)
    with site.caller() as client:
        assert client.predict(list(trained.held.rows[:1]))["release"] == "digits:2@g2"
    away = site.settings.model_copy(
        update={"database_url": f"sqlite:///{site.settings.state_dir / 'no' / 'where.db'}"}
    )
    with replace(site, settings=away).caller() as client:
        assert client.get("/health/ready").status_code == 200
        body = client.predict(list(trained.held.rows[:1]))
        assert body["release"] == "digits:2@g2"
    # Back again: what was answered meanwhile is in the log.
    with site.caller() as client:
        ids = [body["predictions"][0]["id"]]
        assert client.label(ids, list(trained.held.labels[:1])).status_code == 200


def test_nothing_to_serve_yet_is_ready_and_says_so(site: Site) -> None:
    with site.caller() as client:
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["models"]) == (200, {})
        answer = client.post("/v1/models/digits/predict", json={"row": [0] * 64})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        site.serve(1)
        site.wait_for(lambda: client.get("/health/ready").json()["models"] != {})
        assert client.predict([np.zeros(64).tolist()])["version"] == 1


def test_a_spoilt_copy_is_never_loaded(site: Site) -> None:
    site.serve(1)
    weights = site.settings.state_dir / "versions" / site.digests[1] / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with site.caller() as client:
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["missing"]) == (503, ["digits"])


def test_only_one_of_two_gateways_acts_and_both_follow(site: Site, trained: Trained) -> None:
    site.serve(1)
    first, second = Gateway(site.settings), Gateway(site.settings)
    with site.caller(first) as client:
        site.wait_for(lambda: first.controller.holds_lease)
        with site.caller(second) as other:
            assert not second.controller.holds_lease
            site.serve(2)
            site.wait_for(lambda: other.predict(list(trained.held.rows[:1]))["version"] == 2)
            site.wait_for(lambda: client.predict(list(trained.held.rows[:1]))["version"] == 2)
            assert first.controller.holds_lease
            assert not second.controller.holds_lease
