"""What callers send: predictions and labels, each answered in full or with its own problem."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import Caller, Site, Trained


def test_an_answer_names_version_release_digest_generation_and_ids(
    client: Caller, site: Site, trained: Trained
) -> None:
    rows = trained.held.rows[:3]
    answer = client.post("/v1/models/digits/predict", json={"rows": list(rows)})
    body = answer.json()
    assert body["release"] == "digits:1@g1"
    assert (body["version"], body["generation"], body["reason"]) == (1, 1, "champion")
    assert body["digest"] == site.digests[1]
    assert len({one["id"] for one in body["predictions"]}) == 3
    assert {one["version"] for one in body["predictions"]} == {1}
    assert all(0 <= one["confidence"] <= 1 for one in body["predictions"])
    assert answer.headers["x-homeostat-version"] == "1"
    assert answer.headers["x-homeostat-generation"] == "1"
    one = client.post("/v1/models/digits/predict", json={"row": rows[0]}).json()
    assert one["predictions"][0]["prediction"] == body["predictions"][0]["prediction"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"not json", 400, "invalid-request"),
        (b'{"rows": []}', 400, "invalid-request"),
        (b"{}", 400, "invalid-request"),
        (b'{"rows": [1], "row": 1}', 400, "invalid-request"),
        (b'{"row": 1, "rwos": 1}', 400, "invalid-request"),
        (b'{"rows": "x"}', 400, "invalid-request"),
        (b"\xff\xfe", 400, "invalid-request"),
        (b'{"rows": ' + b"[" * 100_000, 400, "invalid-request"),
        (b'{"row": [1, 2, 3]}', 422, "invalid-row"),
        (b'{"row": {"ink": 1}}', 422, "invalid-row"),
        (json.dumps({"row": [float("nan")] * 64}).encode(), 422, "invalid-row"),
        (json.dumps({"row": [float("inf")] * 64}).encode(), 422, "invalid-row"),
        (b'{"row": [' + b"1e999," * 63 + b"1]}", 422, "invalid-row"),
        (json.dumps({"rows": [[0] * 64] * 65}).encode(), 413, "too-large"),
        (json.dumps({"rows": [[0] * 64], "entity": ["a", "b"]}).encode(), 400, "invalid-request"),
    ],
)
def test_each_bad_body_has_its_own_problem(
    client: Caller, body: bytes, status: int, code: str
) -> None:
    answer = client.post("/v1/models/digits/predict", content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:homeostat:{code}"


def test_the_door_and_the_addresses_answer_with_problems(client: Caller) -> None:
    row = {"row": [0] * 64}
    path = "/v1/models/digits/predict"
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer x"}):
        for answer in (
            client.post(path, json=row, headers=headers),
            client.get("/v1/models", headers=headers),
            client.post("/v1/labels", json={}, headers=headers),
        ):
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
    assert client.post("/v1/models/nope/predict", json=row).json()["code"] == "unknown-model"
    assert client.get("/v1/models/nope").json()["code"] == "unknown-model"
    assert client.get("/nowhere").json()["code"] == "not-found"
    assert client.get(path).json()["code"] == "method-not-allowed"
    assert client.delete("/v1/labels").json()["code"] == "method-not-allowed"
    assert client.post("/v1/labels", content=b"[").json()["code"] == "invalid-request"
    for open_to_all in ("/health/live", "/health/ready", "/metrics", "/openapi.json"):
        assert client.get(open_to_all, headers={"Authorization": ""}).status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/models/{model}/predict", "/v1/labels"} <= set(paths)


def test_labels_have_one_stated_outcome_each(client: Caller, trained: Trained) -> None:
    rows, truths = trained.held.rows[:4], trained.held.labels[:4]
    ids = [one["id"] for one in client.predict(list(rows))["predictions"]]
    accepted = client.label(ids[:2], truths[:2])
    assert [one["status"] for one in accepted.json()["results"]] == ["accepted"] * 2
    again = client.label(ids[:2], truths[:2])
    assert (again.status_code, again.json()["results"][0]["status"]) == (200, "duplicate")
    conflict = client.label([ids[0], ids[2]], [(int(truths[0]) + 1) % 10, truths[2]])
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflicting-label")
    assert [one["status"] for one in conflict.json()["results"]] == ["conflict", "accepted"]
    unknown = client.label(["never-given-out", ids[3]], [1, truths[3]])
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-prediction")
    assert [one["status"] for one in unknown.json()["results"]] == ["unknown", "accepted"]
    invalid = client.label([ids[0]], [{"a": 1}])
    assert invalid.status_code in (409, 422)


def test_an_invalid_label_is_named_and_the_others_are_kept(
    client: Caller, trained: Trained
) -> None:
    ids = [one["id"] for one in client.predict(list(trained.held.rows[:2]))["predictions"]]
    answer = client.label(ids, [[1, 2], trained.held.labels[1]])
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-label")
    assert [one["status"] for one in answer.json()["results"]] == ["invalid", "accepted"]
    assert client.label(ids[:1], list(trained.held.labels[:1])).status_code == 200


def test_a_label_that_comes_before_its_prediction_counts_when_that_lands(
    site: Site, trained: Trained
) -> None:
    site.serve(1)
    gateway = Gateway(site.settings)
    with site.caller(gateway) as client:
        watch = gateway.watches["digits"]
        early = "01a20000-0000-7000-8000-000000000001"
        assert client.label([early], [trained.held.labels[0]]).status_code == 404
        body = client.predict([trained.held.rows[0]])
        payload: list[bytes] = []
        gateway._spool.drain(payload.extend)
        given, instead = (UUID(one).bytes for one in (body["predictions"][0]["id"], early))
        gateway._spool.append([one.replace(given, instead) for one in payload])
        site.wait_for(lambda: any(s.detector == "loss" and s.rows == 1 for s in watch.samples()))
        assert client.label([early], [trained.held.labels[0]]).status_code == 200


def test_a_repeated_key_gets_the_same_ids_and_is_logged_once(
    client: Caller, trained: Trained
) -> None:
    body = {"rows": list(trained.held.rows[:2])}
    one, again = (
        client.post("/v1/models/digits/predict", json=body, headers={"Idempotency-Key": "k1"})
        for _ in range(2)
    )
    assert one.status_code == again.status_code == 200
    assert one.content == again.content
    other = client.post(
        "/v1/models/digits/predict",
        json={"row": trained.held.rows[0]},
        headers={"Idempotency-Key": "k1"},
    )
    assert (other.status_code, other.json()["code"]) == (400, "invalid-request")
    bare = client.post("/v1/models/digits/predict", json=body).json()
    assert {each["id"] for each in bare["predictions"]}.isdisjoint(
        each["id"] for each in one.json()["predictions"]
    )
