"""Incidents, their alerts, leases and retrains."""

from __future__ import annotations

import dataclasses
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from homeostat.errors import InputError
from monitoring import Alert, Signal, Triage
from monitoring.signals import triage
from registry import (
    Delivery,
    acknowledge,
    delivered,
    due,
    failed,
    find_incident,
    incident_history,
    inform,
    mitigate,
    note,
    open_incidents,
    promote,
    raise_signal,
    resolve,
    rollback,
    undelivered,
)
from registry.incident_signals import renumber_incidents
from registry.tables import OutboxRow, SignalRow

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
URLS = ("http://127.0.0.1:1/alerts", "mailto://user:secret@example.org")
P12 = {"name": "p12", "evidence": 9.0, "total_variation": 0.3, "broken": 0.0}
DRIFT = Signal("input-drift", "inputs", 12.0, 11.5, 4000, 300, {"features": [P12]})
LOSS = Signal("loss", "losses", 13.0, 11.5, 900, 80)
WORSE = Signal("worse-than-standby", "guard", 13.0, 11.5, 40, 40)
TICKET = Triage("ticket", "watch", "The inputs changed.")
PAGE = Triage("page", "retrain", "Accuracy fell.")


def serve(session: Session, version: int, at: datetime = NOON) -> None:
    promote(session, "digits", version, actor="t", reason="t", evidence={}, now=at)


def test_drift_and_loss_of_one_release_are_one_incident(session: Session) -> None:
    serve(session, 1)
    first = raise_signal(session, "digits", 1, DRIFT, TICKET, NOON, "Nothing to undo.", URLS)
    second = raise_signal(session, "digits", 1, LOSS, PAGE, NOON + SECOND, "Roll back.", URLS)
    third = raise_signal(session, "digits", 1, DRIFT, TICKET, NOON + SECOND * 2, "", URLS)
    assert first.id == second.id == third.id
    assert (first.severity, second.severity, third.severity) == ("ticket", "page", "page")
    assert (first.undo, third.undo) == ("Nothing to undo.", "Roll back.")
    assert (first.state, first.kind, first.version) == ("open", "input-drift", 1)
    assert (third.kind, third.details["detector"]) == ("loss", "losses")
    assert (first.title, third.title) == ("digits:1: the inputs changed", "digits:1: accuracy fell")
    assert [event.text for event in third.events] == [
        "inputs: The inputs changed.",
        "losses: Accuracy fell.",
    ]
    assert [item.id for item in open_incidents(session, "digits")] == [first.id]
    assert session.scalar(select(func.count()).select_from(SignalRow)) == 3
    alerts = [(item.url, item.alert.status, item.alert.severity) for item in _all(session)]
    assert alerts == [
        (URLS[0], "open", "ticket"),
        (URLS[1], "open", "ticket"),
        (URLS[0], "update", "page"),
        (URLS[1], "update", "page"),
    ]


def test_a_new_release_of_the_same_version_is_another_cause(session: Session) -> None:
    serve(session, 1)
    serve(session, 2)
    bad = raise_signal(session, "digits", 2, LOSS, PAGE, NOON, "")
    rollback(session, "digits", "guard", "worse", {}, NOON)
    late = raise_signal(session, "digits", 2, LOSS, PAGE, NOON, "")
    other = raise_signal(session, "digits", 1, DRIFT, TICKET, NOON, "")
    assert late.id == bad.id
    assert other.id != bad.id
    serve(session, 2)
    assert raise_signal(session, "digits", 2, LOSS, PAGE, NOON, "").id not in {bad.id, other.id}


def test_an_incident_follows_a_restored_version_to_its_new_number(session: Session) -> None:
    serve(session, 1)
    told = raise_signal(session, "digits", 1, DRIFT, TICKET, NOON, "", URLS[:1])
    lost = dataclasses.replace(DRIFT, kind="registry", details={"subject": "version"})
    gone = raise_signal(session, "digits", 1, lost, TICKET, NOON, "", URLS[:1])
    serve(session, 3)
    renumber_incidents(session, "digits", {1: 3}, NOON + SECOND)
    before = len(_all(session))
    again = raise_signal(session, "digits", 3, DRIFT, TICKET, NOON + SECOND, "", URLS[:1])
    assert (again.id, again.version, again.title) == (told.id, 3, "digits:3: the inputs changed")
    assert len(_all(session)) == before
    by_id = {item.id: item.version for item in open_incidents(session, "digits")}
    assert by_id == {told.id: 3, gone.id: 1}


