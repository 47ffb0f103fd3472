"""Approvals on both databases: counted by person, bound to one verdict, noted in the ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from homeostat.errors import GateRefused, Refused
from homeostat.policy import Policy
from registry import (
    Approval,
    GateFigure,
    Verdict,
    approvals_of,
    approve,
    decide,
    grant_override,
    record_verdict,
)
from registry.approvals import fingerprint
from registry.ledger import lines_of

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
DIGEST = "d" * 64
FIGURE = GateFigure("accuracy", 0.9, 0.8, True, "Accuracy 0.900.")
VERDICT = Verdict(True, (FIGURE,), DIGEST, 0.05, {}, NOON)
POLICY = Policy.model_validate({"gates": {"approvals": 2}})
TOKEN = fingerprint("a secret")


def say_yes(session: Session, person: str, seen: str = "", digest: str = DIGEST) -> list[Approval]:
    return approve(
        session,
        "digits",
        3,
        digest,
        person=person,
        token=TOKEN,
        reason="looked at it",
        now=NOON,
        seen=seen,
    )


def reason(session: Session) -> str:
    decision = decide(session, POLICY, "digits", 3, DIGEST, NOON)
    return f"{decision.action}: {decision.reason}"


def test_a_version_takes_traffic_when_enough_people_approved_its_verdict(session: Session) -> None:
    record_verdict(session, "digits", 3, VERDICT, NOON)
    assert reason(session) == "restore: 0 of 2 approvals: waits for 2 more people."
    say_yes(session, "ann")
    assert len(say_yes(session, " ann ")) == 1
    assert reason(session) == (
        "restore: 1 of 2 approvals: waits for 1 more person (approved by ann)."
    )
    given = say_yes(session, "bob", seen=VERDICT.hash[:8])
    assert [each.person for each in given] == ["ann", "bob"]
    assert given[0] == Approval(
        "digits", 3, DIGEST, VERDICT.hash, "ann", TOKEN, "looked at it", NOON
    )
    assert reason(session) == "accept: Every gate passed."


def test_a_new_verdict_voids_the_approvals_of_the_old_one(session: Session) -> None:
    record_verdict(session, "digits", 3, VERDICT, NOON)
    say_yes(session, "ann")
    say_yes(session, "bob")
    again = Verdict(True, (FIGURE,), DIGEST, 0.05, {}, NOON + timedelta(hours=1))
    record_verdict(session, "digits", 3, again, NOON)
    assert approvals_of(session, "digits", 3, again) == []
    assert reason(session).startswith("restore: 0 of 2 approvals")
    with pytest.raises(GateRefused, match="judged again since you looked"):
        say_yes(session, "ann", seen=VERDICT.hash[:8])
    say_yes(session, "ann", seen=again.hash)


def test_each_approval_is_a_line_of_the_ledger_with_the_verdict_that_was_seen(
    session: Session,
) -> None:
    record_verdict(session, "digits", 3, VERDICT, NOON)
    for person in ("ann", "ann", "bob"):
        say_yes(session, person)
    lines = [line for line in lines_of(session, "digits") if line.kind == "approval"]
    assert [(line.actor, line.before, line.after) for line in lines] == [
        ("ann", "0", "1"),
        ("bob", "1", "2"),
    ]
    assert lines[0].evidence["verdict"] == VERDICT.hash
    assert lines[0].digest == DIGEST


def test_what_cannot_be_approved_is_refused(session: Session) -> None:
    with pytest.raises(GateRefused, match="No gate has judged it"):
        say_yes(session, "ann")
    record_verdict(session, "digits", 3, VERDICT, NOON)
    with pytest.raises(GateRefused, match="another artifact"):
        say_yes(session, "ann", digest="e" * 64)
    for person in ("", "  ", "a" * 256):
        with pytest.raises(Refused, match="needs a name"):
            say_yes(session, person)
    record_verdict(session, "digits", 3, Verdict(False, (), DIGEST), NOON)
    with pytest.raises(GateRefused, match="gates refused it"):
        say_yes(session, "ann")


def test_an_override_needs_no_approval_until_it_lapses(session: Session) -> None:
    record_verdict(session, "digits", 3, VERDICT, NOON)
    until = NOON + timedelta(hours=1)
    grant_override(session, "digits", 3, "ann", "the release cannot wait", until, NOON)
    assert "ann allows it" in reason(session)
    later = decide(session, POLICY, "digits", 3, DIGEST, until)
    assert later.action == "restore"


def test_a_fingerprint_tells_tokens_apart_and_gives_neither_away() -> None:
    assert fingerprint("a secret") != fingerprint("another")
    assert "secret" not in fingerprint("a secret")
