"""What a Prefect server is told of an incident."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from prefect.server.events.schemas.events import Event

from monitoring import Alert
from monitoring.prefect_events import event

ALERT = Alert(
    id="digits:loss/open",
    key="digits:loss",
    status="open",
    severity="page",
    title="digits:1: accuracy fell",
    text="The mean loss has risen.",
    model="digits",
    at=datetime(2026, 11, 21, 12, 0, tzinfo=UTC),
    details={"incident": "0190-7", "kind": "loss", "state": "open", "undo": "homeostat rollback"},
)


def test_an_alert_is_an_event_of_its_model_with_the_incident_beside_it() -> None:
    told = Event.model_validate(event(ALERT))  # as Prefect's own server reads it
    assert told.event == "homeostat.incident.open"
    assert told.resource.id == "homeostat.model.digits"
    assert told.resource["homeostat.kind"] == "loss"
    assert told.resource["homeostat.severity"] == "page"
    (related,) = told.related
    assert (related.role, related.id) == ("incident", "homeostat.incident.0190-7")
    assert told.occurred == ALERT.at
    assert told.payload["model"] == "digits"
    assert told.payload["incident"] == "0190-7"
    assert told.payload["undo"] == "homeostat rollback"
    assert told.payload["text"] == ALERT.text


def test_a_repetition_has_the_same_id_and_other_news_another() -> None:
    first, again, other = event(ALERT), event(ALERT), event(replace(ALERT, id="digits:loss/closed"))
    assert first["id"] == again["id"] != other["id"]
    assert UUID(first["id"])


def test_what_is_about_no_incident_has_none_beside_it() -> None:
    told = event(replace(ALERT, status="digest", details={}))
    assert told["event"] == "homeostat.digest"
    assert told["related"] == []
