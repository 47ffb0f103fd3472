"""Who may do what over HTTP: verbs, models, names, limits; with real tokens of the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from homeostat.clock import utc_now
from homeostat.policy import Policy
from monitoring.signals import triage
from registry import (
    GateFigure,
    Verdict,
    connect,
    find_prediction,
    lines_of,
    open_incidents,
    record_verdict,
    sessions,
    transaction,
)
from registry.incidents import raise_signal
from registry.log import PredictionRecord, log_predictions
from registry.tokens import TOKENS, create_token, revoke_token, rotate_token, tokens
from serving.app import create_app
from serving.gateway import Gateway
from serving.telling import registry_signal

if TYPE_CHECKING:
    from tests.integration.conftest import Station

ROOT = {"Authorization": "Bearer the-token"}
ROW = {"row": [1.0] * 64}
DIGEST = "d" * 64
PREDICT = "/v1/models/digits/predict"
PROMOTE = {"version": 2, "reason": "the test says so"}
THEIRS = "0192f000-0000-7000-8000-000000000001"  # a prediction of the other model


class Door:
    """A running gateway with two models, and tokens made for it."""

    def __init__(self, station: Station, gateway: Gateway, client: TestClient) -> None:
        self.station, self.gateway, self.client = station, gateway, client
        engine = connect(gateway.settings.database)
        self.maker: sessionmaker[Session] = sessions(engine)

    def token(self, name: str, *verbs: str, models: tuple[str, ...] = ("digits",)) -> str:
        with transaction(self.maker) as session:
            secret = create_token(session, name, verbs, models, actor="test", now=utc_now())[1]
        self.gateway.tokens.look()
        return secret

    def send(self, secret: str, method: str, path: str, body: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {secret}"}
        answer: httpx.Response = self.client.request(method, path, json=body, headers=headers)
        return answer


@pytest.fixture
def door(station: Callable[..., Station], request: pytest.FixtureRequest) -> Iterator[Door]:
    changes: dict[str, Any] = getattr(request, "param", {})
    policy = Policy.model_validate({"gates": {"approvals": 2}})
    here = station(models={"digits": policy, "theirs": Policy()}, **changes)
    here.serve(1)
    gateway = Gateway(here.settings)
    with TestClient(create_app(here.settings, gateway)) as client:
        yield Door(here, gateway, client)


def test_a_token_does_what_its_verbs_say_and_no_more(door: Door) -> None:
    secrets = {
        verb: door.token(f"of-{verb}", verb)
        for verb in ("read", "predict", "label", "promote", "rollback", "admin")
    }
    override = {"version": 2, "reason": "x"}
    routes: tuple[tuple[str, str, str, object], ...] = (
        ("read", "GET", "/v1/models/digits", None),
        ("read", "GET", "/v1/models/digits/history", None),
        ("read", "GET", "/v1/models/digits/labels", None),
        ("read", "GET", "/v1/models", None),
        ("read", "GET", "/v1/gateways", None),
        ("read", "GET", "/v1/incidents", None),
        ("predict", "POST", PREDICT, ROW),
        ("label", "POST", "/v1/labels", {"labels": []}),
        ("promote", "POST", "/v1/models/digits/promote", PROMOTE),
        ("promote", "POST", "/v1/models/digits/approvals", {"version": 2, "reason": "x"}),
        ("rollback", "POST", "/v1/models/digits/rollback", {"reason": "x"}),
        ("rollback", "POST", "/v1/models/digits/rollout/pause", {"reason": "x"}),
        ("promote", "POST", "/v1/models/digits/rollout/skip", {"reason": "x"}),
        ("promote", "POST", "/v1/models/digits/rollout/start", {"version": 9, "reason": "x"}),
        ("rollback", "POST", "/v1/incidents/none/acknowledge", {}),
        ("admin", "POST", "/v1/models/digits/overrides", override),
        ("admin", "POST", "/v1/models/digits/restore", {"reason": "x"}),
    )
    for needed, method, path, body in routes:
        for verb, secret in secrets.items():
            answer = door.send(secret, method, path, body)
            refused = (answer.status_code, answer.json().get("verb")) == (403, needed)
            assert refused is (verb not in (needed, "admin")), (path, verb, answer.text)
    promoter = secrets["promote"]
    past = door.send(promoter, "POST", "/v1/models/digits/promote", PROMOTE | {"override": True})
    assert (past.status_code, past.json()["verb"]) == (403, "admin")


def test_another_holders_model_cannot_be_told_from_none(door: Door) -> None:
    secret = door.token("ann", "admin")
    for method, path, body in (
        ("POST", "/v1/models/{}/predict", ROW),
        ("GET", "/v1/models/{}", None),
        ("GET", "/v1/models/{}/history", None),
        ("GET", "/v1/models/{}/labels", None),
        ("GET", "/v1/models/{}/pins", None),
        ("GET", "/v1/incidents?model={}", None),
        ("POST", "/v1/models/{}/promote", PROMOTE),
        ("POST", "/v1/models/{}/rollback", {"reason": "x"}),
        ("POST", "/v1/models/{}/overrides", PROMOTE),
        ("POST", "/v1/models/{}/restore", {"reason": "x"}),
        ("POST", "/v1/models/{}/approvals", PROMOTE),
    ):
        theirs = door.send(secret, method, path.format("theirs"), body)
        nobodys = door.send(secret, method, path.format("nobodys"), body)
        assert (theirs.status_code, nobodys.status_code) == (404, 404), path
        assert theirs.text.replace("theirs", "M") == nobodys.text.replace("nobodys", "M")
        assert theirs.headers == {
            **nobodys.headers,
            "content-length": theirs.headers["content-length"],
        }
    listed = door.send(secret, "GET", "/v1/models").json()["models"]
    assert [one["model"] for one in listed] == ["digits"]
    assert len(door.client.get("/v1/models", headers=ROOT).json()["models"]) == 2
    (here,) = door.send(secret, "GET", "/v1/gateways").json()["gateways"]
    assert list(here["serving"]) == ["digits"]


def test_incidents_of_another_holders_model_are_not_there(door: Door) -> None:
    with transaction(door.maker) as session:
        for model in ("theirs", "digits"):
            signal = registry_signal("test", "It is so.")
            raise_signal(session, model, 1, signal, triage(signal), utc_now(), "nothing")
        found = {one.model: one.id for one in open_incidents(session)}
    secret = door.token("ann", "read", "rollback")
    for path in ("/v1/incidents", "/v1/incidents?every=true"):
        shown = door.send(secret, "GET", path).json()["incidents"]
        assert [one["id"] for one in shown] == [found["digits"]]
        assert len(door.client.get(path, headers=ROOT).json()["incidents"]) == 2
    theirs = door.send(secret, "POST", f"/v1/incidents/{found['theirs']}/acknowledge", {})
    nobodys = door.send(secret, "POST", "/v1/incidents/none/acknowledge", {})
    assert theirs.status_code == nobodys.status_code == 422
    assert theirs.text.replace(found["theirs"], "none") == nobodys.text
    mine = door.send(secret, "POST", f"/v1/incidents/{found['digits']}/acknowledge", {})
    assert mine.json()["state"] == "acknowledged"
    assert "ann" in mine.json()["events"][-1]["text"]


def test_a_label_of_another_holders_prediction_is_as_one_of_none(door: Door) -> None:
    mine = door.client.post(PREDICT, json=ROW, headers=ROOT).json()["predictions"][0]
    door.gateway.writer.drain()
    with transaction(door.maker) as session:
        like = find_prediction(session, mine["id"])
        assert like is not None
        record = PredictionRecord(**{**vars(like), "id": THEIRS, "model": "theirs"})
        log_predictions(session, [record])
    secret = door.token("ann", "label")

    def label(prediction: str) -> httpx.Response:
        labels = [{"id": prediction, "label": 3}, {"id": mine["id"], "label": 3}]
        return door.send(secret, "POST", "/v1/labels", {"labels": labels})

    theirs, nobodys = label(THEIRS), label(THEIRS[:-1] + "2")
    assert [one["status"] for one in theirs.json()["results"]] == ["unknown", "accepted"]
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.json()["detail"] == f"No prediction has the id {THEIRS}."
    accepted = {"labels": [{"id": THEIRS, "label": 4}]}
    whose = door.client.post("/v1/labels", json=accepted, headers=ROOT).json()["results"]
    assert whose == [{"id": THEIRS, "status": "accepted"}]


def test_the_ledger_names_the_tokens_holder_and_nobody_else(door: Door) -> None:
    ann, admin = door.token("ann", "rollback"), door.token("max", "admin")
    grant = {"version": 2, "reason": "the test says so"}
    path = "/v1/models/digits/overrides"
    assert door.send(admin, "POST", path, grant).json()["actor"] == "max"
    assert door.send(admin, "POST", path, grant | {"actor": "max"}).status_code == 200
    said = door.send(admin, "POST", path, grant | {"actor": "ann"})
    assert (said.status_code, said.json()["code"]) == (403, "forbidden")
    kept = door.client.post(path, json=grant | {"actor": "eve"}, headers=ROOT)
    assert kept.json()["actor"] == "eve"
    back = {"reason": "x", "actor": "max"}
    assert door.send(ann, "POST", "/v1/models/digits/rollback", back).status_code == 403
    with transaction(door.maker) as session:
        actors = [one.actor for one in lines_of(session, "digits") if one.kind == "override"]
    assert actors == ["max", "max", "eve"]


def test_as_many_eyes_as_the_policy_asks_are_as_many_tokens(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.gateway, "digest", lambda *_: DIGEST)
    figure = GateFigure("accuracy", 0.93, 0.8, True, "Accuracy 0.930.")
    with transaction(door.maker) as session:
        verdict = Verdict(True, (figure,), DIGEST, 0.05, {}, utc_now())
        record_verdict(session, "digits", 2, verdict, utc_now())
    ann, bob = door.token("ann", "promote"), door.token("bob", "promote")
    path, word = "/v1/models/digits/approvals", {"version": 2, "reason": "I looked"}
    door.send(ann, "POST", path, word)
    assert door.send(ann, "POST", path, word | {"person": "bob"}).status_code == 403
    assert "1 more person" in door.send(ann, "POST", path, word).json()["waits"]
    said = door.send(bob, "POST", path, word).json()
    assert ([one["person"] for one in said["approvals"]], said["waits"]) == (["ann", "bob"], "")
    assert {one["token"] for one in said["approvals"]} == {ann.split("_")[1], bob.split("_")[1]}
    nameless = door.client.post(path, json=word, headers=ROOT)
    assert (nameless.status_code, nameless.json()["code"]) == (400, "invalid-request")


def test_a_token_ends_within_two_seconds_and_a_rotated_one_overlaps(door: Door) -> None:
    old = door.token("ann", "predict")
    assert door.send(old, "POST", PREDICT, ROW).status_code == 200
    with transaction(door.maker) as session:
        new = rotate_token(session, "ann", timedelta(hours=1), actor="t", now=utc_now())[1]
    until(lambda: door.send(new, "POST", PREDICT, ROW).status_code == 200)
    assert door.send(old, "POST", PREDICT, ROW).status_code == 200
    with transaction(door.maker) as session:
        revoke_token(session, "ann", actor="t", now=utc_now())
    until(lambda: door.send(old, "POST", PREDICT, ROW).status_code == 401)
    assert door.send(new, "POST", PREDICT, ROW).status_code == 401
    unknown = door.send("hst_ffffffffffff_x", "POST", PREDICT, ROW)
    assert unknown.text == door.send(new, "POST", PREDICT, ROW).text
    assert unknown.text == door.client.post(PREDICT, json=ROW).text


def test_refused_attempts_are_told_once_and_counted(door: Door) -> None:
    secret = door.token("ann", "read")
    for _ in range(5):
        door.send(secret, "POST", "/v1/models/digits/promote", PROMOTE)
    door.gateway.tokens.tell()
    for _ in range(3):
        door.send(secret, "POST", "/v1/models/digits/promote", PROMOTE)
    door.gateway.tokens.tell()
    with transaction(door.maker) as session:
        lines = [one for one in lines_of(session, TOKENS) if one.kind == "refused"]
        used = tokens(session)[0].used_at
    assert [(one.actor, one.evidence["verb"]) for one in lines] == [("ann", "promote")]
    assert 1 <= lines[0].evidence["times"] <= 5
    assert used is None or utc_now() - used < timedelta(minutes=1)


@pytest.mark.parametrize("door", [{"token_rate": 0.01, "token_burst": 2}], indirect=True)
def test_a_token_that_asks_too_fast_is_told_when_to_come_again(door: Door) -> None:
    fast, other = door.token("fast", "predict", "read"), door.token("other", "predict")
    assert door.send(fast, "POST", PREDICT, ROW).status_code == 200
    assert door.send(fast, "GET", "/v1/models").status_code == 200
    for method, path, body in (("POST", PREDICT, ROW), ("GET", "/v1/models", None)):
        refused = door.send(fast, method, path, body)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
        assert 90 <= int(refused.headers["retry-after"]) <= 100
    assert door.send(other, "POST", PREDICT, ROW).status_code == 200
    assert door.client.post(PREDICT, json=ROW, headers=ROOT).status_code == 200


def until(holds: Callable[[], bool], seconds: float = 2.0) -> None:
    """Wait for a condition, as long as the product says that it may take."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("door", [{"token_concurrency": 1}], indirect=True)
