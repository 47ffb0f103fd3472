"""Promotion, rollback, verdicts, lineage, evidence and the timeline on both databases."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy.orm import Session
from uuid6 import uuid7

from homeostat.errors import GateRefused, NoTarget, Refused, StaleGeneration
from homeostat.policy import Policy, RetrainPolicy
from monitoring import Signal, Triage
from registry import (
    EvidenceSample,
    GateFigure,
    LabelItem,
    PredictionRecord,
    Verdict,
    active_override,
    active_overrides,
    children,
    current_routing,
    decide,
    drop_detectors,
    evidence_series,
    finish_retrain,
    grant_override,
    load_detectors,
    log_predictions,
    open_regime,
    parents,
    promote,
    quarantine,
    quarantined,
    raise_signal,
    record_edge,
    record_evidence,
    record_labels,
    record_losses,
    record_verdict,
    regimes,
    release_quarantine,
    releases,
    request_promotion,
    request_retrain,
    resolve,
    rollback,
    save_detector,
    timeline,
    verdict_for,
    verify_ledger,
    write_routing,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
POLICY = Policy()
DIGESTS = {1: "a" * 64, 2: "b" * 64, 3: "c" * 64}
GOOD = (GateFigure("accuracy", 0.95, 0.8, True, "Accuracy 0.950."),)
POOR = (GateFigure("accuracy", 0.5, 0.8, False, "Accuracy 0.500."),)


class Registered:
    """Stands for MLflow: the digest of each version."""

    def digest(self, model: str, version: int) -> str:
        assert model == "digits"
        return DIGESTS[version]


def ask(session: Session, version: int, now: datetime = NOON) -> None:
    request_promotion(session, Registered(), POLICY, "digits", version, "ann", "it is good", now)


def judged(session: Session, version: int, passed: bool = True) -> None:
    verdict = Verdict(passed, GOOD if passed else POOR, DIGESTS[version])
    record_verdict(session, "digits", version, verdict, NOON)


def test_only_a_passing_verdict_on_this_artifact_promotes(session: Session) -> None:
    with pytest.raises(GateRefused, match="No gate"):
        ask(session, 1)
    judged(session, 1, passed=False)
    with pytest.raises(GateRefused, match=r"accuracy: Accuracy 0\.500"):
        ask(session, 1)
    record_verdict(session, "digits", 1, Verdict(True, GOOD, DIGESTS[2]), NOON)
    with pytest.raises(GateRefused, match="another artifact"):
        ask(session, 1)
    judged(session, 1)
    found = verdict_for(session, "digits", 1)
    assert found == Verdict(True, GOOD, DIGESTS[1])
    ask(session, 1)
    routing = current_routing(session, "digits")
    assert routing is not None
    assert (routing.champion, routing.standby, routing.phase) == (1, None, "steady")
    ask(session, 1)
    assert current_routing(session, "digits") == routing


def test_an_override_has_a_reason_and_an_end(session: Session) -> None:
    with pytest.raises(Refused, match="reason"):
        grant_override(session, "digits", 2, "ann", " ", NOON + HOUR, NOON)
    with pytest.raises(Refused, match="over already"):
        grant_override(session, "digits", 2, "ann", "need", NOON, NOON)
    grant_override(session, "digits", 2, "ann", "need", NOON + HOUR, NOON)
    longer = grant_override(session, "digits", 2, "bob", "more", NOON + HOUR * 2, NOON)
    assert active_override(session, "digits", 2, NOON) == longer
    assert active_override(session, "digits", 1, NOON) is None
    assert len(active_overrides(session, "digits", NOON + HOUR)) == 1
    decision = decide(session, POLICY, "digits", 2, DIGESTS[2], NOON + HOUR)
    assert (decision.action, decision.warn) == ("accept", True)
    assert decide(session, POLICY, "digits", 2, DIGESTS[2], NOON + HOUR * 2).action == "restore"


def test_rollback_goes_to_the_standby_once(session: Session) -> None:
    with pytest.raises(NoTarget):
        rollback(session, "digits", "guard", "worse", {}, NOON)
    for version in (1, 2):
        judged(session, version)
        ask(session, version, NOON + SECOND * version)
    with pytest.raises(StaleGeneration):
        rollback(session, "digits", "guard", "worse", {}, NOON, expected=1)
    routing = rollback(session, "digits", "guard", "worse", {"labels": 80}, NOON + SECOND * 3)
    assert (routing.champion, routing.standby, routing.challenger) == (1, None, None)
    assert routing.evidence == {"labels": 80}
    with pytest.raises(NoTarget):
        rollback(session, "digits", "guard", "worse", {}, NOON)
    ended = {(item.role, item.version): item.ended_why for item in releases(session, "digits")}
    assert ended["champion", 2] == "worse"
    assert {item.digest for item in releases(session, "digits")} == {DIGESTS[1], DIGESTS[2]}
    assert verify_ledger(session, "digits").intact


def test_quarantine_bars_promotion_override_and_rollback(session: Session) -> None:
    for version in (1, 2):
        judged(session, version)
        ask(session, version)
    quarantine(session, "digits", DIGESTS[1], "it lost accuracy", NOON, actor="ann")
    quarantine(session, "digits", DIGESTS[1], "another reason", NOON, actor="bob")
    barred = quarantined(session, "digits", DIGESTS[1])
    assert barred is not None
    assert barred.reason == "it lost accuracy"
    grant_override(session, "digits", 1, "ann", "need", NOON + HOUR, NOON)
    with pytest.raises(GateRefused, match="quarantine"):
        ask(session, 1)
    with pytest.raises(NoTarget, match="quarantine"):
        rollback(session, "digits", "guard", "worse", {}, NOON)
    release_quarantine(session, "digits", DIGESTS[1], NOON, actor="ann", reason="it was mended")
    assert quarantined(session, "digits", DIGESTS[1]) is None
    assert rollback(session, "digits", "guard", "worse", {}, NOON).champion == 1
    quarantine(session, "digits", DIGESTS[1], "again", NOON, actor="ann")
    assert quarantined(session, "digits", DIGESTS[1]) is not None


def test_an_artifact_has_one_parent_of_each_kind(session: Session) -> None:
    record_edge(session, "c", "p", "continual_of", {"strategy": "replay"})
    record_edge(session, "c", "p", "continual_of", {"strategy": "replay"})
    record_edge(session, "c", "q", "quantized_of", {})
    with pytest.raises(Refused, match="continual_of"):
        record_edge(session, "c", "other", "continual_of", {})
    assert [(edge.kind, edge.parent) for edge in parents(session, "c")] == [
        ("continual_of", "p"),
        ("quantized_of", "q"),
    ]
    assert [edge.recipe for edge in children(session, "p")] == [{"strategy": "replay"}]


def test_regimes_are_numbered_and_one_incident_opens_one(session: Session) -> None:
    first = open_regime(session, "digits", "", 1, NOON)
    second = open_regime(session, "digits", "incident", 2, NOON + HOUR)
    assert (first.number, second.number) == (0, 1)
    assert open_regime(session, "digits", "incident", 3, NOON + HOUR * 2) == second
    assert regimes(session, "digits") == [first, second]


def test_evidence_and_detector_states_come_back(session: Session) -> None:
    samples = [
        EvidenceSample("digits", 1, "inputs", NOON + SECOND * i, 0.5 * i, 11.5, 64 * i)
        for i in range(5)
    ]
    record_evidence(session, samples)
    found = evidence_series(session, "digits", NOON + SECOND, NOON + SECOND * 3)
    assert found == samples[1:3]
    save_detector(session, "digits", 1, "inputs", {"rows": 1}, NOON)
    save_detector(session, "digits", 1, "inputs", {"rows": 2}, NOON)
    save_detector(session, "digits", 1, "losses", "text", NOON)
    save_detector(session, "digits", 2, "inputs", {"rows": 9}, NOON)
    assert load_detectors(session, "digits", 1) == {"inputs": {"rows": 2}, "losses": "text"}
    drop_detectors(session, "digits", 1)
    assert load_detectors(session, "digits", 1) == {}
    assert load_detectors(session, "digits", 2) == {"inputs": {"rows": 9}}


def test_the_timeline_tells_the_story(session: Session) -> None:
    promote(session, "digits", 1, actor="pipeline", reason="first", evidence={}, now=NOON)
    write_routing(
        session,
        "digits",
        1,
        champion=1,
        challenger=2,
        standby=None,
        phase="canary",
        canary_share=0.25,
        actor="controller",
        reason="not worse in shadow",
        evidence={},
        at=NOON + SECOND * 20,
    )
    promote(
        session,
        "digits",
        2,
        actor="controller",
        reason="earned",
        evidence={},
        now=NOON + SECOND * 40,
    )
    drift = Signal("loss", "losses", 13.0, 11.5, 900, 80)
    page = Triage("page", "rollback", "It is worse.")
    incident = raise_signal(session, "digits", 2, drift, page, NOON + SECOND * 45, "")
    rollback(session, "digits", "guard", "worse", {}, NOON + SECOND * 46)
    request_retrain(session, "digits", incident.id, "k", RetrainPolicy(), NOON + SECOND * 47)
    finish_retrain(session, "k", "challenger: version 3. Passed.", NOON + SECOND * 50)
    resolve(session, incident.id, "Over.", NOON + SECOND * 50)
    records = [
        PredictionRecord(
            id=str(uuid7()),
            model="digits",
            version=2 if 40 <= i < 46 or i % 4 == 3 else 1,
            generation=1,
            arm="champion",
            entity="",
            at=NOON + SECOND * i,
            row=[0.0],
            output=np.zeros(2, dtype=np.float32),
            answer={},
        )
        for i in range(60)
    ]
    log_predictions(session, records)
    record_labels(session, [LabelItem(item.id, 1) for item in records[:50]], NOON)
    record_losses(
        session, [(item.id, item.version, float(item.version == 2), NOON) for item in records[:50]]
    )
    record_evidence(session, [EvidenceSample("digits", 1, "inputs", NOON, 1.0, 11.5, 64)])
    story = timeline(session, "digits", NOON - HOUR, NOON + HOUR)
    assert (story.start, story.end) == (NOON - SECOND * 0.885, NOON + SECOND * 59.885)
    assert [(mark.kind, mark.text) for mark in story.marks] == [
        ("version", "v1 champion"),
        ("rollout", "v2 canary 25\N{NO-BREAK SPACE}%"),
        ("version", "v2 champion"),
        ("incident", "accuracy fell"),
        ("rollback", "traffic back to v1"),
        ("retrain", "retrain asked"),
        ("resolved", "resolved"),
        ("retrain", "retrain done: v3"),
    ]
    assert all(point.low <= point.mean <= point.high for point in story.accuracy)
    assert sorted(point.n for point in story.accuracy) == [3, 17, 30]  # 3 after version 2's turn
    assert {point.mean for point in story.accuracy if point.version == 1} == {1.0}
    shares: dict[datetime, float] = {}
    for share in story.shares:
        shares[share.at] = shares.get(share.at, 0.0) + share.share
    assert set(shares.values()) == {1.0, 0.0}
    (pause,) = [at for at, whole in shares.items() if not whole]
    assert NOON + SECOND * 59 < pause <= story.end
    assert {NOON + SECOND * at for at in (20, 40, 46)} <= shares.keys()
    assert [(point.detector, point.value) for point in story.evidence] == [("inputs", 1.0)]
    assert [incident.title for incident in story.incidents] == ["Version 2: accuracy fell"]
    first, second = story.versions
    assert (first.answers + second.answers, first.labels + second.labels) == (60, 50)
    assert (first.accuracy, second.accuracy) == (1.0, 0.0)
    assert [one.role for one in first.releases] == ["champion", "standby", "champion"]
    assert second.releases[-1].ended_why == "worse"
    assert [line.generation for line in story.ledger] == [1, 2, 3, 4]
    figures = dict(story.figures)
    assert (figures["predictions"], figures["labels"]) == ("60", "50")
    assert (figures["incidents"], figures["rollbacks"]) == ("1", "1")
    assert story.summary.endswith("There was 1 incident and 1 rollback.")
    empty = timeline(session, "digits", NOON - HOUR, NOON - SECOND)
    assert (empty.accuracy, empty.marks) == ([], [])
    assert (empty.start, empty.end) == (NOON - HOUR, NOON - SECOND)
    assert empty.summary == (
        "0 predictions, and no labels yet. There was no incident and no rollback."
    )


def test_the_registry_loads_without_what_is_heavy() -> None:
    """The command line and the polling gateway import it: no torch, no MLflow, no alembic."""
    heavy = [
        "torch",
        "mlflow",
        "alembic",
        "matplotlib",
        "evidently",
        "pandas",
        "fastapi",
        "prefect",
    ]
    code = (
        f"import sys, json, registry; print(json.dumps([n for n in {heavy} if n in sys.modules]))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(answer.stdout) == []
