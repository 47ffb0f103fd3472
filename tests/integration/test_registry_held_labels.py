"""Labels that wait for a person: held back, released, dropped, freed, forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy.orm import Session
from uuid6 import uuid7

from flows.rows import rows_since_change
from homeostat.errors import DataError, Refused
from homeostat.policy import RetrainPolicy
from registry import (
    LabelItem,
    PredictionRecord,
    labelled_rows,
    log_predictions,
    record_labels,
    record_losses,
)
from registry.forgetting import count_rows, remove_rows
from registry.held_labels import Decision, count_learnable, decide, held_labels, screen
from registry.labels import count_labelled
from registry.ledger import lines_of

CHANGE = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LATER = CHANGE + timedelta(hours=1)


def labelled(
    session: Session, source: str, count: int, losses: Sequence[float], at: datetime
) -> list[str]:
    """Predictions with a label of a source each, and what the label says of them."""
    records = [
        PredictionRecord(
            id=str(uuid7()),
            model="digits",
            version=1,
            generation=1,
            arm="champion",
            entity="",
            at=at + SECOND * number,
            row=[number],
            output=np.zeros(2, dtype=np.float32),
            answer={"prediction": 4, "confidence": 0.5},
        )
        for number in range(count)
    ]
    log_predictions(session, records)
    ids = [record.id for record in records]
    record_labels(session, [LabelItem(key, 5, source) for key in ids], at + SECOND * count)
    record_losses(session, [(key, 1, losses[n % len(losses)], at) for n, key in enumerate(ids)])
    return ids


@pytest.fixture
def ids(session: Session) -> dict[str, list[str]]:
    """A clinic that has always sent labels, and a bot that began with the change."""
    labelled(session, "clinic", 120, [0.0], CHANGE - timedelta(minutes=10))
    return {
        "clinic": labelled(session, "clinic", 60, [0.0, 0.0, 0.0, 1.0], CHANGE),
        "bot": labelled(session, "bot", 60, [1.0], CHANGE),
    }


def screened(session: Session) -> set[str]:
    rows = labelled_rows(session, "digits", CHANGE, 1000)
    return {row.id for row in screen(session, "digits", rows, CHANGE, LATER)}


def let(
    session: Session,
    decision: Decision,
    source: str | None = None,
    ids: Sequence[str] = (),
) -> int:
    return decide(
        session,
        "digits",
        decision,
        source=source,
        ids=ids,
        actor="ann",
        reason="looked",
        now=LATER,
    )


def test_a_new_sources_labels_wait_until_a_person_lets_them_pass(
    session: Session, ids: dict[str, list[str]]
) -> None:
    assert screened(session) == set(ids["clinic"])
    (held,) = held_labels(session, "digits")
    assert (held.reason, held.source, held.decision, held.count) == ("new-source", "bot", "", 60)

    assert let(session, "released", source="bot") == 60

    assert screened(session) == {*ids["clinic"], *ids["bot"]}
    line = lines_of(session, "digits")[-1]
    assert (line.kind, line.actor, line.reason) == ("labels-released", "ann", "looked")
    more = labelled(session, "bot", 30, [1.0], CHANGE + timedelta(minutes=5))
    assert set(more) <= screened(session)  # its source is trusted from then on


def test_what_is_dropped_is_never_learnt_from(session: Session, ids: dict[str, list[str]]) -> None:
    screened(session)
    assert let(session, "dropped") == 60
    assert screened(session) == set(ids["clinic"])
    assert [each.decision for each in held_labels(session, "digits")] == ["dropped"]
    with pytest.raises(Refused, match="No label of 'digits' is held back"):
        let(session, "released")


def test_a_single_label_is_decided_on_by_its_prediction(
    session: Session, ids: dict[str, list[str]]
) -> None:
    screened(session)
    assert let(session, "dropped", ids=ids["bot"][:1]) == 1
    assert [each.count for each in held_labels(session, "digits")] == [59, 1]


def test_a_contested_label_waits_until_it_is_revised(
    session: Session, ids: dict[str, list[str]]
) -> None:
    screened(session)
    let(session, "dropped", source="bot")
    contested = ids["clinic"][7]
    record_labels(session, [LabelItem(contested, 6, "ward")], LATER)
    assert contested not in screened(session)
    assert {each.reason for each in held_labels(session, "digits")} == {"contested", "new-source"}

    record_labels(session, [LabelItem(contested, 6, "clinic", revise=True)], LATER + SECOND)

    assert contested in screened(session)
    assert {each.reason for each in held_labels(session, "digits")} == {"new-source"}


def test_a_retrain_that_may_learn_from_too_little_says_where_the_rest_is(session: Session) -> None:
    labelled(session, "clinic", 120, [0.0], CHANGE - timedelta(minutes=10))
    labelled(session, "bot", 60, [1.0], CHANGE)
    policy = RetrainPolicy(min_labels=60)

    with pytest.raises(DataError, match="60 of them held back") as told:
        rows_since_change(session, "digits", None, policy, LATER)
    assert "homeostat held digits" in told.value.remedy

    free = policy.model_copy(update={"screen_labels": False})
    assert len(rows_since_change(session, "digits", None, free, LATER)[0]) == 60


def test_forgetting_a_subject_takes_its_held_labels_too(
    session: Session, ids: dict[str, list[str]]
) -> None:
    screened(session)
    gone = ids["bot"][:3]
    assert count_rows(session, "digits", gone)["held labels"] == 3
    assert remove_rows(session, "digits", gone)["held labels"] == 3
    assert [each.count for each in held_labels(session, "digits")] == [57]


def test_labels_that_are_held_back_are_none_to_learn_from(
    session: Session, ids: dict[str, list[str]]
) -> None:
    assert count_labelled(session, "digits", CHANGE) == 120
    assert count_learnable(session, "digits", CHANGE) == 60
    assert held_labels(session, "digits") == []  # counting holds nothing back
    screened(session)
    assert count_learnable(session, "digits", CHANGE) == 60
    let(session, "dropped", ids=ids["bot"][:20])
    let(session, "released", source="bot")
    assert count_learnable(session, "digits", CHANGE) == 100
