"""Predictions and labels: whatever their order, nothing is lost and nothing is doubled."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session, sessionmaker
from uuid6 import uuid7

from registry import (
    LabelItem,
    PredictionRecord,
    adopt_orphans,
    count_predictions,
    find_prediction,
    labelled_rows,
    log_predictions,
    loss_series,
    record_labels,
    record_losses,
    transaction,
)
from registry.losses import LabelledLoss, begin_call, loss_calls, newest_call
from registry.tables import LabelRow, ShadowRow

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def record(number: int = 0, version: int = 1, model: str = "digits") -> PredictionRecord:
    rng = np.random.default_rng(number)
    return PredictionRecord(
        id=str(uuid7()),
        model=model,
        version=version,
        generation=3,
        arm="champion",
        entity="ann",
        at=NOON + SECOND * number,
        row=[float(value) for value in range(64)],
        output=rng.random(10, dtype=np.float32),
        answer={"prediction": 4, "confidence": 0.5},
        shadows=((7, rng.random(10, dtype=np.float32)), (9, rng.random(10, dtype=np.float32))),
    )


def test_a_prediction_comes_back_as_it_was_logged(session: Session) -> None:
    logged = record()
    log_predictions(session, [logged])
    found = find_prediction(session, logged.id)
    assert found is not None
    plain = set(vars(logged)) - {"output", "shadows"}
    assert {name: getattr(found, name) for name in plain} == {
        name: getattr(logged, name) for name in plain
    }
    assert found.output.dtype == np.float32
    assert np.array_equal(found.output, logged.output)
    assert [version for version, _ in found.shadows] == [7, 9]
    assert np.array_equal(found.shadows[1][1], logged.shadows[1][1])
    assert find_prediction(session, str(uuid7())) is None


def test_a_replayed_spool_adds_nothing_twice(session: Session) -> None:
    first = [record(number) for number in range(20)]
    log_predictions(session, first)
    log_predictions(session, [replace(first[3], version=2), *first[10:], record(21), record(22)])
    log_predictions(session, [])
    assert count_predictions(session, "digits") == 22
    assert count_predictions(session, "digits", version=2) == 0
    assert session.scalar(select(func.count()).select_from(ShadowRow)) == 44


def test_thousands_of_predictions_are_logged_by_few_statements(
    maker: sessionmaker[Session],
) -> None:
    records = [record(number) for number in range(3000)]
    statements: list[str] = []
    with maker.begin() as session:

        def seen(_c: object, _u: object, statement: str, *_: object) -> None:
            statements.append(statement)

        event.listen(session.connection(), "before_cursor_execute", seen)
        log_predictions(session, records)
        assert count_predictions(session, "digits") == len(records)
    assert len(statements) < len(records) / 10  # many rows each, not a query for each row


def test_hostile_text_does_not_stop_the_batch(session: Session) -> None:
    hostile = replace(record(), entity="a\0b\ud800", row={"name": "\ud800", "huge": 2**70})
    log_predictions(session, [hostile, record(1)])
    found = find_prediction(session, hostile.id)
    assert found is not None
    assert found.row == {"name": "\ud800", "huge": 2**70}
    assert "\0" not in found.entity
    (outcome,) = record_labels(session, [LabelItem("x\0" * 400, "y\0", "z\0")], NOON)
    assert outcome.status == "unknown"


def test_a_label_is_accepted_once_and_the_first_stands(session: Session) -> None:
    logged = record()
    log_predictions(session, [logged])
    items = [LabelItem(logged.id, 4, "ann"), LabelItem(logged.id, 4), LabelItem(logged.id, 5)]
    outcomes = record_labels(session, [*items, LabelItem("no-such-id", 1)], NOON)
    assert [item.status for item in outcomes] == ["accepted", "duplicate", "conflict", "unknown"]
    assert outcomes[0].prediction is not None
    assert [version for version, _ in outcomes[0].prediction.shadows] == [7, 9]
    again = record_labels(session, items, NOON + SECOND)
    assert [item.status for item in again] == ["duplicate", "duplicate", "conflict"]
    kept = session.execute(select(LabelRow.status, LabelRow.value).order_by(LabelRow.id)).all()
    assert sorted(tuple(row) for row in kept) == [("accepted", 4), ("conflict", 5), ("orphan", 1)]


def test_a_revised_label_stands_and_what_was_believed_before_stays(session: Session) -> None:
    logged = record()
    log_predictions(session, [logged])
    record_labels(session, [LabelItem(logged.id, 4)], NOON)
    items = [
        LabelItem(logged.id, 5, "ann", revise=True),
        LabelItem(logged.id, 5, revise=True),
        LabelItem(logged.id, 4),
        LabelItem("no-such-id", 1, revise=True),
    ]
    outcomes = record_labels(session, items, NOON + SECOND)
    assert [one.status for one in outcomes] == ["revised", "duplicate", "conflict", "unknown"]
    (back,) = record_labels(session, [LabelItem(logged.id, 4, revise=True)], NOON + SECOND * 2)
    assert back.status == "revised"
    kept = session.execute(
        select(LabelRow.status, LabelRow.value, LabelRow.at)
        .where(LabelRow.status.in_(["accepted", "superseded"]))
        .order_by(LabelRow.at)
    ).all()
    assert [tuple(row) for row in kept] == [
        ("superseded", 4, NOON),
        ("superseded", 5, NOON + SECOND),
        ("accepted", 4, NOON + SECOND * 2),
    ]
    assert [row.value for row in labelled_rows(session, "digits", NOON - SECOND, 9)] == [4]


def test_of_many_who_revise_at_once_one_label_stands(maker: sessionmaker[Session]) -> None:
    logged = [record(number) for number in range(5)]
    with maker.begin() as session:
        log_predictions(session, logged)
        record_labels(session, [LabelItem(one.id, 0) for one in logged], NOON)
    outcomes = at_once(
        maker, [[LabelItem(one.id, value, revise=True) for one in logged] for value in range(1, 5)]
    )
    assert outcomes == ["revised"] * 20
    with maker() as session:
        rows = session.execute(select(LabelRow.status, LabelRow.prediction_id)).all()
    assert sum(row.status == "accepted" for row in rows) == len(logged)
    assert sum(row.status == "superseded" for row in rows) == 4 * len(logged)


def test_true_is_another_label_than_one(session: Session) -> None:
    logged = record()
    log_predictions(session, [logged])
    outcomes = record_labels(session, [LabelItem(logged.id, 1), LabelItem(logged.id, True)], NOON)
    assert [item.status for item in outcomes] == ["accepted", "conflict"]


def test_a_label_before_its_prediction_is_joined_when_it_shows_up(session: Session) -> None:
    first, second, third = record(1), record(2), record(3)
    items = [LabelItem(first.id, 4), LabelItem(second.id, 1), LabelItem(second.id, 2)]
    outcomes = record_labels(session, items, NOON)
    assert {item.status for item in outcomes} == {"unknown"}
    assert adopt_orphans(session, (first.id, third.id)) == []
    log_predictions(session, [first, second, third])
    adopted = adopt_orphans(session, (first.id, first.id))
    assert [(item.prediction_id, item.status, item.value) for item in adopted] == [
        (first.id, "accepted", 4)
    ]
    assert adopted[0].at == NOON
    assert adopted[0].prediction is not None
    rest = adopt_orphans(session)
    assert [(item.status, item.value) for item in rest] == [("accepted", 1), ("conflict", 2)]
    assert adopt_orphans(session) == []
    (late,) = record_labels(session, [LabelItem(first.id, 4)], NOON)
    assert late.status == "duplicate"


def at_once(maker: sessionmaker[Session], batches: list[list[LabelItem]]) -> list[str]:
    """What becomes of labels that as many threads send at once, each in another order."""
    statuses: list[str] = []
    failures: list[BaseException] = []
    barrier = threading.Barrier(len(batches), timeout=60)

    def label(place: int) -> None:
        try:
            barrier.wait()
            items = batches[place] if place % 2 else batches[place][::-1]
            with maker.begin() as session:
                outcomes = record_labels(session, items, NOON)
            statuses.extend(item.status for item in outcomes)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=label, args=(place,)) for place in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    return statuses


def test_of_many_who_label_at_once_one_is_accepted(maker: sessionmaker[Session]) -> None:
    logged = [record(number) for number in range(10)]
    with maker.begin() as session:
        log_predictions(session, logged)
    every = [[LabelItem(item.id, value) for item in logged] for value in range(6)]
    statuses = at_once(maker, every)
    assert statuses.count("accepted") == len(logged)
    assert statuses.count("conflict") == 5 * len(logged)


def test_labelled_rows_are_the_newest_by_prediction_time(session: Session) -> None:
    records = [record(number, version=1 + number // 5) for number in range(10)]
    log_predictions(session, records)
    labelled = [item for number, item in enumerate(records) if number != 6]
    record_labels(
        session, [LabelItem(item.id, number) for number, item in enumerate(labelled)], NOON
    )
    record_losses(session, [(records[9].id, 2, 1.0, NOON), (records[9].id, 1, 0.0, NOON)])
    record_losses(session, [(records[9].id, 2, 0.25, NOON)])
    rows = labelled_rows(session, "digits", NOON + SECOND * 2, limit=3)
    assert [row.id for row in rows] == [records[7].id, records[8].id, records[9].id]
    assert rows[-1].row == records[9].row
    assert (rows[-1].value, rows[-1].version, rows[-1].loss) == (8, 2, 1.0)
    assert rows[0].loss is None
    assert len(labelled_rows(session, "digits", NOON, limit=100)) == 9
    assert labelled_rows(session, "other", NOON, limit=100) == []


def test_the_loss_series_goes_by_prediction_time(session: Session) -> None:
    records = [record(number) for number in range(4)]
    log_predictions(session, records)
    losses = [(item.id, 1, 0.5, NOON + SECOND * (9 - i)) for i, item in enumerate(records)]
    record_losses(session, [*reversed(losses), (records[1].id, 7, 1.0, NOON)])
    series = loss_series(session, "digits", NOON + SECOND, NOON + SECOND * 3)
    assert [(point.prediction_id, point.version) for point in series] == [
        (records[1].id, 1),
        (records[2].id, 1),
    ]
    both = loss_series(session, "digits", NOON + SECOND, NOON + SECOND * 2, shadows=True)
    assert [(point.version, point.answered, point.loss) for point in both] == [
        (1, True, 0.5),
        (7, False, 1.0),
    ]


def test_losses_come_back_by_call_in_the_order_of_the_calls(session: Session) -> None:
    first, second, third, other = record(0), record(10), record(20), record(30, model="table")
    log_predictions(session, [first, second, third, other])
    assert newest_call(session, "digits") == 0
    for own, model in (((third, first), "digits"), ((other,), "table"), ((second,), "digits")):
        call = begin_call(session, model)
        lost = [(one.id, version, 0.5, NOON) for one in own for version in (1, 7)]
        record_losses(session, lost, call)
    assert (newest_call(session, "digits"), newest_call(session, "table")) == (2, 1)

    def row(one: PredictionRecord) -> LabelledLoss:
        return LabelledLoss(one.at, {1: 0.5, 7: 0.5})

    both = loss_calls(session, "digits", 0)
    assert [(call.number, call.generation) for call in both] == [(1, 0), (2, 0)]
    assert both[0].rows == (row(first), row(third))
    assert loss_calls(session, "digits", 1) == [both[1]]
    assert loss_calls(session, "digits", 2) == []
    assert loss_calls(session, "digits", 0, generation=1) == []
    younger = loss_calls(session, "digits", 0, until=1, younger=first.at)
    assert [call.rows for call in younger] == [(row(third),)]
    assert [call.rows for call in loss_calls(session, "table", 0)] == [(row(other),)]


def test_calls_of_two_transactions_get_their_numbers_in_the_order_of_their_ends(
    maker: sessionmaker[Session],
) -> None:
    """Who sees number 2 sees number 1: the second waits until the first has ended."""
    got: list[int] = []

    def second() -> None:
        with transaction(maker) as session:
            got.append(begin_call(session, "digits").number)

    thread = threading.Thread(target=second)
    with transaction(maker) as session:
        assert begin_call(session, "digits").number == 1
        thread.start()
        thread.join(0.2)
        assert got == []
    thread.join(20)
    assert got == [2]
    with maker() as session:
        assert begin_call(session, "digits").number == 3
        session.rollback()  # what was not kept leaves no gap
    with transaction(maker) as session:
        assert begin_call(session, "digits").number == 3