def test_a_holder_with_enough_under_way_is_refused_until_one_is_answered(door: Door) -> None:
    secret, other = door.token("ann", "label", "predict"), door.token("bob", "predict")
    with ThreadPoolExecutor(1) as pool:
        with door.gateway.feedback.paused():  # labels wait
            first = pool.submit(door.send, secret, "POST", "/v1/labels", {"labels": []})
            deadline = time.monotonic() + 20
            while not door.gateway.access._meters["ann"].under_way:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            for path, body in (("/v1/labels", {"labels": []}), (PREDICT, ROW)):
                refused = door.send(secret, "POST", path, body)
                assert (refused.status_code, refused.json()["limit"]) == (429, 1)
                assert refused.headers["retry-after"] == "1"
            assert door.send(other, "POST", PREDICT, ROW).status_code == 200
        assert first.result(20).status_code == 200
    assert door.send(secret, "POST", PREDICT, ROW).status_code == 200


def test_a_version_is_pinned_by_who_may(door: Door) -> None:
    predictor = door.token("shop", "predict")
    judge = door.token("ann", "predict", "promote")

    def ask(secret: str, version: str) -> tuple[int, object]:
        headers = {"Authorization": f"Bearer {secret}", "X-Homeostat-Version": version}
        answer = door.client.post(PREDICT, json=ROW, headers=headers)
        said = answer.json()
        return answer.status_code, said.get("reason", said.get("code"))

    door.station.serve(2)
    door.gateway.parts.follow("digits")
    served, standby = "2", "1"
    assert ask(predictor, served) == (200, "pinned")
    assert ask(predictor, standby) == (403, "forbidden")
    assert ask(judge, standby) == (200, "pinned")
    assert ask(judge, "77") == (404, "unknown-version")
    for wrong in ("0", "-1", "x", "1.5", "9" * 30):
        assert ask(judge, wrong) == (400, "invalid-request")
    before = door.gateway.prover.agreement("digits")
    assert before is not None
    assert before.measured in ((), (int(served),))  # what is pinned shows no routing