def test_states_go_forward_only_and_each_is_told_once(session: Session) -> None:
    serve(session, 1)
    opened = raise_signal(session, "digits", 1, LOSS, PAGE, NOON, "", URLS[:1])
    assert acknowledge(session, opened.id, "ann", NOON + SECOND).state == "acknowledged"
    for _ in range(2):
        undo = "homeostat promote digits 1"
        changed = mitigate(session, opened.id, "Went back.", NOON + SECOND * 2, URLS[:1], undo)
        assert changed.state == "mitigated"
    assert acknowledge(session, opened.id, "bob", NOON).state == "mitigated"
    note(session, opened.id, "A retrain runs.", NOON + SECOND * 3)
    for _ in range(2):
        done = resolve(session, opened.id, "Accuracy is back.", NOON + SECOND * 4, URLS[:1])
    assert (done.state, done.resolved_at, done.undo) == ("resolved", NOON + SECOND * 4, undo)
    assert [event.text for event in done.events] == [
        "losses: Accuracy fell.",
        "Acknowledged by ann.",
        "Went back.",
        "A retrain runs.",
        "Accuracy is back.",
    ]
    assert [item.alert.status for item in _all(session)] == ["open", "update", "resolved"]
    assert {item.alert.key for item in _all(session)} == {opened.key}
    assert open_incidents(session) == []

    again = raise_signal(session, "digits", 1, LOSS, PAGE, NOON + HOUR, "", URLS[:1])
    assert again.id != opened.id
    assert again.key != opened.key
    assert [item.id for item in incident_history(session, "digits")] == [again.id, opened.id]
    assert find_incident(session, opened.id) == done


def test_an_incident_is_called_by_its_gravest_signal_whatever_came_first(session: Session) -> None:
    signals = [
        (Signal("registry", "reconciler", 1, 1, 0, 0), Triage("page", "watch", "An alias.")),
        (DRIFT, TICKET),
        (DRIFT, Triage("page", "page", "A data break.")),
        (LOSS, PAGE),
        (WORSE, Triage("page", "rollback", "It loses more.")),
    ]
    turns = [signals[n:] + signals[:n] for n in range(len(signals))]  # each first, and each last
    for order in [*turns, *(turn[::-1] for turn in turns)]:
        incident, *_ = [raise_signal(session, "digits", 1, *one, NOON, "") for one in order][::-1]
        assert (incident.kind, incident.severity) == ("worse-than-standby", "page")
        assert incident.title == "digits:1: it is worse than its standby"
        assert incident.details["kind"] == "worse-than-standby"
        assert incident.details["reason"] == "It loses more."
        resolve(session, incident.id, "Over.", NOON)


def test_an_alert_says_what_happened_what_was_done_what_comes_next_and_how_to_undo_it(
    session: Session,
) -> None:
    serve(session, 1)
    opened = raise_signal(session, "digits", 1, DRIFT, TICKET, NOON, "", URLS[:1])
    note(session, opened.id, "Only for the story.", NOON)
    wish = "run this for {incident}."
    raise_signal(session, "digits", 1, LOSS, PAGE, NOON, "", URLS[:1], next_step=wish)
    inform(session, opened.id, "The trial ended.", NOON, URLS[:1], next_step="another.")
    undo = "homeostat promote digits --version 1"
    mitigate(session, opened.id, "Traffic went back.", NOON, URLS[:1], undo)
    resolve(session, opened.id, "Version 3 answers now.", NOON, URLS[:1], "homeostat rollback")
    both = "Accuracy fell. Seen with it: the inputs changed."
    assert [item.alert.text for item in _all(session)] == [
        "The inputs changed. Nothing was done yet. Next: nothing, until labels say that accuracy "
        "fell.",
        f"{both} Nothing was done yet. Next: run this for {opened.id}.",
        f"{both} The trial ended. Next: another.",
        f"{both} Traffic went back. Next: somebody has to look for the cause. "
        "To undo: homeostat promote digits --version 1",
        f"{both} Version 3 answers now. Next: nothing; it is over. To undo: homeostat rollback",
    ]
    statuses = [item.alert.status for item in _all(session)]
    assert statuses == ["open", "update", "update", "update", "resolved"]


def test_inputs_that_moved_after_accuracy_fell_are_told_with_what_comes_next(
    session: Session,
) -> None:
    serve(session, 1)
    opened = raise_signal(session, "digits", 1, LOSS, PAGE, NOON, "", URLS[:1])
    raise_signal(session, "digits", 1, DRIFT, TICKET, NOON, "", URLS[:1])
    resolve(session, opened.id, "Version 3 answers now.", NOON, URLS[:1])
    first, last = (item.alert for item in _all(session))
    assert first.details["signals"] == ["loss"]
    assert last.details["signals"] == ["loss", "input-drift"]
    assert last.text.startswith("Accuracy fell. Seen with it: the inputs changed.")


def test_a_break_that_shows_after_its_drift_was_told_pages(session: Session) -> None:
    serve(session, 1)
    raise_signal(session, "digits", 1, DRIFT, TICKET, NOON, "", URLS[:1])
    gone = dataclasses.replace(DRIFT, details={"features": [P12 | {"broken": 0.9}]})
    raise_signal(session, "digits", 1, gone, triage(gone), NOON + SECOND, "", URLS[:1])
    (incident,) = open_incidents(session, "digits")
    assert incident.details["verdict"]["verdict"] == "data-break"
    first, last = (item.alert for item in _all(session))
    assert (first.status, first.severity) == ("open", "ticket")
    assert (last.status, last.severity) == ("update", "page")
    assert last.text.startswith("Data break: values missing or never seen before in p12 (+90%).")


