from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homeostat.errors import (
    HomeostatError,
    InvalidRequest,
    InvalidRow,
    LearnerError,
    TooLarge,
    UnknownVersion,
)
from homeostat.schema import Feature, Task
from models.learner import Budget, Examples, FitReport, Floats, Label, Learner, Row
from monitoring.profile import Profile
from registry.json_text import from_json, to_json
from registry.log import PredictionRecord, unpacked
from serving.answering import Answer, Request, answer
from serving.batching import Batcher, Reply
from serving.entries import AS_FIRST, Entry, Unseen, parse_request, read_entry
from serving.fleet import Fleet, Split
from serving.ids import new_ids, share_of_entity, share_of_id
from serving.metrics import Metrics
from serving.runtime import Loaded
from serving.shadows import Shadows
from serving.spool import Spool

NOON = datetime(2026, 11, 22, 12, 0, 0, 1, tzinfo=UTC)


class Double(Learner):
    """Answers a number with (it, 1 - it) plus the version's shift; 13 breaks it, -1 gives NaN."""

    task: Task = "classification"

    def __init__(self, shift: float = 0.0, breaks: bool = True) -> None:
        self.shift, self.breaks = shift, breaks
        self.encoded = 0

    @property
    def features(self) -> tuple[Feature, ...]:
        return (Feature("x"),)

    def config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(**config)

    @classmethod
    def from_data(
        cls, rows: Sequence[Row], labels: Sequence[Label], options: Mapping[str, Any]
    ) -> Self:
        del rows, labels, options
        return cls()

    def build(self, generator: torch.Generator) -> nn.Module:
        del generator
        return nn.Identity()

    def encode(self, rows: Sequence[Row]) -> Tensor:
        self.encoded += 1
        for index, row in enumerate(rows):
            if not isinstance(row, int | float):
                raise InvalidRow(f"Row {index} is no number.", row=index)
            if row == 99:
                raise ZeroDivisionError("encode")
        return torch.tensor(rows, dtype=torch.float32)[:, None]

    def targets(self, labels: Sequence[Label]) -> Tensor:
        return torch.tensor(labels)

    def fit(
        self,
        model: nn.Module,
        data: Examples,
        replay: Examples | None,
        budget: Budget,
        generator: torch.Generator,
    ) -> FitReport:
        raise NotImplementedError

    def predict(self, model: nn.Module, batch: Tensor) -> NDArray[np.float32]:
        del model
        if self.breaks and bool((batch == 13).any()):
            raise RuntimeError("thirteen")
        out = torch.cat([batch + self.shift, 1 - batch], dim=1)
        if self.breaks:
            out[batch[:, 0] == -1] = torch.nan
        return out.numpy()

    def answers(self, outputs: NDArray[np.float32]) -> list[dict[str, Any]]:
        return [{"prediction": round(float(one[0]), 3)} for one in outputs]

    def score(self, outputs: NDArray[np.float32], labels: Sequence[Label]) -> Floats:
        assert len(outputs) == len(labels)
        return np.zeros(len(outputs))


PROFILE = Profile.from_reference(
    (Feature("x"),), "classification", np.zeros((4, 1)), np.zeros(4), np.ones(4), np.zeros(4)
)


def loaded(version: int, *, breaks: bool = True, encoding: str = "same") -> Loaded:
    learner = Double(shift=version * 100, breaks=breaks)
    return Loaded("m", version, f"d{version}", learner, nn.Identity(), PROFILE, encoding)


def outcome(result: Answer | HomeostatError) -> object:
    if isinstance(result, HomeostatError):
        return type(result)
    return [one["prediction"] for one in result.predictions]


def test_a_batch_is_encoded_once_for_versions_that_encode_alike() -> None:
    split = Split("m", 1, loaded(1), challenger=loaded(2), phase="canary", canary_share=0.0)
    done = answer(split, [Request([1, 2]), Request([3])])
    assert [outcome(one) for one in done.results] == [[101, 102], [103]]
    assert split.champion.learner.encoded == 1  # type: ignore[attr-defined]  # the double counts
    assert split.challenger is not None
    assert split.challenger.learner.encoded == 0  # type: ignore[attr-defined]
    first = done.results[0]
    assert isinstance(first, Answer)
    assert first.shadows[2][:, 0].tolist() == [201, 202]


