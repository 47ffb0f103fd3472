"""What is still to be learnt follows from the database alone, on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from homeostat.policy import RetrainPolicy
from registry import promote, request_retrain, rollback, write_routing
from registry.recoveries import (
    end_recovery,
    learnt_until,
    on_trial,
    open_recovery,
    progress,
    recovery_of,
    standing_recovery,
)
from registry.retrains import Learnt, finish_retrain

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
RULES = RetrainPolicy(cool_down_seconds=0.0)
TOLERANCE = 0.02


def at(minutes: int) -> datetime:
    return NOW + timedelta(minutes=minutes)


def serve(session: Session, version: int, minutes: int) -> None:
    digest = f"{version:064d}"
    promote(
        session, "m", version, actor="t", reason="t", evidence={}, now=at(minutes), digest=digest
    )


def retrained(session: Session, version: int, minutes: int, loss: float) -> Learnt:
    learnt = Learnt(version, True, 300, at(minutes), loss, 0.4, True)
    key = f"a/{version}"
    assert request_retrain(session, "m", "a", key, RULES, at(minutes)) is not None
    ended = finish_retrain(session, key, "challenger", at(minutes), learnt)
    assert ended.learnt == learnt
    return learnt


def test_a_second_change_keeps_what_was_healthy_before_the_first(session: Session) -> None:
    first = open_recovery(session, "m", "a", 1, at(0), 0.05, at(1))
    assert open_recovery(session, "m", "a", 1, at(9), 0.5, at(9)) == first
    second = open_recovery(session, "m", "b", 2, at(5), 0.3, at(6))
    assert (second.healthy, second.change_at) == (0.05, at(5))
    ended = recovery_of(session, "a")
    assert ended is not None
    assert ended.outcome.startswith("Accuracy fell again")
    end_recovery(session, second.id, "well", at(7))
    end_recovery(session, second.id, "twice", at(8))
    assert standing_recovery(session, "m") is None
    third = open_recovery(session, "m", "c", 2, at(9), 0.3, at(9))
    assert third.healthy == 0.3


def test_a_retrain_counts_once_its_trial_has_ended(session: Session) -> None:
    serve(session, 1, 0)
    record = open_recovery(session, "m", "a", 1, at(0), 0.05, at(1))
    retrained(session, 2, 10, loss=0.2)
    assert on_trial(session, record, at(11))  # its alias is yet to be answered
    assert not on_trial(session, record, at(30))
    write_routing(
        session,
        "m",
        1,
        champion=1,
        challenger=2,
        standby=None,
        phase="shadow",
        canary_share=0.0,
        actor="t",
        reason="t",
        evidence={},
        at=at(12),
    )
    assert on_trial(session, record, at(30))
    waiting = progress(session, record, TOLERANCE, at(30))
    assert waiting is not None
    assert waiting.tried is None
    serve(session, 2, 31)
    assert not on_trial(session, record, at(31))
    taken = progress(session, record, TOLERANCE, at(31))
    assert taken is not None
    assert (taken.tried, taken.learnt) == (300, 300)


@pytest.mark.parametrize("back", [False, True])
def test_what_was_learnt_counts_while_its_version_answers(session: Session, back: bool) -> None:
    serve(session, 1, 0)
    record = open_recovery(session, "m", "a", 1, at(0), 0.05, at(1))
    learnt = retrained(session, 2, 10, loss=0.06)
    serve(session, 2, 11)
    assert progress(session, record, TOLERANCE, at(12)) is None  # well again
    assert learnt_until(session, record) == learnt.until
    if back:
        rollback(session, "m", "t", "it was no good", {}, at(13))
        recovery = progress(session, record, TOLERANCE, at(14))
        assert recovery is not None
        assert (recovery.tried, recovery.learnt) == (300, None)
        assert learnt_until(session, record) is None