def test_what_is_raised_and_mitigated_at_once_is_one_alert_that_opens(session: Session) -> None:
    serve(session, 1)
    raised = raise_signal(session, "digits", 1, WORSE, PAGE, NOON, "")
    mitigate(session, raised.id, "Traffic went back.", NOON, URLS[:1], "undo", happened="Worse.")
    (only,) = _all(session)
    assert (only.alert.status, only.alert.details["state"]) == ("open", "mitigated")
    assert only.alert.text.startswith("Worse. Traffic went back. Next: ")


def test_a_graver_signal_opens_what_was_mitigated_again(session: Session) -> None:
    serve(session, 1)
    put_back = Triage("ticket", "watch", "The alias was taken away.")
    alias = Signal("registry", "reconciler", 1, 1, 0, 0)
    first = raise_signal(session, "digits", 1, alias, put_back, NOON, "", URLS[:1])
    mitigate(session, first.id, "It was put back.", NOON, URLS[:1])
    assert raise_signal(session, "digits", 1, alias, put_back, NOON, "").state == "mitigated"
    other = Triage("ticket", "watch", "The alias was taken away again.")
    again = raise_signal(session, "digits", 1, alias, other, NOON, "")
    assert [event.text for event in again.events][-1] == f"reconciler: {other.reason}"
    assert raise_signal(session, "digits", 1, LOSS, PAGE, NOON, "", URLS[:1]).state == "open"
    assert mitigate(session, first.id, "It went back.", NOON, URLS[:1]).state == "mitigated"
    states = [(item.alert.details["state"], item.alert.details["kind"]) for item in _all(session)]
    assert states == [
        ("open", "registry"),
        ("mitigated", "registry"),
        ("open", "loss"),
        ("mitigated", "loss"),
    ]


def test_of_two_estimates_of_one_change_the_earlier_stands(session: Session) -> None:
    serve(session, 1)
    for at in (NOON - HOUR, NOON, NOON - SECOND):
        late = dataclasses.replace(LOSS, details={"since_at": at.isoformat()})
        found = raise_signal(session, "digits", 1, late, PAGE, NOON, "")
    assert found.details["since_at"] == (NOON - HOUR).isoformat()


def test_an_unknown_incident_is_named(session: Session) -> None:
    assert find_incident(session, "none") is None
    with pytest.raises(InputError, match="none"):
        note(session, "none", "?", NOON)


def test_signals_at_once_open_one_incident(maker: sessionmaker[Session]) -> None:
    with maker.begin() as session:
        serve(session, 1)
    found: list[str] = []
    failures: list[BaseException] = []
    barrier = threading.Barrier(8, timeout=60)

    def signal() -> None:
        try:
            barrier.wait()
            with maker.begin() as session:
                incident = raise_signal(session, "digits", 1, LOSS, PAGE, NOON, "", URLS)
            found.append(incident.id)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=signal) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(set(found)) == 1
    with maker() as session:
        assert len(_all(session)) == len(URLS)


def test_the_outbox_repeats_until_it_arrived_with_a_bounded_wait(session: Session) -> None:
    serve(session, 1)
    incident = raise_signal(session, "digits", 1, LOSS, PAGE, NOON, "", URLS)
    resolve(session, incident.id, "Over.", NOON + SECOND, URLS)
    first, second = due(session, NOON + SECOND)
    assert [first.alert.status, second.alert.status] == ["open", "open"]
    assert first.alert.at == NOON
    delivered(session, second.id, NOON)
    # The one that arrived lets its successor out; the other holds its own back.
    after = due(session, NOON + SECOND)
    assert [(item.url, item.alert.status) for item in after] == [
        (URLS[0], "open"),
        (URLS[1], "resolved"),
    ]
    now, waits = NOON, []
    for _ in range(9):
        failed(session, first.id, "refused", now)
        row = session.get(OutboxRow, first.id)
        assert row is not None
        waits.append((row.next_at - now).total_seconds())
        assert first.id not in [item.id for item in due(session, row.next_at - SECOND / 10)]
        now = row.next_at
        assert first.id in [item.id for item in due(session, now)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 30]
    assert undelivered(session)[0][1:] == (9, "refused")
    assert "secret" not in str(undelivered(session))
    delivered(session, first.id, now)
    failed(session, first.id, "too late", now)
    assert [item.alert.status for item in due(session, now)] == ["resolved", "resolved"]


def _all(session: Session) -> list[Delivery]:
    """Every alert that was ever put out, whether it is due or not."""
    rows = session.execute(
        select(
            OutboxRow.id, OutboxRow.incident_id, OutboxRow.url, OutboxRow.alert, OutboxRow.attempts
        ).order_by(OutboxRow.id)
    )
    return [
        Delivery(key, incident, url, Alert(**alert), attempts)
        for key, incident, url, alert, attempts in rows
    ]
