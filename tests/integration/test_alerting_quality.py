"""Alert quality and the digest, from what the lifecycle database holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from homeostat.cli import app
from homeostat.clock import utc_now
from homeostat.errors import InputError
from homeostat.policy import AlertRoute
from monitoring import Signal, Triage
from registry import connect, promote, sessions, transaction
from registry.alert_quality import alerts_told, judge
from registry.digests import digest, put_digest
from registry.incidents import acknowledge, raise_signal, resolve
from registry.outbox import due

if TYPE_CHECKING:
    from tests.integration.conftest import Station

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LOSS = Signal("loss", "LossDetector", 12, 11.5, 90, 40, {"since_at": (NOON - HOUR).isoformat()})
DRIFT = Signal("input-drift", "InputDetector", 12, 11.5, 90, 40, {"features": []})
PAGE = Triage("page", "retrain", "Accuracy fell.")
TICKET = Triage("ticket", "watch", "The inputs moved.")
READERS = (
    "https://hooks.example.org/x",
    AlertRoute(to="slack://a/b/c", hours="Mon-Fri 14:00-15:00"),
)
NO_READERS = (
    "pagerduty://KEY",
    "alertmanager+http://am:9093",
    AlertRoute(to="json://night", severity="page"),
)


def serve(session: Session) -> None:
    promote(
        session,
        "digits",
        1,
        actor="test",
        reason="the test says so",
        evidence={},
        now=NOON - 2 * HOUR,
        digest="d" * 64,
    )


def test_each_detector_is_judged_by_its_incidents(session: Session) -> None:
    serve(session)
    drift = raise_signal(session, "digits", 1, DRIFT, TICKET, NOON, "")
    raise_signal(session, "digits", 1, LOSS, PAGE, NOON + HOUR, "")
    acknowledge(session, drift.id, "ann", NOON + 2 * HOUR)
    told = alerts_told(session, NOON, NOON + HOUR, "digits")
    assert [(one.detector, one.severity, one.worth) for one in told] == [
        ("InputDetector", "page", "real"),
        ("LossDetector", "page", "real"),
    ]
    assert [one.changed_at for one in told] == [None, NOON - HOUR]
    assert {one.acknowledged_at for one in told} == {NOON + 2 * HOUR}
    assert alerts_told(session, NOON, NOON + HOUR, "letters") == []
    assert alerts_told(session, NOON + HOUR, NOON + 2 * HOUR) == []


def test_what_a_person_says_of_an_incident_outlives_its_later_signals(session: Session) -> None:
    serve(session)
    opened = raise_signal(session, "digits", 1, DRIFT, TICKET, NOON, "")
    kept = judge(session, opened.id, "false alarm", "ann", NOON)
    assert kept.events[-1].text == "ann says: false alarm."
    raise_signal(session, "digits", 1, LOSS, PAGE, NOON, "")
    assert {one.worth for one in alerts_told(session, NOON, NOON + HOUR)} == {"false alarm"}
    resolve(session, opened.id, "Over.", NOON)
    judge(session, opened.id, "real", "ann", NOON)
    assert {one.worth for one in alerts_told(session, NOON, NOON + HOUR)} == {"real"}
    with pytest.raises(InputError, match="There is no incident 'nobody'"):
        judge(session, "nobody", "real", "ann", NOON)


def test_a_digest_goes_once_to_readers_and_to_no_pager(session: Session) -> None:
    serve(session)
    raise_signal(session, "digits", 1, LOSS, PAGE, NOON, "")
    found = digest(session, "digits", NOON - 6 * HOUR, NOON + HOUR)
    for _ in range(2):
        told = put_digest(session, found, (*READERS, *NO_READERS))
        assert told == ["https://hooks.example.org/x", "slack://a/b/c"]
    assert [one.url for one in due(session, NOON + HOUR)] == ["https://hooks.example.org/x"]
    *_, late = due(session, NOON + 3 * HOUR)
    assert (late.url, late.alert.status) == ("slack://a/b/c", "digest")
    assert late.alert.text.splitlines() == [
        "Incidents: 1 opened, 1 of them pages; 1 open now.",
        "  open: digits:1: accuracy fell (page, open)",
        "Alerts: 1 of 1 judged were about something, none acknowledged.",
        "  LossDetector: 1 told, 1 pages, 1 of 1 judged were about something",
        "Retrains: none.",
        "Traffic moved by: test 1.",
    ]


def test_the_command_shows_quality_and_takes_a_judgement(
    station: Callable[..., Station], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = station()
    here.serve(1)
    with transaction(sessions(connect(here.settings.database))) as session:
        opened = raise_signal(session, "digits", 1, DRIFT, TICKET, utc_now(), "")
    monkeypatch.setenv("HOMEOSTAT_STATE_DIR", str(here.settings.state_dir))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ["incidents", *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert "false alarm" in run("judge", opened.id, "--false-alarm")
    said = json.loads(run("quality", "--json", "--model", "digits"))
    assert [one["detector"] for one in said["detectors"]] == ["InputDetector", "all"]
    assert said["detectors"][0]["precision"] == 0.0
    assert "InputDetector" in run("quality")
