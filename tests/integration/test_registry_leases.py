"""Who may act, and who may retrain: leases with growing tokens, one retrain at a time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session, sessionmaker

from homeostat.errors import Refused
from homeostat.policy import RetrainPolicy
from registry import (
    finish_retrain,
    leases,
    request_retrain,
    retrain_history,
    retrain_running,
    start_retrain,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def test_a_lease_has_one_holder_and_a_growing_token(session: Session) -> None:
    token = leases.acquire(session, "controller", "a", 10, NOON)
    assert token == 1
    assert leases.acquire(session, "controller", "b", 10, NOON + SECOND) is None
    assert leases.acquire(session, "controller", "a", 10, NOON + SECOND) == token
    assert leases.renew(session, "controller", token, 10, NOON + SECOND * 5)
    leases.check(session, "controller", token, NOON + SECOND * 14)
    assert leases.acquire(session, "controller", "b", 10, NOON + SECOND * 14) is None
    second = leases.acquire(session, "controller", "b", 10, NOON + SECOND * 15)
    assert second == 2
    assert not leases.renew(session, "controller", token, 10, NOON + SECOND * 16)
    assert not leases.release(session, "controller", token)
    with pytest.raises(Refused, match="'controller' is held by b"):
        leases.check(session, "controller", token, NOON + SECOND * 16)
    assert leases.release(session, "controller", second)
    with pytest.raises(Refused):
        leases.check(session, "controller", second, NOON + SECOND * 16)
    assert leases.acquire(session, "controller", "a", 10, NOON + SECOND * 16) == 3


def test_of_many_who_want_a_lease_one_gets_it(maker: sessionmaker[Session]) -> None:
    tokens: list[int | None] = []
    barrier = threading.Barrier(8, timeout=60)

    def want(name: str) -> None:
        barrier.wait()
        with maker.begin() as session:
            tokens.append(leases.acquire(session, "controller", name, 10, NOON))

    threads = [threading.Thread(target=want, args=(f"h{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(token is None for token in tokens) == [False] + [True] * 7


def test_one_retrain_runs_at_a_time_within_its_budget(session: Session) -> None:
    policy = RetrainPolicy(cool_down_seconds=60, max_per_day=2)
    first = request_retrain(session, "digits", "i1", "k1", policy, NOON)
    assert first is not None
    assert first.state == "requested"
    assert request_retrain(session, "digits", "i1", "k1", policy, NOON) == first
    assert request_retrain(session, "digits", "i2", "k2", policy, NOON) is None
    assert request_retrain(session, "other", "i3", "k3", policy, NOON) is not None
    assert start_retrain(session, "k1", "run-1").flow_run_id == "run-1"
    running = retrain_running(session, "digits")
    assert running is not None
    assert running.state == "running"
    done = finish_retrain(session, "k1", "registered version 2", NOON + SECOND)
    assert finish_retrain(session, "k1", "again", NOON + HOUR) == done
    assert retrain_running(session, "digits") is None
    assert request_retrain(session, "digits", "i1", "k1", policy, NOON + HOUR) is None
    assert request_retrain(session, "digits", "i2", "k2", policy, NOON + SECOND * 30) is None
    assert request_retrain(session, "digits", "i2", "k2", policy, NOON + SECOND * 61) is not None
    finish_retrain(session, "k2", "refused by a gate", NOON + SECOND * 62)
    assert request_retrain(session, "digits", "i4", "k4", policy, NOON + HOUR) is None
    tomorrow = NOON + timedelta(days=1)
    assert request_retrain(session, "digits", "i4", "k4", policy, tomorrow) is not None
    assert [item.key for item in retrain_history(session, "digits")] == ["k1", "k2", "k4"]
    with pytest.raises(Refused, match="ended"):
        start_retrain(session, "k1", "run-2")
    with pytest.raises(Refused, match="none-such"):
        finish_retrain(session, "none-such", "", NOON)


def test_a_dead_retrain_frees_its_place(session: Session) -> None:
    policy = RetrainPolicy(cool_down_seconds=0, seconds=100)
    assert request_retrain(session, "digits", "", "k1", policy, NOON) is not None
    assert request_retrain(session, "digits", "", "k2", policy, NOON + SECOND * 999) is None
    assert request_retrain(session, "digits", "", "k2", policy, NOON + SECOND * 1001) is not None
    assert "dead" in retrain_history(session, "digits")[0].outcome


def test_retrains_asked_for_at_once_are_one(maker: sessionmaker[Session]) -> None:
    got: list[str] = []
    barrier = threading.Barrier(8, timeout=60)

    def ask(key: str) -> None:
        barrier.wait()
        with maker.begin() as session:
            retrain = request_retrain(session, "digits", "", key, RetrainPolicy(), NOON)
        if retrain is not None:
            got.append(retrain.key)

    threads = [threading.Thread(target=ask, args=(f"k{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