def test_versions_that_encode_otherwise_encode_for_themselves() -> None:
    other = loaded(2, encoding="other")
    answer(Split("m", 1, loaded(1), challenger=other, phase="canary"), [Request([1])])
    assert other.learner.encoded == 1  # type: ignore[attr-defined]  # the double counts


def test_no_caller_waits_for_a_challenger_in_shadow() -> None:
    challenger = loaded(2, encoding="other")
    split = Split("m", 1, loaded(1), challenger, loaded(3), phase="shadow", standby_share=0.0)
    done = answer(split, [Request([1, 2]), Request([3])])
    assert [outcome(one) for one in done.results] == [[101, 102], [103]]
    assert challenger.learner.encoded == 0  # type: ignore[attr-defined]  # the double counts
    assert [(one.loaded.version, one.requests) for one in done.asked] == [(2, [0, 1])]


def test_one_bad_row_is_the_error_of_its_request_alone() -> None:
    done = answer(Split("m", 1, loaded(1)), [Request([1]), Request([2, "x"]), Request([3])])
    assert [outcome(one) for one in done.results] == [[101], InvalidRow, [103]]
    bad = done.results[1]
    assert isinstance(bad, InvalidRow)
    assert bad.fields["row"] == 1


@pytest.mark.parametrize("poison", [13, -1, 99])
def test_a_learner_that_fails_on_one_request_answers_the_others(poison: int) -> None:
    done = answer(Split("m", 1, loaded(1)), [Request([1]), Request([poison]), Request([3])])
    assert [outcome(one) for one in done.results] == [[101], LearnerError, [103]]
    assert done.failures == {1: 1}
    assert done.champion_alone_failed == 0


def test_a_failure_counts_towards_a_rollback_only_where_the_standby_can_do_it() -> None:
    able = Split("m", 1, loaded(1), standby=loaded(2, breaks=False), standby_share=0.0)
    unable = Split("m", 1, loaded(1), standby=loaded(2), standby_share=0.0)
    assert answer(able, [Request([13]), Request([1])]).champion_alone_failed == 1
    assert answer(unable, [Request([13]), Request([1])]).champion_alone_failed == 0


def test_a_shadow_that_fails_spoils_no_answer() -> None:
    split = Split("m", 1, loaded(1, breaks=False), challenger=loaded(2), phase="canary")
    done = answer(split, [Request([13]), Request([1])])
    assert [outcome(one) for one in done.results] == [[113], [101]]
    assert done.failures == {2: 1}
    first = done.results[0]
    assert isinstance(first, Answer)
    assert first.shadows == {}


def test_in_canary_each_arm_shadows_the_other_and_no_request_is_mixed() -> None:
    split = Split("m", 3, loaded(1), challenger=loaded(2), phase="canary", canary_share=0.3)
    done = answer(split, [Request([1, 2]) for _ in range(400)])
    answers = [one for one in done.results if isinstance(one, Answer)]
    assert {len({p["version"] for p in one.predictions}) for one in answers} == {1}
    assert all({one.loaded.version, *one.shadows} == {1, 2} for one in answers)
    share = sum(one.arm == "challenger" for one in answers) / 400
    assert 0.2 < share < 0.4
    assert done.rows_of(2) == 2 * sum(one.arm == "challenger" for one in answers)


def test_an_answer_says_why_its_version_answers() -> None:
    canary = Split("m", 3, loaded(1), loaded(2), loaded(3), phase="canary", canary_share=0.5)
    asked = [Request([1]), Request([1], "ann"), Request([1], version=3, pinned=True)]
    done = answer(canary, asked)
    answers = [one for one in done.results if isinstance(one, Answer)]
    assert [one.reason for one in answers] == ["canary-share", "canary-entity", "pinned"]
    assert outcome(answers[2]) == [301]
    assert (answers[2].arm, sorted(answers[2].shadows)) == ("pinned", [1, 2])
    # It has answered for itself, and counts for nobody's share.
    assert [list(one.requests) for one in done.asked] == [[0, 1]]
    assert (done.rows_of(3), done.rows_of(1) + done.rows_of(2)) == (0, 2)
    (steady,) = answer(Split("m", 3, loaded(1)), [Request([1], "ann")]).results
    assert isinstance(steady, Answer)
    assert (steady.reason, steady.arm) == ("champion", "champion")


