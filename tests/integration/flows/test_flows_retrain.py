"""Retrain, rollback and report on a real MLflow, Prefect server and database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.pipeline import pipeline
from flows.report import report
from flows.retrain import retrain
from flows.rollback import rollback
from homeostat.errors import DataError, InputError, Refused
from registry import (
    find_incident,
    parents,
    promote,
    regimes,
    retrain_history,
    retrain_running,
    transaction,
    verdict_for,
)
from registry.recoveries import open_recovery

if TYPE_CHECKING:
    from tests.integration.flows.conftest import Site


def test_fine_tuning_forgets_and_is_refused_while_replay_keeps_and_is_tried(
    site: Site,
) -> None:
    pipeline(site.model)
    changed = datetime(2026, 11, 1, 12, tzinfo=UTC)
    site.log_digits(400, 0.0, changed - timedelta(hours=1))
    site.log_digits(400, 0.7, changed, start=700)
    incident = site.open_incident(changed)
    site.use_strategy("fine-tune")

    forgetful = retrain(site.model, incident.id, "first")

    assert not forgetful["passed"]
    assert forgetful["place"] == "rejected"
    assert "regime-0" in forgetful["reason"]
    assert site.aliases() == {"champion": 1}
    assert site.tags(2)["lifecycle.state"] == "rejected"

    site.use_strategy("replay")
    answer = retrain(site.model, incident.id, "second")

    assert answer["passed"], answer["reason"]
    assert site.aliases() == {"champion": 1, "challenger": 3}
    with transaction(site.maker) as session:
        (edge,) = parents(session, answer["digest"])
        history = retrain_history(session, site.model)
        told = find_incident(session, incident.id)
        numbers = [(item.number, item.incident_id) for item in regimes(session, site.model)]
    assert edge.kind == "continual_of"
    assert edge.parent == site.versions.digest(site.model, 1)
    assert edge.recipe["rows"] == 400
    assert [item.outcome.split(":")[0] for item in history] == ["rejected", "challenger"]
    assert all(item.ended_at is not None for item in history)
    refused, tried = (item.learnt for item in history)
    assert refused is not None
    assert tried is not None
    assert [(one.version, one.passed, one.rows) for one in (refused, tried)] == [
        (2, False, 400),
        (3, True, 400),
    ]
    assert tried.gained
    assert tried.loss == pytest.approx(1.0 - answer["accuracy"])
    assert tried.champion_loss > tried.loss + 0.2
    assert tried.until == changed + timedelta(milliseconds=3990)
    assert told is not None
    assert "challenger: version 3" in told.events[-1].text
    assert numbers == [(0, ""), (1, incident.id)]


def test_the_next_retrain_of_a_change_learns_what_the_champion_has_not(site: Site) -> None:
    pipeline(site.model)
    changed = datetime(2026, 11, 1, 12, tzinfo=UTC)
    site.log_digits(300, 0.7, changed)
    incident = site.open_incident(changed)
    with transaction(site.maker) as session:
        open_recovery(session, site.model, incident.id, 1, changed, 0.0, changed)
    retrain(site.model, incident.id, "first")
    site.log_digits(200, 0.7, changed + timedelta(hours=1), start=400)
    with transaction(site.maker) as session:
        promote(session, site.model, 2, actor="t", reason="won", evidence={}, now=changed)

    retrain(site.model, incident.id, "second")

    with transaction(site.maker) as session:
        rows = [one.learnt.rows for one in retrain_history(session, site.model) if one.learnt]
        numbers = [item.number for item in regimes(session, site.model)]
    assert rows == [300, 201]  # from the newest that the first one learnt
    assert numbers == [0, 1]


def test_a_retrain_tells_its_run_what_it_came_from_and_what_it_cost(site: Site) -> None:
    pipeline(site.model)
    changed = datetime(2026, 11, 1, 12, tzinfo=UTC)
    site.log_digits(400, 0.7, changed)

    answer = retrain(site.model)

    run = site.mlflow("runs/get", run_id=answer["run_id"])["run"]
    params = {item["key"]: item["value"] for item in run["data"]["params"]}
    metrics = {item["key"]: item["value"] for item in run["data"]["metrics"]}
    tags = {item["key"]: item["value"] for item in run["data"]["tags"]}
    assert tags["mlflow.parentRunId"] == site.versions.version(site.model, 1).run_id
    assert params["parent_version"] == "1"
    assert params["rows"] == "300"  # without an incident: the policy's newest rows
    assert params["rows_to"] == (changed + timedelta(milliseconds=3990)).isoformat()
    assert metrics["gain"] > 0.2
    assert metrics["forgetting"] < 0.03
    assert metrics["regime_1_accuracy"] > metrics["regime_1_champion_accuracy"]


def test_a_version_made_by_a_retrain_is_the_parent_of_the_next(site: Site) -> None:
    pipeline(site.model)
    changed = datetime(2026, 11, 1, 12, tzinfo=UTC)
    site.log_digits(400, 0.7, changed)
    second = retrain(site.model)
    with transaction(site.maker) as session:
        promote(session, site.model, 2, actor="test", reason="it won", evidence={}, now=changed)
    site.log_digits(400, -0.7, changed + timedelta(hours=1), start=400)

    third = retrain(site.model)

    with transaction(site.maker) as session:
        (edge,) = parents(session, third["digest"])
        verdict = verdict_for(session, site.model, third["version"])
    assert edge.parent == second["digest"]
    assert verdict is not None
    since = ["documents", "slices", "golden", "latency", "memory"]
    gates = [gate.name for gate in verdict.figures]
    assert gates == ["accuracy", "newest-regime", "regime-0", "regime-1", *since]

    fresh = pipeline(site.model, key="afresh")  # it learns the memory of all regimes too

    with transaction(site.maker) as session:
        verdict = verdict_for(session, site.model, fresh["version"])
    assert verdict is not None
    gates = [gate.name for gate in verdict.figures]
    assert gates == ["accuracy", "newest-regime", "regime-0", *since]


def test_a_retrain_without_rows_fails_and_frees_the_lock(site: Site) -> None:
    pipeline(site.model)

    with pytest.raises(DataError, match="0 labelled rows"):
        retrain(site.model, key="hopeless")

    with transaction(site.maker) as session:
        assert retrain_running(session, site.model) is None
        (ended,) = retrain_history(session, site.model)
    assert ended.outcome.startswith("failed: The log has 0 labelled rows")
    with pytest.raises(Refused, match="this request has ended"):
        retrain(site.model, key="hopeless")


def test_a_rollback_moves_routing_aliases_and_tags_together(site: Site) -> None:
    pipeline(site.model)
    pipeline(site.model, key="second")
    with transaction(site.maker) as session:
        promote(session, site.model, 2, actor="t", reason="won", evidence={}, now=datetime.now(UTC))

    answer = rollback(site.model, "It answers nonsense.")

    assert (answer["champion"], answer["withdrawn"]) == (1, 2)
    assert site.aliases() == {"champion": 1}
    assert site.tags(2)["lifecycle.state"] == "rolled_back"
    assert site.tags(2)["lifecycle.reason"] == "It answers nonsense."
    assert site.tags(1)["lifecycle.state"] == "serving"
    with pytest.raises(Refused, match="no standby"):
        rollback(site.model, "Once more.")


def test_a_report_is_written_and_kept_in_mlflow(site: Site) -> None:
    pipeline(site.model)
    site.log_digits(300, 0.0, datetime.now(UTC) - timedelta(hours=2))
    site.log_digits(100, 0.7, datetime.now(UTC) - timedelta(hours=1), start=400)

    answer = report(site.model, hours=3.0)

    assert Path(answer["page"]).read_text().startswith("<!")
    assert Path(answer["picture"]).read_bytes().startswith(b"\x89PNG")
    page = Path(answer["pages"]["drift"]).read_text()
    assert "the newest quarter of the answers" in page
    assert "100 of 100 current rows against 300 of 300 reference rows" in page
    kept = site.mlflow("artifacts/list", run_id=answer["run_id"], path="report")["files"]
    assert sorted(item["path"] for item in kept) == [
        "report/drift.html",
        "report/timeline.html",
        "report/timeline.png",
    ]
    assert site.tags(1)["homeostat.report"] == answer["url"]

    incident = site.open_incident(datetime.now(UTC) - timedelta(minutes=90)).id
    again = report(site.model, presets=("performance",), against="profile", incident=incident)

    page = Path(again["pages"]["performance"]).read_text()
    assert "held-out rows that version 1 was judged by" in page
    with transaction(site.maker) as session:
        found = find_incident(session, incident)
    assert found is not None
    assert found.events[-1].text == f"Report: {again['url']}"
    with pytest.raises(InputError, match="nothing to compare with"):
        report(site.model, hours=3.0, against="yesterday")
