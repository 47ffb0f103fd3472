import json

import numpy as np
import pytest

from homeostat.schema import Feature
from monitoring import GuardDetector, InputDetector, Profile, Signal, masked, read_signal, triage
from monitoring.signals import Kind


def signal(kind: Kind, **details: object) -> Signal:
    return Signal(kind, "d", 12.0, 11.5, 100, 40, details)


def moved(broken: float) -> dict[str, object]:
    return {"name": "age", "evidence": 5.0, "total_variation": 0.4, "broken": broken}


def test_a_loss_pages_and_retrains() -> None:
    verdict = triage(signal("loss"))
    assert (verdict.severity, verdict.action) == ("page", "retrain")
    assert "100 labels" in verdict.reason


def test_a_champion_worse_than_the_standby_goes_back() -> None:
    verdict = triage(signal("worse-than-standby"))
    assert (verdict.severity, verdict.action) == ("page", "rollback")


def test_a_hard_failure_without_a_standby_calls_somebody() -> None:
    verdict = triage(signal("hard-failure", reason="It raises."), has_standby=False)
    assert verdict.action == "page"
    assert verdict.reason == "It raises. There is no standby to go back to."


def test_inputs_that_merely_moved_are_a_ticket() -> None:
    verdict = triage(signal("input-drift", features=[moved(0.0)]))
    assert (verdict.severity, verdict.action) == ("ticket", "watch")
    assert "age (0.40)" in verdict.reason


def test_a_data_break_pages_and_is_not_learnt() -> None:
    verdict = triage(signal("input-drift", features=[moved(0.3)]))
    assert (verdict.severity, verdict.action) == ("page", "page")
    assert "age (+30%)" in verdict.reason


@pytest.mark.parametrize(("mode", "action"), [("observe", "watch"), ("recommend", "page")])
def test_outside_act_mode_nothing_moves_by_itself(mode: str, action: str) -> None:
    kinds: tuple[Kind, ...] = ("loss", "worse-than-standby", "hard-failure")
    for kind in kinds:
        verdict = triage(signal(kind), mode=mode)
        assert verdict.action == action
        assert "Recommended" in verdict.reason


def test_a_registry_signal_says_its_reason() -> None:
    assert triage(signal("registry", reason="Alias moved.")).reason == "Alias moved."
    assert triage(signal("registry", severity="page")).severity == "page"


def test_a_signal_is_read_from_its_detector_as_plain_json() -> None:
    rng = np.random.default_rng(0)
    zeros = np.zeros(300)
    profile = Profile.from_reference(
        [Feature("x")], "classification", rng.normal(size=(300, 1)), zeros, zeros, zeros
    )
    detector = InputDetector(profile, 1_000, 0.1)
    detector.update(rng.normal(5, 1, (64, 1)), zeros[:64], zeros[:64])
    found = read_signal("input-drift", detector, version=3)
    assert found.detector == "InputDetector"
    assert found.details["features"][0]["name"] == "x"
    assert found.details["version"] == 3
    assert json.dumps(found.details)
    guard = GuardDetector(1_000, 0.02)
    guard.update([1.0] * 30)
    assert read_signal("worse-than-standby", guard).since == 30


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.com/T0/B0/secret", "https://hooks.example.com/***"),
        ("http://user:password@example.com:81/?token=x", "http://example.com:81/***"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("prefect+http://ann:secret@prefect:4200/api", "prefect+http://prefect:4200/***"),
        ("slack://token-a/token-b/token-c", "slack://***"),
        ("mailto://user:password@example.com", "mailto://***"),
        ("secret-without-scheme", "***"),
        ("http://[bad", "***"),
        ("http://example.com:port-secret/", "***"),
    ],
)
def test_addresses_are_shown_without_their_secrets(url: str, shown: str) -> None:
    assert masked(url) == shown
