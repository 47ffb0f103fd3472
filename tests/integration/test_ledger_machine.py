"""The ledger against a plain Python model of it, step by step, on random histories."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from homeostat.errors import NoTarget, NothingServed, StaleGeneration
from registry import (
    Routing,
    connect,
    current_routing,
    lines_of,
    promote,
    quarantine,
    quarantined,
    record,
    release_quarantine,
    rollback,
    routing_history,
    served_at,
    sessions,
    verify_ledger,
    write_routing,
)
from registry.ledger_file import export_ledger, verify_file

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
VERSIONS = st.integers(1, 4)
BEHIND = st.integers(0, 2)  # generations that a writer's knowledge is old by
STEPS = st.integers(-2, 3)  # minutes that the clock moves, backwards too
TEXTS = st.text(max_size=20)
DIGESTS = {version: f"{version:064x}" for version in (1, 2, 3, 4, 9)}


@dataclass(frozen=True)
class Expected:
    """What a line is to say."""

    kind: str
    generation: int
    actor: str
    reason: str
    roles: tuple[int, int | None, int | None] | None = None  # champion, challenger, standby
    at: datetime | None = None


@dataclass
class Plain:
    """The ledger as a list."""

    lines: list[Expected] = field(default_factory=list)
    barred: set[int] = field(default_factory=set)

    @property
    def routings(self) -> list[Expected]:
        return [line for line in self.lines if line.roles is not None]

    @property
    def generation(self) -> int:
        return len(self.routings)

    def note(self, kind: str, actor: str, reason: str) -> None:
        self.lines.append(Expected(kind, self.generation, actor, reason))

    def route(
        self, roles: tuple[int, int | None, int | None], actor: str, reason: str, at: datetime
    ) -> None:
        if self.routings:
            last = self.routings[-1].at
            assert last is not None
            at = max(at, last)
        line = Expected("routing", self.generation + 1, actor, reason, roles, at)
        self.lines.append(line)

    def at(self, moment: datetime) -> Expected | None:
        found = [line for line in self.routings if line.at is not None and line.at <= moment]
        return found[-1] if found else None


class LedgerMachine(RuleBasedStateMachine):
    """Every run begins with an empty ledger, in a copy of a migrated database."""

    database: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(dir=self.database.parent))
        shutil.copy(self.database, self.folder / "lifecycle.db")
        self.engine = connect(f"sqlite:///{self.folder / 'lifecycle.db'}")
        self.maker = sessions(self.engine)
        self.plain = Plain()
        self.now = START

    def teardown(self) -> None:
        self.engine.dispose()
        shutil.rmtree(self.folder)

    @rule(minutes=STEPS)
    def clock_moves(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(version=VERSIONS, behind=BEHIND, actor=TEXTS)
    def promotion(self, version: int, behind: int, actor: str) -> None:
        present = self.plain.routings[-1].roles if self.plain.routings else None
        expected = self.plain.generation - behind

        def act() -> None:
            with self.maker.begin() as session:
                promote(
                    session,
                    "digits",
                    version,
                    actor=actor,
                    reason="better",
                    evidence={},
                    now=self.now,
                    digest=DIGESTS[version],
                    expected=expected,
                )

        if present is not None and present[0] == version:
            act()  # it is champion already: nothing to win or lose
        elif behind:
            self.loses(act)
        else:
            act()
            roles = (version, None, present[0] if present else None)
            self.plain.route(roles, kept(actor), "better", self.now)

    @precondition(lambda self: self.plain.routings)
    @rule(behind=BEHIND, actor=TEXTS)
    def going_back(self, behind: int, actor: str) -> None:
        roles = self.plain.routings[-1].roles
        assert roles is not None
        expected = self.plain.generation - behind

        def act() -> None:
            with self.maker.begin() as session:
                rollback(session, "digits", actor, "worse", {}, self.now, expected)

        if behind:
            self.loses(act)
        elif roles[2] is None or roles[2] in self.plain.barred:
            with pytest.raises(NoTarget):
                act()
        else:
            act()
            self.plain.route((roles[2], None, None), kept(actor), "worse", self.now)

    @precondition(lambda self: self.plain.routings)
    @rule(version=VERSIONS, behind=BEHIND, share=st.floats(0, 1))
    def canary(self, version: int, behind: int, share: float) -> None:
        roles = self.plain.routings[-1].roles
        assert roles is not None
        champion = roles[0]
        challenger = version if version != champion else 9

        def act() -> None:
            with self.maker.begin() as session:
                write_routing(
                    session,
                    "digits",
                    self.plain.generation - behind,
                    champion=champion,
                    challenger=challenger,
                    standby=None,
                    phase="canary",
                    canary_share=share,
                    actor="rollout",
                    reason="a trial",
                    evidence={"share": share},
                    at=self.now,
                    digests=DIGESTS,
                )

        if behind:
            self.loses(act)
        else:
            act()
            self.plain.route((champion, challenger, None), "rollout", "a trial", self.now)

    @rule(actor=TEXTS, reason=TEXTS, before=st.none() | TEXTS, after=st.none() | TEXTS)
    def alias(self, actor: str, reason: str, before: str | None, after: str | None) -> None:
        with self.maker.begin() as session:
            record(
                session,
                "digits",
                "alias",
                actor=actor,
                reason=reason,
                at=self.now,
                before=before,
                after=after,
            )
        self.plain.note("alias", kept(actor), kept(reason))

    @rule(version=VERSIONS)
    def bar(self, version: int) -> None:
        with self.maker.begin() as session:
            quarantine(session, "digits", DIGESTS[version], "bad", self.now, actor="guard")
        if version not in self.plain.barred:
            self.plain.barred.add(version)
            self.plain.note("quarantine", "guard", "bad")

    @rule(version=VERSIONS)
    def let_go(self, version: int) -> None:
        with self.maker.begin() as session:
            release_quarantine(
                session, "digits", DIGESTS[version], self.now, actor="ann", reason="good"
            )
        if version in self.plain.barred:
            self.plain.barred.remove(version)
            self.plain.note("quarantine", "ann", "good")

    @rule()
    def what_is_rolled_back_leaves_no_line(self) -> None:
        with self.maker() as session:
            record(
                session,
                "digits",
                "alias",
                actor="nobody",
                reason="never",
                at=self.now,
                before=None,
                after=None,
            )
            session.rollback()

    def loses(self, act: Callable[[], object]) -> None:
        with pytest.raises(StaleGeneration) as lost:
            act()
        winner = self.plain.routings[-1] if self.plain.routings else None
        assert lost.value.fields["generation"] == self.plain.generation
        assert lost.value.fields["winner"] == (winner.actor if winner else "")

    @invariant()
    def the_ledger_is_the_list(self) -> None:
        with self.maker() as session:
            lines = lines_of(session, "digits")
            assert [
                (one.line, one.kind, one.generation, one.actor, one.reason) for one in lines
            ] == [
                (number, one.kind, one.generation, one.actor, one.reason)
                for number, one in enumerate(self.plain.lines, start=1)
            ]
            history = routing_history(session, "digits")
            assert [(roles(one), one.at) for one in history] == [
                (one.roles, one.at) for one in self.plain.routings
            ]
            assert current_routing(session, "digits") == (history[-1] if history else None)
            assert verify_ledger(session, "digits").intact
            for version in DIGESTS:
                barred = quarantined(session, "digits", DIGESTS[version]) is not None
                assert barred == (version in self.plain.barred)

    @invariant()
    def what_served_is_what_the_list_says(self) -> None:
        with self.maker() as session:
            for moment in {START, self.now, self.now - timedelta(minutes=1)}:
                expected = self.plain.at(moment)
                if expected is None:
                    with pytest.raises(NothingServed):
                        served_at(session, "digits", moment)
                    continue
                champion, *_ = served_at(session, "digits", moment)
                assert expected.roles is not None
                assert (champion.generation, champion.version) == (
                    expected.generation,
                    expected.roles[0],
                )

    @rule()
    def an_export_is_whole(self) -> None:
        path = self.folder / "export"
        path.unlink(missing_ok=True)
        with self.maker() as session:
            head = export_ledger(session, "digits", path)
        report = verify_file(path)
        assert (report.intact, report.lines) == (True, len(self.plain.lines))
        assert report.head == head.hash


def roles(routing: Routing) -> tuple[int, int | None, int | None]:
    return routing.champion, routing.challenger, routing.standby


def kept(text: str) -> str:
    """What the ledger keeps of a text: a column holds no NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def test_the_ledger_behaves_like_a_list(migrated_sqlite: Path) -> None:
    run_state_machine_as_test(
        type("OnDisk", (LedgerMachine,), {"database": migrated_sqlite}),
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
