"""That it is well again is told after that the version which learnt it answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from registry import Incident, Routing
from registry.claims import RECOVERS
from serving.recovering import _is_unproven

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FELL = Incident(
    id="i",
    model="m",
    key="k",
    kind="loss",
    severity="page",
    state="open",
    title="m:1: accuracy fell",
    opened_at=NOON,
    resolved_at=None,
    version=1,
    undo="",
    details={},
)
LEARNT = Routing("m", 2, 2, None, 1, "steady", 0.0, NOON, "rollout", "", {RECOVERS: ["i"]}, "0")


def test_nothing_ends_while_the_move_to_what_was_learnt_is_not_seen_in_the_answers() -> None:
    assert _is_unproven(FELL, LEARNT)
    assert _is_unproven(replace(FELL, state="acknowledged"), LEARNT)
    assert not _is_unproven(replace(FELL, state="mitigated"), LEARNT)


def test_a_move_that_was_not_for_it_holds_nothing_up() -> None:
    assert not _is_unproven(FELL, replace(LEARNT, evidence={RECOVERS: ["another"]}))
