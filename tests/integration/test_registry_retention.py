"""The prediction log forgets what is too old or too much, and nothing that is still needed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from uuid6 import uuid7

from homeostat.errors import Refused
from homeostat.policy import MonitorPolicy, Policy
from homeostat.setting_tables import LogSettings
from monitoring import Signal, Triage
from registry import (
    LabelItem,
    PredictionRecord,
    connect,
    count_predictions,
    find_predictions,
    log_predictions,
    promote,
    raise_signal,
    record_labels,
    record_losses,
    request_retrain,
    resolve,
    sessions,
    transaction,
)
from registry.retention import (
    ROW_BYTES,
    Span,
    forget_predictions,
    oldest_within,
    spans_free,
    spans_needed,
)
from registry.tables import LabelRow, LineageRow, LossRow, ShadowRow
from serving.forgetting import ROWS, Forgetter
from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LOSS = Signal("loss", "losses", 13.0, 11.5, 900, 80, {"since_at": (NOON - 6 * DAY).isoformat()})
LOST = Signal("registry", "custody", 1.0, 1.0, 0, 0, {"reason": "gone"})
PAGE = Triage("page", "retrain", "Accuracy fell.")
ROW = [0.5] * 10


def log(session: Session, *ages: timedelta, model: str = "digits") -> list[str]:
    """Predictions so old, each with a shadow; their ids."""
    records = [
        PredictionRecord(
            *(str(uuid7()), model, 1, 1, "champion", "", NOON - age, ROW),
            *(np.zeros(10, np.float32), {"prediction": 1}, ((2, np.zeros(10, np.float32)),)),
        )
        for age in ages
    ]
    log_predictions(session, records)
    return [one.id for one in records]


def left(session: Session, ids: list[str]) -> list[bool]:
    """Which of them are in the log still."""
    found = find_predictions(session, ids)
    return [one in found for one in ids]


def forget(session: Session, older: timedelta, delay: timedelta = timedelta()) -> int:
    spans = spans_free(NOON - older, spans_needed(session, "digits", NOON, delay))
    return forget_predictions(session, "digits", spans, NOON, 100)


def test_a_row_goes_with_all_that_hangs_on_it_and_others_stay(session: Session) -> None:
    old, young = log(session, 9 * DAY, 7 * DAY)
    (other,) = log(session, 9 * DAY, model="letters")
    record_labels(session, [LabelItem(one, 1) for one in (old, young, other)], NOON - 5 * DAY)
    losses = [(one, version, 0.0, NOON - 5 * DAY) for one in (old, young) for version in (1, 2)]
    record_losses(session, losses)
    assert forget(session, 8 * DAY) == 1
    assert left(session, [old, young, other]) == [False, True, True]
    for table, count in ((LabelRow, 2), (LossRow, 2), (ShadowRow, 2)):
        assert session.scalar(select(func.count()).select_from(table)) == count
    assert forget(session, 8 * DAY) == 0


def test_what_an_open_incident_is_about_stays_until_it_is_resolved(session: Session) -> None:
    promote(session, "digits", 1, actor="t", reason="t", evidence={}, now=NOON - 20 * DAY)
    _, before, since = log(session, 8 * DAY, 7 * DAY, 6 * DAY)
    ticket = raise_signal(session, "digits", 1, LOST, PAGE, NOON - 9 * DAY, "")
    assert forget(session, 7.5 * DAY) == 1  # nobody reads rows for it
    resolve(session, ticket.id, "mended", NOON)
    incident = raise_signal(session, "digits", 1, LOSS, PAGE, NOON - 2 * DAY, "")
    assert forget(session, DAY) == 1
    assert left(session, [before, since]) == [False, True]
    resolve(session, incident.id, "over", NOON)
    assert forget(session, DAY) == 1


def test_what_a_version_with_a_role_was_trained_on_stays(session: Session) -> None:
    def made(version: int, begins: timedelta, ends: timedelta) -> None:
        span = {"begins": (NOON - begins).isoformat(), "ends": (NOON - ends).isoformat()}
        session.add(
            LineageRow(
                model="digits",
                work_key=str(version),
                version=version,
                number=f"1.0.{version}",
                digest="d" * 64,
                record={"data": span},
                at=NOON,
            )
        )
        session.flush()

    made(1, 99 * DAY, 90 * DAY)
    made(2, 9 * DAY, 8 * DAY)
    for version, age in ((1, 80), (3, 70), (2, 60)):  # 1 has had no role for 60 days
        promote(
            session, "digits", version, actor="t", reason="t", evidence={}, now=NOON - age * DAY
        )
    ages = (95 * DAY, 10 * DAY, 9 * DAY, 8.5 * DAY, 8 * DAY, 7 * DAY)
    ids = log(session, *ages)
    assert forget(session, DAY) == 3
    assert left(session, ids) == [False, False, True, True, True, False]


def test_what_was_just_labelled_and_what_is_too_young_to_count_stays(session: Session) -> None:
    labelled, unlabelled, young = log(session, 9 * DAY, 9 * DAY, 2 * DAY)
    record_losses(session, [(labelled, 1, 0.0, NOON - timedelta(minutes=1))])
    assert forget(session, DAY, delay=3 * DAY) == 1
    assert left(session, [labelled, unlabelled, young]) == [True, False, True]
    assert forget(session, DAY) == 1


def test_by_size_the_oldest_go(session: Session) -> None:
    ids = log(session, *(DAY * age for age in range(20, 0, -1)))
    each = len("[" + ", ".join(["0.5"] * 10) + "]") + 40 + len('{"prediction": 1}') + ROW_BYTES
    assert oldest_within(session, "digits", each * 25) is None
    assert oldest_within(session, "nothing", 1) is None
    oldest = oldest_within(session, "digits", each * 6)
    assert oldest is not None
    spans = spans_free(oldest, [])
    gone = forget_predictions(session, "digits", spans, NOON, 100)
    assert 13 <= gone <= 15  # how a database spells JSON differs by some spaces
    assert left(session, ids) == [False] * gone + [True] * (20 - gone)


def test_free_stretches_are_what_no_needed_one_covers() -> None:
    def span(start: int, end: int) -> Span:
        return Span(NOON + start * DAY, NOON + end * DAY)

    found = spans_free(NOON + 10 * DAY, [span(4, 6), span(1, 2), span(5, 7), span(9, 99)])
    assert [one.end for one in found] == [NOON + DAY, NOON + 4 * DAY, NOON + 9 * DAY]
    assert found[1:] == [span(2, 4), span(7, 9)]
    assert spans_free(NOON, [Span(datetime(1970, 1, 1, tzinfo=UTC), NOON)]) == []


@pytest.fixture
def old_rows(station: Callable[..., Station]) -> Callable[..., tuple[Gateway, HandClock]]:
    """A gateway, not started, with more old rows than one transaction removes."""

    def make(clock: HandClock, **changes: object) -> tuple[Gateway, HandClock]:
        here = station(Policy(monitor=MonitorPolicy()), **changes)
        here.serve(1, clock.now - 30 * DAY)
        with transaction(sessions(connect(here.settings.database))) as session:
            log(session, *[20 * DAY] * (ROWS + 20), DAY)
        gateway = Gateway(here.settings, clock)
        gateway.parts.follow("digits")
        gateway.keeper.restore("digits")
        return gateway, clock

    return make


def test_the_lease_holder_forgets_in_small_transactions_and_rests(
    old_rows: Callable[..., tuple[Gateway, HandClock]], hand_clock: HandClock
) -> None:
    gateway, clock = old_rows(hand_clock, log=LogSettings(keep_days=10))
    times = iter([0.0, 0.0, 9.0])  # the second transaction would begin too late
    forgetter = Forgetter(
        gateway.parts, gateway.feedback, gateway.lease.acting, lambda: next(times)
    )
    try:
        with pytest.raises(Refused):
            forgetter.run()
        times = iter([0.0, 0.0, 9.0])
        gateway.lease.hold()
        assert forgetter.run() == ROWS
        times = iter([0.0] * 9)
        assert forgetter.run() == 20
        with gateway.parts.writing() as session:
            assert count_predictions(session, "digits") == 1
            log(session, 20 * DAY)
        assert forgetter.run() == 0  # it rests
        clock.advance(61)
        gateway.lease.hold()
        assert forgetter.run() == 1
    finally:
        gateway.stop()


def test_nothing_is_forgotten_unasked_or_while_a_retrain_reads(
    old_rows: Callable[..., tuple[Gateway, HandClock]], hand_clock: HandClock
) -> None:
    gateway, _ = old_rows(hand_clock)
    other = LogSettings(keep_days=10)
    try:
        gateway.lease.hold()
        acting = gateway.lease.acting
        assert Forgetter(gateway.parts, gateway.feedback, acting).run() == 0
        gateway.parts.settings = gateway.settings.model_copy(update={"log": other})
        with gateway.parts.writing() as session:
            policy = gateway.parts.policy("digits").retrain
            request_retrain(session, "digits", "", "key", policy, hand_clock.now)
        assert Forgetter(gateway.parts, gateway.feedback, acting).run() == 0
        with gateway.parts.reading() as session:
            assert count_predictions(session, "digits") == ROWS + 21
    finally:
        gateway.stop()
