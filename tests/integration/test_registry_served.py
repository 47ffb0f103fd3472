"""Which version served at a moment: the routing in force, and what the log saw besides."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from homeostat.errors import NothingServed
from registry import (
    PredictionRecord,
    Routing,
    connect,
    downgrade,
    log_predictions,
    record,
    served_at,
    sessions,
    upgrade,
    write_routing,
)
from registry.served import routings_at

NOON = datetime(2026, 11, 22, 12, 59, 59, 999_999, tzinfo=UTC)
TICK = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)


def move(session: Session, expected: int, champion: int, **changes: object) -> Routing:
    values: dict[str, Any] = {
        "champion": champion,
        "challenger": None,
        "standby": None,
        "phase": "steady",
        "canary_share": 0.0,
        "actor": "ann",
        "reason": f"reason {expected + 1}",
        "evidence": {},
        "at": NOON + MINUTE * expected,
        "digests": {champion: f"{champion:064x}"},
    }
    return write_routing(session, "digits", expected, **values | changes)


def answered(number: int, generation: int, version: int, at: datetime) -> PredictionRecord:
    return PredictionRecord(
        id=f"{number:036d}",
        model="digits",
        version=version,
        generation=generation,
        arm="champion",
        entity="",
        at=at,
        row=[1.0],
        output=np.zeros(2, dtype=np.float32),
        answer={},
    )


def test_nothing_served_before_the_first_routing(session: Session) -> None:
    move(session, 0, 1)
    with pytest.raises(NothingServed, match="came later"):
        served_at(session, "digits", NOON - TICK)
    with pytest.raises(NothingServed):
        served_at(session, "other", NOON)


def test_the_routing_in_force_says_who_and_why(session: Session) -> None:
    move(session, 0, 1)
    move(session, 1, 1, challenger=3, standby=2, phase="canary", canary_share=0.25)
    move(session, 2, 3, standby=1)
    record(
        session, "digits", "alias", actor="x", reason="y", at=NOON, before=None, after="noted later"
    )
    (only,) = served_at(session, "digits", NOON + MINUTE - TICK)
    assert (only.version, only.role, only.share) == (1, "champion", 1.0)
    assert (only.digest, only.generation, only.since) == (f"{1:064x}", 1, NOON)
    assert (only.actor, only.reason, only.in_force) == ("ann", "reason 1", True)
    found = served_at(session, "digits", NOON + MINUTE)
    assert [(one.version, one.role, one.share) for one in found] == [
        (1, "champion", 0.75),
        (3, "challenger", 0.25),
        (2, "standby", 0.0),
    ]
    assert {one.generation for one in served_at(session, "digits", NOON + MINUTE * 90)} == {3}


def test_of_two_routings_at_one_moment_the_later_is_in_force(session: Session) -> None:
    move(session, 0, 1)
    move(session, 1, 2, at=NOON)
    assert [one.version for one in served_at(session, "digits", NOON)] == [2]


def test_a_routing_that_still_answered_is_told_as_a_hand_over(session: Session) -> None:
    """The old routing answers until the gateway took the new one up; the log knows how long."""
    move(session, 0, 1)
    move(session, 1, 2)
    turn = NOON + MINUTE
    log_predictions(session, [answered(1, 1, 1, turn - TICK), answered(2, 1, 1, turn + TICK * 9)])
    log_predictions(session, [answered(3, 2, 2, turn + TICK * 5)])
    generations = [
        [(one.generation, one.in_force) for one in served_at(session, "digits", turn + TICK * n)]
        for n in (-1, 0, 9, 10)
    ]
    assert generations == [
        [(1, True)],
        [(2, True), (1, False)],
        [(2, True), (1, False)],
        [(2, True)],
    ]


def test_a_gateway_with_a_clock_behind_shows_too(session: Session) -> None:
    move(session, 0, 1)
    move(session, 1, 2)
    early = NOON + MINUTE / 2
    log_predictions(session, [answered(1, 2, 2, early)])
    found = [(one.generation, one.in_force) for one in served_at(session, "digits", early)]
    assert found == [(1, True), (2, False)]


def test_a_spool_that_is_replayed_changes_no_answer(session: Session) -> None:
    move(session, 0, 1)
    move(session, 1, 2)
    late = answered(1, 1, 1, NOON + MINUTE + TICK)
    for _ in range(2):
        log_predictions(session, [late, replace(late, id="2", at=late.at + TICK)])
    assert [one.generation for one in routings_at(session, "digits", late.at)] == [2, 1]


def test_traffic_is_counted_by_the_hour_across_its_turn(session: Session) -> None:
    """The last microsecond of an hour is of that hour, and a pause over the turn shows no one."""
    move(session, 0, 1)
    log_predictions(session, [answered(1, 1, 1, NOON), answered(2, 1, 1, NOON + TICK * 9)])
    move(session, 1, 2, at=NOON)
    served = [
        [one.generation for one in routings_at(session, "digits", NOON + TICK * n)]
        for n in (0, 1, 8, 9)
    ]
    assert served == [[2, 1], [2], [2], [2, 1]]


def test_the_migration_counts_what_is_in_the_log(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    engine = connect(empty_database_url)
    query = text("SELECT * FROM traffic ORDER BY hour, generation")
    with sessions(engine).begin() as session:
        log_predictions(
            session,
            [answered(number, 1, 1, NOON + TICK * number * 400_000) for number in range(9)],
        )
        before = session.execute(query).all()
    assert len(before) == 2
    downgrade(empty_database_url, "0004")
    upgrade(empty_database_url)
    with sessions(engine)() as session:
        assert session.execute(query).all() == before
    engine.dispose()
