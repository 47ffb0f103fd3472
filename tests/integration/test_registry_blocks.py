"""Predictions in blocks are in the log as those with rows of their own are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry import (
    LabelItem,
    adopt_orphans,
    connect,
    count_predictions,
    downgrade,
    find_prediction,
    labelled_rows,
    loss_series,
    record_labels,
    record_losses,
    sessions,
    transaction,
    upgrade,
)
from registry.blocks import ROWS_PER_BLOCK, Arm, Columns, id_text, to_blocks
from registry.log import PredictionRecord, find_predictions, log_blocks, predictions_elsewhere
from registry.losses import LossCall
from registry.retention import Span, forget_predictions, oldest_within
from registry.tables import BlockRow, LabelRow, PredictionRow
from registry.tallies import count_answers, extent, first_answers

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CHAMPION = Arm("digits", 3, 1, "champion")
CHALLENGER = Arm("digits", 4, 2, "challenger")


def batch(number: int, rows: int = 3) -> Columns:
    """What was answered `number` seconds after noon."""
    at = NOON + SECOND * number
    rng = np.random.default_rng(number)
    stamp = int(at.timestamp() * 1000).to_bytes(6)
    values = rng.integers(0, 17, (rows, 64)).astype("<f4")
    outputs = rng.random((rows, 10), dtype=np.float32)
    shadow = rng.random((rows, 10), dtype=np.float32)
    shadow[0] = np.nan
    return Columns(
        at=int(at.timestamp()) * 1_000_000,
        ids=b"".join(stamp + b"\x70\x00\x80" + rng.bytes(7) for _ in range(rows)),
        entities=[f"e{row}" for row in range(rows)],
        columns=64,
        exact=False,
        rows=values.tobytes(),
        width=10,
        outputs=outputs.tobytes(),
        answers=b"\n".join(b'{"prediction":%d}' % row for row in range(rows)),
        shadows=[(7, 10, shadow.tobytes())],
    )


def names(one: Columns) -> list[str]:
    return [id_text(one.id_at(place)) for place in range(one.count)]


def log(session: Session, arm: Arm, *batches: Columns) -> None:
    log_blocks(session, to_blocks((arm, one) for one in batches))


def test_a_prediction_of_a_block_is_found_by_its_id(session: Session) -> None:
    first, second = batch(1), batch(2)
    log(session, CHAMPION, first, second)
    found = find_prediction(session, names(second)[1])
    assert found is not None
    assert (found.model, found.version, found.generation, found.arm) == ("digits", 1, 3, "champion")
    assert (found.entity, found.at, found.answer) == ("e1", NOON + SECOND * 2, {"prediction": 1})
    assert found.row == second.numbers()[1].tolist()
    assert found.output.tobytes() == second.outputs[40:80]
    assert [version for version, _ in found.shadows] == [7]
    unseen = find_prediction(session, names(second)[0])
    assert unseen is not None
    assert unseen.shadows == ()
    assert find_predictions(session, ["no id", names(batch(9))[0], *names(first)]).keys() == {
        *names(first)
    }
    assert predictions_elsewhere(session, names(first), ["other"]) == set(names(first))
    assert predictions_elsewhere(session, names(first), ["digits"]) == set()


def test_rows_that_are_no_plain_numbers_come_back_as_json_carried_them(session: Session) -> None:
    mixed = batch(1, rows=2)
    mixed.columns, mixed.rows, mixed.entities = 0, b'{"a":[1,"\\u00e9"]}\n"text"', []
    log(session, CHAMPION, mixed)
    found = find_predictions(session, names(mixed))
    assert [found[name].row for name in names(mixed)] == [{"a": [1, "\u00e9"]}, "text"]
    assert {one.entity for one in found.values()} == {""}


def test_a_replayed_spool_adds_nothing_twice_however_it_is_cut(session: Session) -> None:
    batches = [batch(number) for number in range(6)]
    log(session, CHAMPION, *batches[:4])
    log(session, CHAMPION, *batches[:4])
    log(session, CHAMPION, *batches[2:])
    log(session, CHAMPION, batches[5], batches[0])
    assert count_predictions(session, "digits") == 18
    assert count_predictions(session, "digits", version=2) == 0
    assert len(find_predictions(session, [name for one in batches for name in names(one)])) == 18


def test_a_block_spans_no_more_than_an_id_is_looked_for_and_no_more_rows_than_are_read() -> None:
    far = to_blocks((CHAMPION, batch(number)) for number in (0, 50, 61, 130))
    assert [block.rows for block in far] == [6, 3, 3]
    many = to_blocks((CHAMPION, batch(number, 500)) for number in range(4))
    assert [block.rows for block in many] == [1500, 500]
    assert all(block.rows <= ROWS_PER_BLOCK + 500 for block in many)
    arms = to_blocks([(CHAMPION, batch(1)), (CHALLENGER, batch(2)), (CHAMPION, batch(3))])
    assert [(block.arm, block.rows) for block in arms] == [(CHAMPION, 6), (CHALLENGER, 3)]


def test_a_row_of_floats_costs_little_more_than_its_bytes(session: Session) -> None:
    log(session, CHAMPION, *(batch(number, 64) for number in range(10)))
    content = session.scalars(select(BlockRow.content)).one()
    beside = 16 + 2 * 40 + 20 + 5  # id, outputs of two versions, answer, entity
    assert len(content) <= 640 * (1.2 * 64 * 4 + beside)


def test_labels_join_predictions_of_blocks_whenever_they_come(session: Session) -> None:
    one = batch(1)
    early, middle, late = names(one)
    (outcome,) = record_labels(session, [LabelItem(early, 4)], NOON)
    assert outcome.status == "unknown"
    assert adopt_orphans(session, (early, early)) == []
    log(session, CHAMPION, one)
    (adopted,) = adopt_orphans(session, (min(names(one)), max(names(one))))
    assert (adopted.prediction_id, adopted.status) == (early, "accepted")
    again = record_labels(session, [LabelItem(early, 4), LabelItem(middle, 5)], NOON)
    assert [item.status for item in again] == ["duplicate", "accepted"]
    assert record_labels(session, [LabelItem(middle, 6)], NOON)[0].status == "conflict"
    call = LossCall(1, 3, ())
    record_losses(session, [(middle, 1, 0.5, NOON), (middle, 7, 0.25, NOON)], call)
    rows = {row.id: row for row in labelled_rows(session, "digits", NOON, 10)}
    assert rows.keys() == {early, middle}
    assert rows[middle].row == one.numbers()[names(one).index(middle)].tolist()
    assert (rows[middle].value, rows[middle].loss) == (5, 0.5)
    (point,) = loss_series(session, "digits", NOON, NOON + SECOND * 9)
    assert (point.prediction_id, point.at, point.loss) == (middle, NOON + SECOND, 0.5)
    # What a label named has a row of its own as well, and still counts once.
    assert session.scalar(select(func.count()).select_from(PredictionRow)) == 2
    assert count_predictions(session, "digits") == 3
    assert count_answers(session, "digits", [NOON, NOON + SECOND * 9]) == [{1: 3}]
    assert find_prediction(session, late) is not None
    assert session.scalar(select(func.count()).select_from(LabelRow)) == 3


def test_answers_in_blocks_are_counted_by_their_moments(session: Session) -> None:
    log(session, CHAMPION, *(batch(number) for number in range(10)))
    log(session, CHALLENGER, *(batch(number, 2) for number in range(8, 14)))
    edges = [NOON + timedelta(seconds=edge) for edge in (-5, 2, 9, 12.5, 60)]
    assert count_answers(session, "digits", edges) == [{1: 6}, {1: 21, 2: 2}, {1: 3, 2: 8}, {2: 2}]
    assert extent(session, "digits", NOON + SECOND * 3, NOON + SECOND * 60) == (
        NOON + SECOND * 3,
        NOON + SECOND * 13,
    )
    moves = [(3, NOON - SECOND), (4, NOON + SECOND * 7), (5, NOON + SECOND * 9)]
    assert first_answers(session, "digits", moves, NOON + SECOND * 60) == [
        NOON,
        NOON + SECOND * 8,
        NOON + SECOND * 9,
    ]


def test_a_block_is_forgotten_once_all_of_it_may_be_and_its_labelled_rows_first(
    session: Session,
) -> None:
    batches = [batch(number) for number in (0, 1, 100, 101, 200)]
    log(session, CHAMPION, *batches)
    named = names(batches[2])[0]
    record_labels(session, [LabelItem(named, 4)], NOON)
    record_losses(session, [(named, 1, 0.5, NOON + SECOND * 900)], LossCall(1, 3, ()))
    now, everything = NOON + SECOND * 1000, Span(NOON - SECOND, NOON + SECOND * 101)
    assert forget_predictions(session, "digits", [everything], now, 100) == 6
    assert find_predictions(session, names(batches[0])) == {}
    assert len(find_predictions(session, names(batches[3]))) == 3  # its block ends too late
    everything = Span(NOON, NOON + SECOND * 900)
    assert forget_predictions(session, "digits", [everything], now, 100) == 3
    assert find_predictions(session, [named]).keys() == {named}  # its label came a moment ago
    later = now + SECOND * 7200
    assert forget_predictions(session, "digits", [everything], later, 100) == 1 + 6
    assert count_predictions(session, "digits") == 0


def test_by_size_the_oldest_blocks_go(session: Session) -> None:
    for number in range(0, 1000, 100):
        log(session, CHAMPION, batch(number))
    each = session.scalar(select(func.length(BlockRow.content)).limit(1)) or 0
    assert oldest_within(session, "digits", 11 * each) is None
    assert oldest_within(session, "digits", 4 * each + each // 2) == NOON + SECOND * 600


def test_what_was_in_blocks_is_in_rows_after_a_step_down(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    one = batch(1)
    maker = sessions(connect(empty_database_url))
    with transaction(maker) as session:
        log(session, CHAMPION, one)
        record_labels(session, [LabelItem(names(one)[0], 4)], NOON)
        before = find_predictions(session, names(one))
    downgrade(empty_database_url, "0009")
    upgrade(empty_database_url)
    with transaction(maker) as session:
        after = find_predictions(session, names(one))
        assert count_predictions(session, "digits") == 3
        assert session.scalar(select(func.count()).select_from(BlockRow)) == 0
    assert {name: plain(row) for name, row in after.items()} == {
        name: plain(row) for name, row in before.items()
    }
    maker.kw["bind"].dispose()


def plain(row: PredictionRecord) -> dict[str, object]:
    shadows = [(version, output.tolist()) for version, output in row.shadows]
    return {**vars(row), "output": row.output.tolist(), "shadows": shadows}
