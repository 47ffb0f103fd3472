"""Routings: one winner for each number, releases that fit."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from homeostat.errors import Refused, StaleGeneration
from registry import (
    Release,
    Routing,
    current_routing,
    releases,
    routing_history,
    sessions,
    transaction,
    verify_ledger,
    write_routing,
)
from registry.database import connect

NOON = datetime(2026, 11, 22, 12, 0, 0, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def write(session: Session, expected: int, champion: int, **changes: object) -> Routing:
    values: dict[str, Any] = {
        "champion": champion,
        "challenger": None,
        "standby": None,
        "phase": "steady",
        "canary_share": 0.0,
        "actor": "ann",
        "reason": "because",
        "evidence": {"accuracy": 0.97, "words": ["ä", None]},
        "at": NOON + MINUTE * expected,
    }
    return write_routing(session, "digits", expected, **values | changes)


def test_the_first_routing_is_generation_one(session: Session) -> None:
    assert current_routing(session, "digits") is None
    written = write(session, 0, 1)
    assert written.generation == 1
    assert current_routing(session, "digits") == written
    assert written.at == NOON
    assert written.evidence == {"accuracy": 0.97, "words": ["ä", None]}


def test_a_stale_writer_learns_who_won(session: Session) -> None:
    write(session, 0, 1)
    write(session, 1, 2, actor="bob", reason="better")
    with pytest.raises(StaleGeneration) as refusal:
        write(session, 1, 3)
    assert refusal.value.fields["winner"] == "bob"
    assert refusal.value.fields["generation"] == 2
    assert "bob" in str(refusal.value)
    with pytest.raises(StaleGeneration):
        write_routing(
            session,
            "other",
            4,
            champion=1,
            challenger=None,
            standby=None,
            phase="steady",
            canary_share=0.0,
            actor="ann",
            reason="",
            evidence={},
            at=NOON,
        )


def test_roles_that_contradict_one_another_are_refused(session: Session) -> None:
    with pytest.raises(Refused, match="two roles"):
        write(session, 0, 1, standby=1)
    with pytest.raises(Refused, match="challenger"):
        write(session, 0, 1, phase="canary", canary_share=0.2)
    with pytest.raises(Refused, match="share"):
        write(session, 0, 1, challenger=2, phase="canary", canary_share=1.2)
    assert current_routing(session, "digits") is None


def test_twenty_writers_at_once_have_one_winner_each_time(database_url: str) -> None:
    writers, rounds = 20, 4
    engine = connect(database_url)
    maker = sessions(engine)
    barrier = threading.Barrier(writers, timeout=60)
    outcomes: Counter[tuple[int, str]] = Counter()
    named: list[tuple[int, str]] = []
    lock = threading.Lock()
    failures: list[BaseException] = []

    def compete(name: str) -> None:
        try:
            for expected in range(rounds):
                barrier.wait()
                try:
                    with transaction(maker) as session:
                        current_routing(session, "digits")
                        write(session, expected, expected + 1, actor=name)
                    outcome = "won"
                except StaleGeneration as error:
                    outcome = "lost"
                    with lock:
                        named.append((expected + 1, str(error.fields["winner"])))
                with lock:
                    outcomes[expected + 1, outcome] += 1
                barrier.wait()
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=compete, args=(f"w{i}",)) for i in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for number in range(1, rounds + 1):
        assert outcomes[number, "won"] == 1
        assert outcomes[number, "lost"] == writers - 1
    with maker() as session:
        history = routing_history(session, "digits")
        winners = {routing.generation: routing.actor for routing in history}
        assert [routing.generation for routing in history] == list(range(1, rounds + 1))
        assert all(winners[number] == winner for number, winner in named)
        assert verify_ledger(session, "digits").intact
        _assert_releases_fit(releases(session, "digits"), history)
    engine.dispose()


def test_a_routing_keeps_the_digests_of_its_versions(session: Session) -> None:
    write(session, 0, 1, digests={1: "a" * 64})
    write(session, 1, 1, challenger=2, phase="shadow", digests={2: "b" * 64})
    assert write(session, 2, 2, standby=1).digests == {1: "a" * 64, 2: "b" * 64}
    assert write(session, 3, 3).digests == {}


def test_releases_reflect_the_roles_without_overlaps(session: Session) -> None:
    write(session, 0, 1, digests={1: "a" * 64})
    write(session, 1, 1, challenger=2, phase="shadow", digests={2: "b" * 64})
    write(session, 2, 1, challenger=2, phase="canary", canary_share=0.2)
    write(session, 3, 2, standby=1, reason="earned")
    write(session, 4, 1, reason="worse")
    write(session, 5, 1, challenger=3, phase="shadow")
    found = releases(session, "digits")
    _assert_releases_fit(found, routing_history(session, "digits"))
    told = [(item.role, item.version, item.generation, item.ended_why) for item in found]
    assert told == [
        ("champion", 1, 1, "earned"),
        ("challenger", 2, 2, "earned"),
        ("champion", 2, 4, "worse"),
        ("standby", 1, 4, "worse"),
        ("champion", 1, 5, ""),
        ("challenger", 3, 6, ""),
    ]
    assert [item.digest[:1] for item in found] == ["a", "b", "b", "a", "a", ""]


def test_a_clock_that_went_back_makes_no_overlap(session: Session) -> None:
    write(session, 0, 1)
    second = write(session, 1, 2, at=NOON - MINUTE)
    assert second.at == NOON
    _assert_releases_fit(releases(session, "digits"), routing_history(session, "digits"))


def test_models_have_ledgers_of_their_own(session: Session) -> None:
    write(session, 0, 1)
    assert current_routing(session, "other") is None
    assert verify_ledger(session, "other").intact


def _assert_releases_fit(found: list[Release], history: list[Routing]) -> None:
    """At each routing's moment the open releases are its roles; no two of a role overlap."""
    for role in ("champion", "challenger", "standby"):
        own = [item for item in found if item.role == role]
        for before, after in itertools.pairwise(own):
            assert before.to_at is not None
            assert before.to_at <= after.from_at
    for routing in history:
        for role in ("champion", "challenger", "standby"):
            holding = [
                item.version
                for item in found
                if item.role == role
                and item.generation <= routing.generation
                and not _ended_by(item, routing, history)
            ]
            wanted = getattr(routing, role)
            assert holding == ([] if wanted is None else [wanted])


def _ended_by(item: Release, routing: Routing, history: list[Routing]) -> bool:
    later = [
        one.generation
        for one in history
        if one.generation > item.generation and getattr(one, item.role) != item.version
    ]
    ended = bool(later) and later[0] <= routing.generation
    assert bool(later) == (item.to_at is not None)
    return ended