def test_a_pinned_version_that_went_while_the_request_waited_answers_nobody() -> None:
    done = answer(Split("m", 3, loaded(1)), [Request([1], version=2, pinned=True), Request([1])])
    assert [outcome(one) for one in done.results] == [UnknownVersion, [101]]


def test_an_entity_keeps_its_arm() -> None:
    split = Split("m", 3, loaded(1), challenger=loaded(2), phase="canary", canary_share=0.5)
    for entity in ("ann", "bob", "cid", "dan"):
        done = answer(split, [Request([1], entity) for _ in range(20)])
        assert len({one.arm for one in done.results if isinstance(one, Answer)}) == 1


def test_a_named_version_answers_whatever_its_share_and_one_that_does_not_serve_never() -> None:
    split = Split("m", 3, loaded(1), challenger=loaded(2), phase="canary", canary_share=0.01)
    done = answer(split, [Request([1], version=version) for version in (2, 1, 9, 2)])
    assert [outcome(one) for one in done.results] == [[201], [101], UnknownVersion, [201]]
    trial = Split("m", 3, loaded(1), challenger=loaded(2), phase="shadow")
    done = answer(trial, [Request([1], version=2), Request([1])])
    assert [outcome(one) for one in done.results] == [UnknownVersion, [101]]
    moved = answer(Split("m", 4, loaded(2)), [Request([1], version=1), Request([1], version=2)])
    assert [outcome(one) for one in moved.results] == [UnknownVersion, [201]]


def test_the_standby_is_to_be_asked_for_its_share_of_what_was_answered() -> None:
    split = Split("m", 1, loaded(1), standby=loaded(2), standby_share=0.25)
    done = answer(split, [Request([1]) for _ in range(400)] + [Request(["x"])])
    assert all(one.shadows == {} for one in done.results if isinstance(one, Answer))
    (asked,) = done.asked
    assert 60 < len(asked.requests) < 140
    assert asked.x is not None
    assert len(asked.x) == len(asked.requests)
    assert 400 not in asked.requests


def test_ids_are_version_seven_distinct_and_uniform() -> None:
    ids = new_ids(2000)
    assert len(set(ids)) == 2000
    assert {(one[14], one[19] in "89ab", len(one)) for one in ids} == {("7", True, 36)}
    assert 0.45 < sum(map(share_of_id, ids)) / 2000 < 0.55
    assert 0.45 < sum(share_of_entity(str(n), "s") for n in range(2000)) / 2000 < 0.55


class Numbers(Double):
    """The same, of rows that are plain lists of two numbers; 50 is refused by either way."""

    @property
    def row_size(self) -> int:
        return 2

    def encode(self, rows: Sequence[Row]) -> Tensor:
        for index, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != 2 or row[0] == 50:
                raise InvalidRow(f"Row {index} is not two numbers.", row=index)
        return torch.tensor(rows, dtype=torch.float32)[:, :1]

    def encode_array(self, values: NDArray[np.floating[Any]]) -> Tensor:
        self.encoded += 1
        if (values[:, 0] == 50).any():
            raise InvalidRow("Row 0 is not two numbers.", row=0)
        return torch.from_numpy(values[:, :1].astype(np.float32))


def numbers(version: int, **more: Any) -> Loaded:  # noqa: ANN401 - of Loaded's learner
    learner = Numbers(shift=version * 100, **more)
    return Loaded("m", version, f"d{version}", learner, nn.Identity(), PROFILE, "same")


async def asked_of(split: Split, bodies: Sequence[bytes], folder: Path) -> tuple[list[Any], Spool]:
    """The answers of one batch as callers get them, errors by their type, and its spool."""
    fleet = Fleet(("m",))
    fleet.swap(split)
    spool = Spool(folder)
    batcher = Batcher(fleet, spool, Metrics(), lambda _split, _done: None, lambda: NOON)
    requests = [parse_request(body, 10, fleet.columns("m")) for body in bodies]
    replies = await asyncio.gather(
        *(batcher.submit("m", request) for request in requests), return_exceptions=True
    )
    return [
        msgspec.json.decode(one.body)["predictions"] if isinstance(one, Reply) else type(one)
        for one in replies
    ], spool


