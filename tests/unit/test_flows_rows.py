from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flows.changes import regime_number
from flows.rows import as_dataset, change_point
from registry import Incident, LabelledRow, Regime

OPENED = datetime(2026, 11, 21, 12, tzinfo=UTC)


def incident(details: dict[str, Any]) -> Incident:
    return Incident(
        id="i",
        model="m",
        key="k",
        kind="loss",
        severity="page",
        state="open",
        title="m:1: accuracy fell",
        opened_at=OPENED,
        resolved_at=None,
        version=1,
        undo="",
        details=details,
    )


def test_a_change_began_when_the_detector_estimates_it() -> None:
    since = "2026-11-21T11:59:00.250000+00:00"

    assert change_point(incident({"since_at": since})).isoformat() == since


@pytest.mark.parametrize("details", [{}, {"since_at": "soon"}, {"since_at": "2026-11-21T11:59"}])
def test_without_a_moment_that_can_be_meant_the_opening_counts(details: dict[str, Any]) -> None:
    assert change_point(incident(details)) == OPENED


def test_logged_rows_keep_their_order_and_their_labels() -> None:
    rows = [LabelledRow(str(n), OPENED, [n, n], n % 2, 1, None) for n in range(4)]

    dataset = as_dataset(rows)

    assert dataset.rows == ([0, 0], [1, 1], [2, 2], [3, 3])
    assert dataset.labels == (0, 1, 0, 1)


def test_a_new_incident_opens_the_next_regime() -> None:
    known = [Regime("m", 0, OPENED, "", 1), Regime("m", 1, OPENED, "old", 2)]

    assert regime_number(known, "new", (0,)) == 2
    assert regime_number([], "new", (0, 1, 2)) == 3


def test_a_second_retrain_for_an_incident_learns_the_same_regime() -> None:
    known = [Regime("m", 0, OPENED, "", 1), Regime("m", 1, OPENED, "old", 2)]

    assert regime_number(known, "old", (0, 1)) == 1
