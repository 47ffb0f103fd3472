"""What the log says of which labels may count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy.orm import Session
from uuid6 import uuid7

from registry import PredictionRecord, log_predictions, record_losses
from registry.losses import begin_call
from registry.ripeness import complete_to, immature_since, label_age

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def ids(session: Session) -> list[str]:
    """A hundred predictions, one a second."""
    records = [
        PredictionRecord(
            id=str(uuid7()),
            model="digits",
            version=1,
            generation=1,
            arm="champion",
            entity="",
            at=NOON + SECOND * number,
            row=[0.0],
            output=np.zeros(2, dtype=np.float32),
            answer={},
        )
        for number in range(100)
    ]
    log_predictions(session, records)
    return [one.id for one in records]


def label(session: Session, ids: list[str], places: list[int], after: int, loss: float) -> None:
    lost = [(ids[place], 1, loss, NOON + SECOND * (place + after)) for place in places]
    record_losses(session, lost, begin_call(session, "digits"))


def test_predictions_are_complete_up_to_the_last_labelled_one_before_a_gap(
    session: Session, ids: list[str]
) -> None:
    before = NOON - SECOND
    assert complete_to(session, "digits", before, 0.95) is None
    label(session, ids, list(range(5, 100, 10)), 1, 1.0)  # wrong answers first
    assert complete_to(session, "digits", before, 0.95) is None
    label(session, ids, [place for place in range(60) if place % 10 != 5], 30, 0.0)
    found = complete_to(session, "digits", before, 0.95)
    assert found is not None
    assert (found.at, found.share) == (60.0, 1.0)
    later = complete_to(session, "digits", NOON + SECOND * 59, 0.95)
    assert later is None
    assert complete_to(session, "other", before, 0.95) is None


def test_delays_are_learnt_from_the_newest_labels(session: Session, ids: list[str]) -> None:
    now = NOON + SECOND * 4_000
    assert label_age(session, "digits", now, 0.02) is None
    assert immature_since(session, "digits", now) is None
    label(session, ids, list(range(0, 100, 2)), 10, 0.0)
    label(session, ids, list(range(1, 100, 2)), 40, 1.0)
    age = label_age(session, "digits", now, 0.02)
    assert age is not None
    assert (age.at, age.late) == (40.0, False)
    young = label_age(session, "digits", NOON + SECOND * 3_599, 0.02)
    assert young is not None
    assert (young.at, young.share) == (40.0, 0.0)
    assert label_age(session, "digits", NOON + SECOND * 119, 0.02) is None
    assert immature_since(session, "digits", now) == now - SECOND * 40