def batch(
    split: Split, bodies: Sequence[bytes], folder: Path
) -> tuple[list[Any], list[Entry], list[PredictionRecord]]:
    """The answers of one batch, its entries, and what the log makes of them, in order of ids."""
    answers, spool = asyncio.run(asked_of(split, bodies, folder))
    entries: list[Entry] = []
    spool.drain(lambda payloads: entries.extend(map(read_entry, payloads)))
    spool.close()
    return answers, entries, records_of(entries)


def records_of(entries: Sequence[Entry]) -> list[PredictionRecord]:
    return [one for entry in entries for one in unpacked(entry.who, entry.answered)]


def test_what_is_spooled_comes_back_as_the_log_keeps_it(tmp_path: Path) -> None:
    split = Split("m", 7, loaded(1), challenger=loaded(2), phase="canary", canary_share=0.0)
    body = b'{"rows": [1, 2.5], "entity": ["ann", "bob"]}'
    ((one, two),), _, (first, second) = batch(split, [body], tmp_path)
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


def test_rows_of_plain_numbers_are_answered_as_all_others_are(tmp_path: Path) -> None:
    bodies = [
        b'{"row": [1, 0.1]}',
        b'{"rows": [[2, 3.0], [4, 5]], "entity": ["ann", "bob"]}',
        b'{"row": [3, 16], "entity": "cid"}',
    ]
    split = Split("m", 7, numbers(1))
    answers, (entry,), records = batch(split, bodies, tmp_path / "a")
    assert [[one["prediction"] for one in given] for given in answers] == [[101], [102, 104], [103]]
    assert [one.id for one in records] == [one["id"] for given in answers for one in given]
    assert [one.row for one in records] == [[1.0, 0.1], [2.0, 3.0], [4.0, 5.0], [3.0, 16.0]]
    assert [one.entity for one in records] == ["", "ann", "bob", "cid"]
    assert records[0].answer == {"prediction": 101.0}
    assert [one.output.tolist() for one in records][3] == [103.0, -2.0]
    assert (entry.answered.columns, entry.answered.exact) == (2, True)  # 0.1 is no float32
    _, (entry,), _ = batch(split, [b'{"row": [1, 0.5]}'], tmp_path / "b")
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
    body: bytes, error: type[HomeostatError] | None, tmp_path: Path
) -> None:
    good = b'{"row": [7, 1]}'
    answers, _, records = batch(Split("m", 1, numbers(1)), [good, body, good], tmp_path)
    assert [answers[0][0]["prediction"], answers[2][0]["prediction"]] == [107, 107]
    assert answers[1] is error or error is None
    ids = {one["id"] for given in answers if isinstance(given, list) for one in given}
    assert {one.id for one in records} == ids


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"rows": []}',
        b'{"row": [1, 2], "rows": [[1, 2]]}',
        b'{"rows": [[1, 2]], "entity": ["a", "b"]}',
        b'{"row": [1, 2], "more": 1}',
        b'{"row": [1, 2]',
    ],
)
def test_a_body_that_is_wrong_is_wrong_in_the_same_words_for_plain_numbers(body: bytes) -> None:
    said = []
    for row_size in (0, 2):
        with pytest.raises(InvalidRequest) as caught:
            parse_request(body, 10, row_size)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_more_rows_than_are_taken_are_too_many_for_plain_numbers_too() -> None:
    with pytest.raises(TooLarge):
        parse_request(b'{"rows": [[1, 2], [1, 2]]}', 1, 2)


def test_an_id_and_a_version_are_not_the_learner_s_to_give(tmp_path: Path) -> None:
    class Bold(Numbers):
        def answers(self, outputs: NDArray[np.float32]) -> list[dict[str, Any]]:
            return [{"id": "mine", "version": 9, "word": "\u00e9\n"} for _ in outputs]

    one = Loaded("m", 1, "d1", Bold(), nn.Identity(), PROFILE, "same")
    ((told,),), _, (record,) = batch(Split("m", 1, one), [b'{"row": [1, 2]}'], tmp_path)
    assert told == {"id": record.id, "word": "\u00e9\n", "version": 1}
    assert record.answer == {"word": "\u00e9\n"}


