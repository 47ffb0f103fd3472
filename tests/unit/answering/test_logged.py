"""What is answered comes back from the spool as it was told, plain numbers like all other rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from homeostat.errors import HomeostatError, InvalidRow, LearnerError
from registry.json_text import from_json, to_json
from serving.fleet import Split

if TYPE_CHECKING:
    from tests.unit.answering.conftest import Batch, Maker

NOON = datetime(2026, 11, 22, 12, 0, 0, 1, tzinfo=UTC)  # of every batch


def test_what_is_spooled_comes_back_as_the_log_keeps_it(loaded: Maker, batch: Batch) -> None:
    split = Split("m", 7, loaded(1), challenger=loaded(2), phase="canary", canary_share=0.0)
    body = b'{"rows": [1, 2.5], "entity": ["ann", "bob"]}'
    ((one, two),), _, (first, second) = batch(split, [body])
    assert one == {"id": first.id, "prediction": 101, "version": 1}
    assert (first.entity, first.answer) == ("ann", {"prediction": 101})
    assert [from_json(to_json(one.row)) for one in (first, second)] == [1, 2.5]
    assert (second.id, second.version, second.generation, second.arm) == (
        two["id"],
        1,
        7,
        "champion",
    )
    assert second.at == NOON
    assert second.output.tolist() == [102.5, -1.5]
    assert [(version, out.tolist()) for version, out in second.shadows] == [(2, [202.5, -1.5])]


def test_rows_of_plain_numbers_are_answered_as_all_others_are(numbers: Maker, batch: Batch) -> None:
    bodies = [
        b'{"row": [1, 0.1]}',
        b'{"rows": [[2, 3.0], [4, 5]], "entity": ["ann", "bob"]}',
        b'{"row": [3, 16], "entity": "cid"}',
    ]
    split = Split("m", 7, numbers(1))
    answers, (entry,), records = batch(split, bodies)
    assert [[one["prediction"] for one in given] for given in answers] == [[101], [102, 104], [103]]
    assert [one.id for one in records] == [one["id"] for given in answers for one in given]
    assert [one.row for one in records] == [[1.0, 0.1], [2.0, 3.0], [4.0, 5.0], [3.0, 16.0]]
    assert [one.entity for one in records] == ["", "ann", "bob", "cid"]
    assert records[0].answer == {"prediction": 101.0}
    assert [one.output.tolist() for one in records][3] == [103.0, -2.0]
    assert (entry.answered.columns, entry.answered.exact) == (2, True)  # 0.1 is no float32
    _, (entry,), _ = batch(split, [b'{"row": [1, 0.5]}'])
    assert len(entry.answered.rows) == 2 * 4
    assert split.champion.learner.encoded == 2  # type: ignore[attr-defined]  # one array a batch


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"row": [50, 1]}', InvalidRow),
        (b'{"row": [13, 1]}', LearnerError),
        (b'{"row": [-1, 1]}', LearnerError),
        (b'{"row": [1, 2, 3]}', InvalidRow),
        (b'{"row": [true, 2]}', None),
        (b'{"rows": [[1, 2], [3, NaN]]}', None),
    ],
)
def test_one_row_that_is_not_plain_spoils_no_neighbour(
    numbers: Maker, batch: Batch, body: bytes, error: type[HomeostatError] | None
) -> None:
    good = b'{"row": [7, 1]}'
    answers, _, records = batch(Split("m", 1, numbers(1)), [good, body, good])
    assert [answers[0][0]["prediction"], answers[2][0]["prediction"]] == [107, 107]
    assert answers[1] is error or error is None
    ids = {one["id"] for given in answers if isinstance(given, list) for one in given}
    assert {one.id for one in records} == ids


def test_an_id_and_a_version_are_not_the_learner_s_to_give(
    numbers: Maker, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bold(outputs: NDArray[np.float32]) -> list[dict[str, Any]]:
        return [{"id": "mine", "version": 9, "word": "\u00e9\n"} for _ in outputs]

    one = numbers(1)
    monkeypatch.setattr(one.learner, "answers", bold)
    ((told,),), _, (record,) = batch(Split("m", 1, one), [b'{"row": [1, 2]}'])
    assert told == {"id": record.id, "word": "\u00e9\n", "version": 1}
    assert record.answer == {"word": "\u00e9\n"}


def test_each_arm_of_a_canary_is_logged_as_its_own(numbers: Maker, batch: Batch) -> None:
    split = Split("m", 3, numbers(1), challenger=numbers(2), phase="canary", canary_share=0.5)
    bodies = [b'{"row": [%d, 2]}' % (number % 7) for number in range(60)]
    answers, entries, records = batch(split, bodies)
    assert {(one.version, one.arm) for one in entries} == {(1, "champion"), (2, "challenger")}
    told = {given[0]["id"]: given[0] for given in answers}
    assert {one.id for one in records} == told.keys()
    for one in records:
        ((other, shadow),) = one.shadows
        assert {one.version, other} == {1, 2}
        assert told[one.id]["version"] == one.version
        assert one.output[0] == one.version * 100 + one.row[0]
        assert shadow[0] == other * 100 + one.row[0]


def test_a_shadow_that_failed_a_row_is_logged_for_the_others_alone(
    loaded: Maker, batch: Batch
) -> None:
    split = Split("m", 1, loaded(1, breaks=False), loaded(2), phase="canary", canary_share=0.0)
    _, _, records = batch(split, [b'{"row": 13}', b'{"row": 1}'])
    assert [len(one.shadows) for one in records] == [0, 1]
