from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homeostat.errors import HomeostatError, InvalidRow, LearnerError
from homeostat.schema import Feature, Task
from models.learner import Budget, Examples, FitReport, Floats, Label, Learner, Row
from monitoring.profile import Profile
from registry.json_text import from_json, to_json
from serving.answering import Answer, Request, answer
from serving.batching import _unseen
from serving.entries import (
    AS_FIRST,
    Entry,
    Unseen,
    parse_request,
    read_entry,
    to_payload,
    to_records,
    to_spooled,
)
from serving.fleet import Fleet, Split
from serving.ids import new_ids, share_of_entity, share_of_id
from serving.metrics import Metrics
from serving.runtime import Loaded
from serving.shadows import Shadows


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


def test_an_entity_keeps_its_arm() -> None:
    split = Split("m", 3, loaded(1), challenger=loaded(2), phase="canary", canary_share=0.5)
    for entity in ("ann", "bob", "cid", "dan"):
        done = answer(split, [Request([1], entity) for _ in range(20)])
        assert len({one.arm for one in done.results if isinstance(one, Answer)}) == 1


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


def spooled(split: Split, bodies: Sequence[bytes], *unseen: Unseen) -> Entry:
    """The entry of a batch as the spool gives it back; ids are numbered within each request."""
    done = answer(split, [parse_request(body, 10) for body in bodies])
    requests = []
    for body, one in zip(bodies, done.results, strict=True):
        assert isinstance(one, Answer)
        said = [{**answer, "id": str(index)} for index, answer in enumerate(one.predictions)]
        requests.append(to_spooled(one, body, msgspec.json.encode(said)))
    return read_entry(to_payload(split, 1_700_000_000_000_001, requests, unseen))


def test_what_is_spooled_comes_back_as_the_log_keeps_it() -> None:
    split = Split("m", 7, loaded(1), challenger=loaded(2), phase="canary", canary_share=0.0)
    body = b'{"rows": [1, 2.5], "entity": ["ann", "bob"]}'
    first, second = to_records(spooled(split, [body]), {})
    assert (first.id, first.entity, first.answer) == ("0", "ann", {"prediction": 101})
    assert [from_json(to_json(one.row)) for one in (first, second)] == [1, 2.5]
    assert (second.id, second.version, second.generation, second.arm) == ("1", 1, 7, "champion")
    assert second.at.microsecond == 1
    assert second.output.tolist() == [102.5, -1.5]
    assert [(version, out.tolist()) for version, out in second.shadows] == [(2, [202.5, -1.5])]


def test_a_row_that_json_has_no_word_for_is_logged_as_it_came() -> None:
    entry = spooled(Split("m", 1, loaded(1)), [b'{"row": 1}'])
    entry.requests[0].body = b'{"row": Infinity}'
    (record,) = to_records(entry, {})
    assert record.row == float("inf")


@pytest.mark.parametrize("encoding", ["same", "other"])
def test_the_standby_is_asked_on_the_way_to_the_log(encoding: str) -> None:
    standby = loaded(2, encoding=encoding)
    split = Split("m", 1, loaded(1), standby=standby)
    fleet = Fleet(("m",))
    fleet.swap(split)
    x = torch.tensor([[3.0], [1.0], [2.0]]).numpy().tobytes() if encoding == "same" else b""
    entry = spooled(
        split,
        [b'{"rows": [1, 2]}', b'{"row": 5}', b'{"row": 3}'],
        Unseen(2, "d2", [2, 0], 1 if x else 0, x),
    )
    (found,) = Shadows(fleet, Metrics()).ask([entry])
    assert {place: out[:, 0].tolist() for place, out in found[2].items()} == {
        0: [201.0, 202.0],
        2: [203.0],
    }
    shadows = [one.shadows for one in to_records(entry, found)]
    assert [len(one) for one in shadows] == [1, 1, 0, 1]
    assert (shadows[1][0][0], shadows[1][0][1].tolist()) == (2, [202.0, -1.0])


def test_a_standby_that_fails_on_one_request_answers_the_others() -> None:
    split = Split("m", 1, loaded(1, breaks=False), standby=loaded(2))
    fleet, metrics = Fleet(("m",)), Metrics()
    fleet.swap(split)
    bodies = [b'{"row": 1}', b'{"row": 13}', b'{"row": -1}', b'{"row": 4}']
    entry = spooled(split, bodies, Unseen(2, "d2", [0, 1, 2, 3], 0, b""))
    failed: list[tuple[str, int]] = []
    shadows = Shadows(fleet, metrics, lambda model, version: failed.append((model, version)))
    (found,) = shadows.ask([entry])
    assert sorted(found[2]) == [0, 3]
    assert failed == [("m", 2), ("m", 2)]
    labels = {"model": "m", "version": "2"}
    assert metrics.registry.get_sample_value("homeostat_learner_failures_total", labels) == 2


def test_a_shadow_challenger_and_the_standby_are_asked_the_same_rows_that_are_kept_once() -> None:
    split = Split("m", 1, loaded(1), loaded(2), loaded(3), phase="shadow")
    fleet = Fleet(("m",))
    fleet.swap(split)
    done = answer(split, [Request([1, 2]), Request([3])])
    asked = _unseen(done)
    assert [(one.version, one.columns, bool(one.x)) for one in asked] == [
        (2, 1, True),
        (3, AS_FIRST, False),
    ]
    entry = spooled(split, [b'{"rows": [1, 2]}', b'{"row": 3}'], *asked)
    (found,) = Shadows(fleet, Metrics()).ask([entry])
    said = [dict(one.shadows) for one in to_records(entry, found)]
    assert [{v: out[0] for v, out in one.items()} for one in said] == [
        {2: 201, 3: 301},
        {2: 202, 3: 302},
        {2: 203, 3: 303},
    ]


def test_shadows_that_take_too_long_are_left_out_and_counted() -> None:
    split = Split("m", 1, loaded(1), standby=loaded(2))
    fleet, metrics = Fleet(("m",)), Metrics()
    fleet.swap(split)
    body = msgspec.json.encode({"rows": [1] * 10})
    places = list(range(60))
    entry = spooled(split, [body] * 60, Unseen(2, "d2", places, 0, b""))
    (found,) = Shadows(fleet, metrics, seconds=0.0).ask([entry])
    assert sorted(found[2]) == places[:25]  # what is asked at once, whatever it takes
    labels = {"model": "m", "version": "2"}
    value = metrics.registry.get_sample_value
    assert value("homeostat_shadow_rows_dropped_total", labels) == 350
    assert len(to_records(entry, found)) == 600


def test_no_other_version_answers_in_the_name_of_a_standby_that_is_gone() -> None:
    fleet = Fleet(("m",))
    fleet.swap(Split("m", 2, loaded(3), standby=loaded(2)))
    split = Split("m", 1, loaded(1), standby=loaded(2))
    for unseen in (Unseen(2, "of other files", [0], 0, b""), Unseen(1, "d1", [0], 0, b"")):
        assert Shadows(fleet, Metrics()).ask([spooled(split, [b'{"row": 1}'], unseen)]) == [{}]


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
    assert b'homeostat_batch_rows_bucket{le="4096.0",model="m"} 3.0' in metrics.render()
