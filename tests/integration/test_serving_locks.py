"""A guard and a person who act on one model at once wait for one another, and never in a ring."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from homeostat.clock import utc_now
from homeostat.policy import Policy
from monitoring.signals import Signal, triage
from registry import connect, current_routing, promote, sessions, transaction
from registry.incidents import raise_signal, resolve
from registry.ledger import record
from serving.guard import Guard

WORSE = Signal("worse-than-standby", "guard", 9.0, 3.0, 40, 20, {})
WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with request.getfixturevalue("new_postgres")() as url:
        engine = connect(url)
        yield engine
        engine.dispose()


class Steered:
    """What the guard acts through, over a real database."""

    def __init__(self, maker: sessionmaker[Session]) -> None:
        self.maker = maker
        self.swapped: list[object] = []

    def guard(self) -> Guard:
        versions = [SimpleNamespace(version=n, digest=str(n) * 64) for n in (1, 2)]
        split = SimpleNamespace(
            model="digits",
            generation=2,
            champion=versions[1],
            standby=versions[0],
            standby_share=1.0,
            versions=(),
        )
        parts = SimpleNamespace(
            watches={"digits": SimpleNamespace(rollback_signal=lambda: WORSE)},
            policy=lambda _: Policy(),
            steering=lambda _: contextlib.nullcontext(),
            fleet=SimpleNamespace(get=lambda _: split),
            clock=utc_now,
            writing=lambda: transaction(self.maker),
            swap=self.swapped.append,
            wake=threading.Event(),
            metrics=SimpleNamespace(
                rollbacks=SimpleNamespace(labels=lambda _: SimpleNamespace(inc=lambda: None))
            ),
        )
        return Guard(cast(Any, parts))


@pytest.mark.postgres
def test_a_guard_that_waits_for_a_person_holds_nothing_that_the_person_needs(
    postgres: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = sessions(postgres)
    now = utc_now()
    with transaction(maker) as session:
        for version in (1, 2):
            promote(
                session,
                "digits",
                version,
                actor="ann",
                reason="good",
                evidence={},
                now=now,
                digest=str(version) * 64,
            )
        incident = raise_signal(session, "digits", 2, WORSE, triage(WORSE), now, "")
    steered = Steered(maker)
    monkeypatch.setattr("serving.guard.Split", SimpleNamespace)
    failed: list[BaseException] = []

    def act() -> None:
        try:
            steered.guard().check("digits")
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    guard = threading.Thread(target=act)
    with transaction(maker) as session:  # a person writes a line first, then ends an incident
        record(
            session, "digits", "override", actor="ann", reason="x", at=now, before=None, after=None
        )
        guard.start()
        with postgres.connect() as looking:
            deadline = time.monotonic() + 20
            while looking.execute(WAITING).scalar_one() == 0:
                assert time.monotonic() < deadline, "the guard does not wait"
                looking.rollback()
                time.sleep(0.01)
        resolve(session, incident.id, "it is over", now)
    guard.join(20)
    assert not guard.is_alive()
    assert failed == []
    assert len(steered.swapped) == 1
    with transaction(maker) as session:
        routing = current_routing(session, "digits")
        assert routing is not None
        assert (routing.champion, routing.actor) == (1, "guard")
