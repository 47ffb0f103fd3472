"""Verdicts that stay while what they were read from comes and goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

from monitoring.verdicts import Ruling
from registry import Incident
from serving.judge import WHOLE, Judge
from serving.lease import Acting
from serving.parts import Parts

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BROKEN = Ruling("data-break", "do not retrain", "Feature a is in another unit.")
HARMLESS = Ruling("harmless-drift", "do not retrain", "The inputs moved, accuracy holds.")
LOSS = Ruling("real-loss", "retrain", "Accuracy fell.")


def incident(verdict: str) -> Incident:
    return Incident(
        id="i",
        model="m",
        key="k",
        kind="input-drift",
        severity="page",
        state="open",
        title="m:1: inputs moved",
        opened_at=NOON,
        resolved_at=None,
        version=1,
        undo="",
        details={"verdict": {"verdict": verdict}},
    )


def test_a_broken_feed_is_not_called_harmless_while_its_break_comes_and_goes() -> None:
    judge = Judge(cast(Parts, None), cast(Acting, None))
    moment = NOON
    for _ in range(200):
        moment += timedelta(seconds=10)
        assert not judge._holds(incident("data-break"), BROKEN, moment)
        moment += timedelta(seconds=10)
        assert judge._holds(incident("data-break"), HARMLESS, moment)
    assert not judge._holds(incident("data-break"), HARMLESS, moment + WHOLE)


def test_a_real_loss_is_told_at_once_and_what_was_no_break_is_not_held() -> None:
    judge = Judge(cast(Parts, None), cast(Acting, None))
    assert not judge._holds(incident("data-break"), LOSS, NOON)
    assert not judge._holds(incident("immature"), HARMLESS, NOON)


def test_a_gateway_that_takes_over_gives_a_break_its_time_too() -> None:
    judge = Judge(cast(Parts, None), cast(Acting, None))
    assert judge._holds(incident("data-break"), HARMLESS, NOON)
    assert not judge._holds(incident("data-break"), HARMLESS, NOON + WHOLE)
