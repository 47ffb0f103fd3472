"""What is put out to whom, and what is to be said again."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from homeostat.policy import AlertRoute
from monitoring import Signal, Triage
from registry import promote
from registry.incidents import raise_signal, resolve
from registry.outbox import delivered, due, standing
from registry.tables import OutboxRow

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
LOSS = Signal("loss", "LossDetector", 12, 11.5, 90, 40, {})
DRIFT = Signal("input-drift", "InputDetector", 12, 11.5, 90, 40, {"features": []})
PAGE = Triage("page", "retrain", "Accuracy fell.")
TICKET = Triage("ticket", "watch", "The inputs moved.")


def serve(session: Session) -> None:
    promote(
        session,
        "digits",
        1,
        actor="test",
        reason="the test says so",
        evidence={},
        now=NOON,
        digest="d" * 64,
    )


def put_out(session: Session) -> list[tuple[str, str]]:
    """Address and status of every alert, in order."""
    rows = session.execute(select(OutboxRow.url, OutboxRow.alert).order_by(OutboxRow.id))
    return [(url, alert["status"]) for url, alert in rows]


def test_what_stands_is_the_last_word_on_each_open_incident_once_all_has_arrived(
    session: Session,
) -> None:
    serve(session)
    urls = ("alertmanager+http://am:9093", "https://hooks.example.org")
    first = raise_signal(session, "digits", 1, DRIFT, TICKET, NOON, "", urls)
    other = raise_signal(session, "digits", 2, LOSS, PAGE, NOON, "", urls)
    assert standing(session, "alertmanager+") == []
    deliver_all(session)
    found = standing(session, "alertmanager+")
    assert [(one.incident_id, one.alert.status, one.url) for one in found] == [
        (first.id, "open", urls[0]),
        (other.id, "open", urls[0]),
    ]
    raise_signal(session, "digits", 1, LOSS, PAGE, NOON, "", urls)
    resolve(session, other.id, "Over.", NOON, urls)
    assert standing(session, "alertmanager+") == []  # the news of both are on their way
    deliver_all(session)
    (last,) = standing(session, "alertmanager+")
    assert (last.incident_id, last.alert.status, last.alert.severity) == (
        first.id,
        "update",
        "page",
    )


def test_an_address_that_first_hears_of_a_page_is_told_as_if_it_opened(session: Session) -> None:
    serve(session)
    urls = ("https://chat", AlertRoute(to="pagerduty://KEY", severity="page"))
    opened = raise_signal(session, "digits", 1, DRIFT, TICKET, NOON, "", urls)
    assert put_out(session) == [("https://chat", "open")]
    raise_signal(session, "digits", 1, LOSS, PAGE, NOON, "", urls)
    resolve(session, opened.id, "Over.", NOON, urls)
    assert put_out(session) == [
        ("https://chat", "open"),
        ("https://chat", "update"),
        ("pagerduty://KEY", "open"),
        ("https://chat", "resolved"),
        ("pagerduty://KEY", "resolved"),
    ]


def deliver_all(session: Session) -> None:
    while waiting := due(session, NOON):
        for one in waiting:
            delivered(session, one.id, NOON)