def test_each_arm_of_a_canary_is_logged_as_its_own(tmp_path: Path) -> None:
    split = Split("m", 3, numbers(1), challenger=numbers(2), phase="canary", canary_share=0.5)
    bodies = [b'{"row": [%d, 2]}' % (number % 7) for number in range(60)]
    answers, entries, records = batch(split, bodies, tmp_path)
    assert {(one.version, one.arm) for one in entries} == {(1, "champion"), (2, "challenger")}
    told = {given[0]["id"]: given[0] for given in answers}
    assert {one.id for one in records} == told.keys()
    for one in records:
        ((other, shadow),) = one.shadows
        assert {one.version, other} == {1, 2}
        assert told[one.id]["version"] == one.version
        assert one.output[0] == one.version * 100 + one.row[0]
        assert shadow[0] == other * 100 + one.row[0]


def test_a_shadow_that_failed_a_row_is_logged_for_the_others_alone(tmp_path: Path) -> None:
    split = Split("m", 1, loaded(1, breaks=False), loaded(2), phase="canary", canary_share=0.0)
    _, _, records = batch(split, [b'{"row": 13}', b'{"row": 1}'], tmp_path)
    assert [len(one.shadows) for one in records] == [0, 1]


@pytest.mark.parametrize("kind", ["same", "other", "numbers"])
@pytest.mark.parametrize("role", ["standby", "challenger"])
def test_who_answers_unseen_is_asked_on_the_way_to_the_log(
    kind: str, role: str, tmp_path: Path
) -> None:
    unseen = numbers(2) if kind == "numbers" else loaded(2, encoding=kind)
    champion = numbers(1) if kind == "numbers" else loaded(1)
    split = Split("m", 1, champion, **{role: unseen}, phase="shadow")  # type: ignore[arg-type]
    fleet = Fleet(("m",))
    fleet.swap(split)
    rows = ["[1, 9]", "[2, 9]", "[5, 9]"] if kind == "numbers" else ["1", "2", "5"]
    bodies = [b'{"rows": [%b, %b]}' % (rows[0].encode(), rows[1].encode())]
    _, (entry,), _ = batch(split, [*bodies, b'{"row": %b}' % rows[2].encode()], tmp_path)
    (asked,) = entry.unseen
    assert bool(asked.x) == (kind == "same")
    (found,) = Shadows(fleet, Metrics()).ask([entry])
    assert found[2][:, 0].tolist() == [201.0, 202.0, 205.0]
    asked.rows, asked.x = [0, 2], asked.x[:4] + asked.x[8:]
    (found,) = Shadows(fleet, Metrics()).ask([entry])
    entry.answered.shadows.append((2, found[2].shape[1], found[2].tobytes()))
    shadows = [one.shadows for one in records_of([entry])]
    assert [len(one) for one in shadows] == [1, 0, 1]
    assert (shadows[2][0][0], shadows[2][0][1].tolist()) == (2, [205.0, -4.0])


def test_the_standby_is_asked_its_share_of_requests_of_plain_numbers(tmp_path: Path) -> None:
    split = Split("m", 1, numbers(1), standby=numbers(2), standby_share=0.25)
    bodies = [b'{"rows": [[1, 2], [3, 4]]}' for _ in range(200)]
    _, (entry,), _ = batch(split, bodies, tmp_path)
    rows = entry.unseen[0].rows
    assert rows is not None
    assert 40 < len(rows) < 180
    assert {row - 1 for row in rows if row % 2} == {row for row in rows if not row % 2}


