"""Twenty writers at once, 5,000 random moves in all: one linear history, every loser told."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session, sessionmaker

from homeostat.errors import NoTarget, StaleGeneration, Unavailable
from registry import (
    connect,
    current_routing,
    lines_of,
    promote,
    quarantine,
    record,
    release_quarantine,
    releases,
    rollback,
    routing_history,
    sessions,
    transaction,
    verify_ledger,
    write_routing,
)
from registry.ledger import Line

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
WRITERS = 20
OPERATIONS = 2_500  # on each database
LONGEST_THOUGHT = 0.02  # seconds: about what another needs to act
KINDS = ("promote", "rollback", "canary", "alias", "quarantine")
VERSIONS = range(1, 9)


class Writer:
    """One writer: it decides on what it saw last, thinks while others act, and then acts.

    Args:
        name: The actor of its lines.
        maker: Writing sessions.
    """

    def __init__(self, name: str, maker: sessionmaker[Session]) -> None:
        self.name = name
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.lost: list[tuple[int, int, str]] = []
        self.failure: BaseException | None = None
        self._maker = maker
        self._random = random.Random(name)
        self._seen = 0  # the generation that it decides on

    def run(self, operations: int) -> None:
        try:
            for number in range(operations):
                kind = self._random.choice(KINDS)
                self.outcomes[kind, self._act(kind, NOON + timedelta(seconds=number))] += 1
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.failure = error

    def _act(self, kind: str, now: datetime) -> str:
        version = self._random.choice(VERSIONS)
        time.sleep(self._random.random() * LONGEST_THOUGHT)
        try:
            with transaction(self._maker) as session:
                getattr(self, f"_{kind}")(session, version, now)
                self._seen = max(self._seen, self._generation(session))
        except StaleGeneration as error:
            told = (self._seen, int(str(error.fields["generation"])), str(error.fields["winner"]))
            self.lost.append(told)
            self._seen = told[1]
            return "lost"
        except NoTarget:
            return "nothing"
        except Unavailable:  # SQLite's lock is not fair: who waited ten seconds for it asks again
            return self._act(kind, now)
        return "won"

    def _promote(self, session: Session, version: int, now: datetime) -> None:
        promote(
            session,
            "digits",
            version,
            actor=self.name,
            reason="better",
            evidence={},
            now=now,
            expected=self._seen,
        )

    def _rollback(self, session: Session, _: int, now: datetime) -> None:
        rollback(session, "digits", self.name, "worse", {}, now, self._seen)

    def _canary(self, session: Session, version: int, now: datetime) -> None:
        present = current_routing(session, "digits")
        champion = present.champion if present else 9
        write_routing(
            session,
            "digits",
            self._seen,
            champion=champion,
            challenger=version if version != champion else 10,
            standby=None,
            phase="canary",
            canary_share=0.25,
            actor=self.name,
            reason="a trial",
            evidence={"rows": version},
            at=now,
        )

    def _alias(self, session: Session, version: int, now: datetime) -> None:
        record(
            session,
            "digits",
            "alias",
            actor=self.name,
            reason="moved",
            at=now,
            before=None,
            after=f"champion: version {version}",
            version=version,
        )

    def _quarantine(self, session: Session, version: int, now: datetime) -> None:
        digest = f"{version:064x}"
        if self._random.random() < 0.5:
            quarantine(session, "digits", digest, "worse", now, actor=self.name)
        else:
            release_quarantine(session, "digits", digest, now, actor=self.name, reason="mended")

    @staticmethod
    def _generation(session: Session) -> int:
        present = current_routing(session, "digits")
        return present.generation if present else 0


@pytest.mark.timeout(240)
def test_twenty_writers_make_one_linear_history(database_url: str) -> None:
    engine = connect(database_url)
    maker = sessions(engine)
    writers = [Writer(f"writer {number}", maker) for number in range(WRITERS)]
    threads = [
        threading.Thread(target=writer.run, args=(OPERATIONS // WRITERS,)) for writer in writers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [writer.failure for writer in writers if writer.failure] == []
    outcomes = sum((writer.outcomes for writer in writers), Counter[tuple[str, str]]())
    assert outcomes.total() == OPERATIONS
    assert {kind for kind, how in outcomes if how == "won"} == set(KINDS)
    assert sum(count for (_, how), count in outcomes.items() if how == "lost") > OPERATIONS / 25
    assert all(kind in ("promote", "rollback", "canary") for kind, how in outcomes if how == "lost")
    with sessions(engine, read_only=True)() as session:
        report = verify_ledger(session, "digits")
        lines = lines_of(session, "digits")
        assert (report.intact, report.lines) == (True, len(lines))
        _assert_linear(lines)
        history = routing_history(session, "digits")
        winners = {routing.generation: routing.actor for routing in history}
        assert list(winners) == list(range(1, len(history) + 1))
        for writer in writers:
            for seen, generation, winner in writer.lost:
                assert generation > seen
                assert winners[generation] == winner
        # Every note that was kept is a line, and every line was somebody's.
        assert sum(one.kind == "alias" for one in lines) == outcomes["alias", "won"]
        standing = {one.role: one.version for one in releases(session, "digits") if not one.to_at}
        roles = ("champion", "challenger", "standby")
        held = {role: getattr(history[-1], role) for role in roles}
        assert standing == {role: version for role, version in held.items() if version}
    engine.dispose()


def _assert_linear(lines: list[Line]) -> None:
    """Lines count up by one, generations by one with each routing, and each follows the last."""
    generation = 0
    after = None
    barred: set[str] = set()
    for number, line in enumerate(lines, start=1):
        assert line.line == number
        if line.kind == "routing":
            generation += 1
            assert line.before == after
            after = line.after
        elif line.kind == "quarantine":
            assert (line.digest in barred) == (line.after is None)
            barred ^= {line.digest}
        assert line.generation == generation
