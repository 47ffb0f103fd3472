"""Verdicts are kept whole, on both databases, and those of before the migration stay readable."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from homeostat.errors import ArtifactError
from registry import (
    GateFigure,
    Verdict,
    connect,
    downgrade,
    record_verdict,
    sessions,
    transaction,
    upgrade,
    verdict_for,
)
from registry.tables import VerdictRow

NOON = datetime(2026, 11, 25, 12, 0, 0, 123456, tzinfo=UTC)
DIGEST = "d" * 64
FIGURE = GateFigure("slices", 0.1, 0.05, False, "Lost 0.1 + ä.", {"label=3": {"lost": 0.1}})


def test_a_verdict_comes_back_as_it_was_recorded_and_the_newest_counts(session: Session) -> None:
    first = Verdict(False, (FIGURE,), DIGEST, 0.05, {"min_accuracy": 1 / 3}, NOON)
    record_verdict(session, "digits", 1, first, NOON)
    found = verdict_for(session, "digits", 1)
    assert found == first
    assert found.hash == first.hash
    record_verdict(session, "digits", 1, Verdict(True, (), DIGEST), NOON)
    found = verdict_for(session, "digits", 1)
    assert found is not None
    assert found.passed
    assert verdict_for(session, "digits", 2) is None


def test_a_verdict_that_was_changed_in_the_database_is_refused(session: Session) -> None:
    record_verdict(session, "digits", 1, Verdict(False, (FIGURE,), DIGEST), NOON)
    session.execute(update(VerdictRow).values(passed=True))
    with pytest.raises(ArtifactError, match="changed after it was recorded"):
        verdict_for(session, "digits", 1)


def test_verdicts_from_before_keep_their_figures_through_the_migration(
    empty_database_url: str,
) -> None:
    url = empty_database_url
    upgrade(url, "0001")
    engine = connect(url)
    old = (
        "INSERT INTO verdicts (model, version, digest, passed, figures, at) VALUES"
        " ('digits', 3, :digest, :passed, :figures, :at)"
    )
    figures = '[{"name": "accuracy", "figure": 0.5, "bound": 0.8, "passed": false, "reason": "R"}]'
    values = {"digest": DIGEST, "passed": False, "figures": figures, "at": NOON}
    with engine.begin() as connection:
        connection.execute(text(old), values)
    upgrade(url)
    with transaction(sessions(engine)) as session:
        found = verdict_for(session, "digits", 3)
    assert found == Verdict(False, (GateFigure("accuracy", 0.5, 0.8, False, "R"),), DIGEST)
    downgrade(url, "0001")
    with engine.begin() as connection:
        (kept,) = connection.execute(text("SELECT figures FROM verdicts")).scalars()
    assert "accuracy" in str(kept)
    upgrade(url)
    with transaction(sessions(engine)) as session:
        assert verdict_for(session, "digits", 3) == found
    engine.dispose()