def test_a_standby_that_fails_on_one_row_answers_the_others(tmp_path: Path) -> None:
    split = Split("m", 1, loaded(1, breaks=False), standby=loaded(2, encoding="other"))
    fleet, metrics = Fleet(("m",)), Metrics()
    fleet.swap(split)
    bodies = [b'{"row": 1}', b'{"row": 13}', b'{"row": -1}', b'{"row": 4}']
    _, (entry,), _ = batch(split, bodies, tmp_path)
    failed: list[tuple[str, int]] = []
    shadows = Shadows(fleet, metrics, lambda model, version: failed.append((model, version)))
    (found,) = shadows.ask([entry])
    assert np.isnan(found[2]).all(axis=1).tolist() == [False, True, True, False]
    assert failed == [("m", 2), ("m", 2)]
    labels = {"model": "m", "version": "2"}
    assert metrics.registry.get_sample_value("homeostat_learner_failures_total", labels) == 2


def test_a_shadow_challenger_and_the_standby_are_asked_the_same_rows_that_are_kept_once(
    tmp_path: Path,
) -> None:
    split = Split("m", 1, loaded(1), loaded(2), loaded(3), phase="shadow")
    fleet = Fleet(("m",))
    fleet.swap(split)
    _, (entry,), _ = batch(split, [b'{"rows": [1, 2]}', b'{"row": 3}'], tmp_path)
    assert [(one.version, one.columns, bool(one.x)) for one in entry.unseen] == [
        (2, 1, True),
        (3, AS_FIRST, False),
    ]
    (found,) = Shadows(fleet, Metrics()).ask([entry])
    assert {version: out[:, 0].tolist() for version, out in found.items()} == {
        2: [201, 202, 203],
        3: [301, 302, 303],
    }


def test_shadows_that_take_too_long_are_left_out_and_counted(tmp_path: Path) -> None:
    split = Split("m", 1, loaded(1), standby=loaded(2))
    fleet, metrics = Fleet(("m",)), Metrics()
    fleet.swap(split)
    bodies = [msgspec.json.encode({"rows": [1] * 10})] * 60
    _, (entry,), records = batch(split, bodies, tmp_path)
    (found,) = Shadows(fleet, metrics, seconds=0.0).ask([entry])
    assert np.isfinite(found[2]).all(axis=1).sum() == 256  # what is asked at once, however long
    labels = {"model": "m", "version": "2"}
    value = metrics.registry.get_sample_value
    assert value("homeostat_shadow_rows_dropped_total", labels) == 344
    assert len(records) == 600


def test_no_other_version_answers_in_the_name_of_a_standby_that_is_gone(tmp_path: Path) -> None:
    fleet = Fleet(("m",))
    fleet.swap(Split("m", 2, loaded(3), standby=loaded(2)))
    split = Split("m", 1, loaded(1), standby=loaded(2))
    _, (entry,), _ = batch(split, [b'{"row": 1}'], tmp_path)
    for unseen in (Unseen(2, "of other files", None), Unseen(1, "d1", None)):
        entry.unseen = [unseen]
        assert Shadows(fleet, Metrics()).ask([entry]) == [{}]


def test_figures_of_a_histogram_are_prometheus_s_own() -> None:
    metrics = Metrics()
    metrics.batch_rows.add("m", [1, 2, 3, 5000])
    value = metrics.registry.get_sample_value
    name, of = "homeostat_batch_rows", {"model": "m"}
    assert value(f"{name}_count", of) == 4
    assert value(f"{name}_sum", of) == 5006
    assert [value(f"{name}_bucket", of | {"le": le}) for le in ("1.0", "2.0", "4.0", "+Inf")] == [
        *(1, 2, 3, 4)
    ]
    assert b'homeostat_batch_rows_bucket{le="4096.0",model="m"} 3.0' in metrics.render()[0]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b'{"rows": [[1, 2, 3], [4, 5, 6]]}', 6),
        (b'{"row": [[[1], [2, 3]], {"a": 4, "b": [5, 6]}]}', 6),
        (b'{"row": ' + b"[" * 300 + b"1" + b"]" * 300 + b"}", 1),
    ],
)
def test_the_values_of_a_request_are_bounded_however_they_are_nested(
    body: bytes, count: int
) -> None:
    assert parse_request(body, 10, max_elements=count).rows
    if count > 1:
        for columns in (0, 3):  # also of a model that takes three plain numbers a row
            with pytest.raises(TooLarge, match=f"has {count} values"):
                parse_request(body, 10, columns, count - 1)
