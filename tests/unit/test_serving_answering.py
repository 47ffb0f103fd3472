from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homeostat.errors import HomeostatError, InvalidRow, LearnerError
from homeostat.schema import Feature, Task
from models.learner import Budget, Examples, FitReport, Floats, Label, Learner, Row
from monitoring.profile import Profile
from serving.answering import Answer, Request, answer
from serving.entries import parse_request, to_entry, to_records
from serving.fleet import Split
from serving.ids import new_ids, share_of_entity, share_of_id
from serving.runtime import Loaded


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
    split = Split("m", 1, loaded(1), standby=loaded(2))
    done = answer(split, [Request([1, 2]), Request([3])])
    assert [outcome(one) for one in done.results] == [[101, 102], [103]]
    assert split.champion.learner.encoded == 1  # type: ignore[attr-defined]  # the double counts
    assert split.standby is not None
    assert split.standby.learner.encoded == 0  # type: ignore[attr-defined]
    first = done.results[0]
    assert isinstance(first, Answer)
    assert first.shadows[2][:, 0].tolist() == [201, 202]


def test_versions_that_encode_otherwise_encode_for_themselves() -> None:
    split = Split("m", 1, loaded(1), standby=loaded(2, encoding="other"))
    answer(split, [Request([1])])
    assert split.standby is not None
    assert split.standby.learner.encoded == 1  # type: ignore[attr-defined]  # the double counts


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
    split = Split("m", 1, loaded(1, breaks=False), challenger=loaded(2), phase="shadow")
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


def test_an_entity_keeps_its_arm() -> None:
    split = Split("m", 3, loaded(1), challenger=loaded(2), phase="canary", canary_share=0.5)
    for entity in ("ann", "bob", "cid", "dan"):
        done = answer(split, [Request([1], entity) for _ in range(20)])
        assert len({one.arm for one in done.results if isinstance(one, Answer)}) == 1


def test_the_standby_answers_its_share_of_requests_in_shadow() -> None:
    split = Split("m", 1, loaded(1), standby=loaded(2), standby_share=0.25)
    done = answer(split, [Request([1]) for _ in range(400)])
    shadowed = sum(bool(one.shadows) for one in done.results if isinstance(one, Answer))
    assert 60 < shadowed < 140


def test_ids_are_version_seven_distinct_and_uniform() -> None:
    ids = new_ids(2000)
    assert len(set(ids)) == 2000
    assert {(one[14], one[19] in "89ab", len(one)) for one in ids} == {("7", True, 36)}
    assert 0.45 < sum(map(share_of_id, ids)) / 2000 < 0.55
    assert 0.45 < sum(share_of_entity(str(n), "s") for n in range(2000)) / 2000 < 0.55


def test_what_is_spooled_comes_back_as_the_log_keeps_it() -> None:
    split = Split("m", 7, loaded(1), standby=loaded(2))
    body = b'{"rows": [1, 2.5], "entity": ["ann", "bob"]}'
    (result,) = answer(split, [parse_request(body, 10)]).results
    assert isinstance(result, Answer)
    said = b'[{"id":"a","prediction":101.0,"version":1},{"id":"b","prediction":102.5,"version":1}]'
    first, second = to_records(to_entry(result, 7, 1_700_000_000_000_001, body, said))
    assert (first.id, first.entity, first.row, first.answer) == ("a", "ann", 1, {"prediction": 101})
    assert (second.id, second.version, second.generation, second.arm) == ("b", 1, 7, "champion")
    assert second.at.microsecond == 1
    assert second.output.tolist() == [102.5, -1.5]
    assert [(version, out.tolist()) for version, out in second.shadows] == [(2, [202.5, -1.5])]
