"""The signature of our webhooks, and what PagerDuty is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from homeostat.errors import SettingsError
from homeostat.setting_tables import AlertingSettings
from homeostat.settings import load_settings
from monitoring import Alert
from monitoring.alerts import Status
from monitoring.pagerduty import event, is_ours
from monitoring.webhooks import seal, signature

# A test vector that libraries of Standard Webhooks are checked with.
VECTOR = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ALERT = Alert(
    id="digits:1@g1/open/page/loss",
    key="digits:1@g1",
    status="open",
    severity="page",
    title="digits:1: accuracy fell",
    text="Accuracy fell.",
    model="digits",
    at=datetime(2026, 11, 26, tzinfo=UTC),
    details={"state": "open", "kind": "loss", "runbook": "https://wiki/loss.md", "undo": "x"},
)


def test_a_webhook_is_signed_as_the_standard_says() -> None:
    found = seal(VECTOR, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_repetition_has_the_same_id_and_no_id_has_a_full_stop() -> None:
    first, again = (signature(VECTOR, "a.b/c", at, b"{}") for at in (1, 2))
    assert first["webhook-id"] == again["webhook-id"]
    assert first["webhook-signature"] != again["webhook-signature"]
    assert "." not in first["webhook-id"]


@pytest.mark.parametrize("secret", ["topsecret", "whsec_dG9vIHNob3J0", "whsec_not base64!"])
def test_a_secret_that_is_none_is_refused_and_not_shown(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEOSTAT_ALERTING__WEBHOOK_SECRET", secret)
    with pytest.raises(SettingsError, match="whsec_ and 24 to 64 bytes") as caught:
        load_settings()
    assert secret not in str(caught.value)


def test_a_secret_is_taken_and_not_shown() -> None:
    settings = AlertingSettings.model_validate({"webhook_secret": VECTOR})
    assert VECTOR not in repr(settings)
    assert settings.webhook_secret.get_secret_value() == VECTOR


def test_an_incident_is_one_for_pagerduty_from_trigger_to_resolve() -> None:
    steps: list[tuple[Status, str]] = [
        ("open", "open"),
        ("update", "open"),
        ("update", "acknowledged"),
        ("update", "mitigated"),
        ("resolved", "resolved"),
    ]
    events = [
        event(replace(ALERT, status=status, details=ALERT.details | {"state": state}), "KEY")
        for status, state in steps
    ]
    assert [one["event_action"] for one in events] == [
        "trigger",
        "trigger",
        "acknowledge",
        "acknowledge",
        "resolve",
    ]
    assert {one["dedup_key"] for one in events} == {"digits:1@g1"}
    assert events[0]["payload"]["severity"] == "critical"
    assert events[0]["links"] == [{"href": "https://wiki/loss.md", "text": "Runbook"}]
    assert "payload" not in events[-1]


def test_what_was_mitigated_before_anybody_heard_of_it_is_triggered() -> None:
    whole = replace(ALERT, details=ALERT.details | {"state": "mitigated"})
    assert event(whole, "KEY")["event_action"] == "trigger"


def test_an_address_of_apprises_own_pagerduty_stays_apprises() -> None:
    assert is_ours("pagerduty://R0UTINGKEY")
    assert not is_ours("pagerduty://integration@api")
