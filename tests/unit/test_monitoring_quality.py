"""How good alerts are, by who knows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitoring.quality import Told, quality, worth_of

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


ONE = Told("a", "d", "page", NOON, NOON, NOON - 2 * MINUTE, None, "real")


def told(incident: str, detector: str, worth: str = "real", **changes: object) -> Told:
    named = {"incident": incident, "detector": detector, "worth": worth}
    return Told(**vars(ONE) | named | changes)


@pytest.mark.parametrize(
    ("judged", "verdict", "taken_on", "worth"),
    [
        ("false alarm", "real-loss", True, "false alarm"),
        ("real", "harmless-drift", False, "real"),
        ("", "real-loss", False, "real"),
        ("", "data-break", False, "real"),
        ("", "harmless-drift", True, "false alarm"),
        ("", "immature", True, "unknown"),
        ("", "operational", True, "real"),
        ("", "operational", False, "unknown"),
        ("", "", True, "unknown"),
    ],
)
def test_a_persons_word_counts_before_labels_and_labels_before_an_acknowledgement(
    judged: str, verdict: str, taken_on: bool, worth: str
) -> None:
    assert worth_of(judged, verdict, taken_on=taken_on) == worth


def test_an_incident_counts_for_each_detector_and_once_for_all() -> None:
    found = quality(
        [
            told("a", "InputDetector", seen_at=NOON, acknowledged_at=NOON + 4 * MINUTE),
            told("a", "LossDetector", seen_at=NOON + MINUTE, acknowledged_at=NOON + 4 * MINUTE),
            told("b", "InputDetector", "false alarm", severity="ticket"),
            told("c", "InputDetector", "unknown", severity="ticket", changed_at=None),
        ],
        days=14,
    )
    inputs, losses, every = found
    assert [one.detector for one in found] == ["InputDetector", "LossDetector", "all"]
    assert (inputs.incidents, inputs.pages, inputs.precision) == (3, 1, 0.5)
    assert (losses.incidents, losses.precision, losses.detect_seconds) == (1, 1.0, 180.0)
    assert (every.incidents, every.pages, every.pages_a_week) == (3, 1, 0.5)
    assert (every.real, every.false_alarms, every.unknown) == (1, 1, 1)
    assert every.detect_seconds == 120.0  # of the first detector to see it
    assert (every.acknowledged, every.acknowledge_seconds) == (1, 240.0)


def test_little_knowledge_has_a_wide_interval() -> None:
    *_, few = quality([told(str(n), "d") for n in range(2)], 7)
    *_, many = quality([told(str(n), "d") for n in range(200)], 7)
    assert few.precision_low == pytest.approx(0.025**0.5)  # exact: all of two
    assert many.precision_low is not None
    assert many.precision_low > 0.98


def test_nothing_told_is_no_precision() -> None:
    (every,) = quality([], 7)
    assert (every.incidents, every.precision, every.precision_low) == (0, None, None)
    assert (every.detect_seconds, every.acknowledge_seconds) == (None, None)
