"""Who answers a request, whom it shadows, and whose failure is whose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from homeostat.errors import HomeostatError, InvalidRow, LearnerError, UnknownVersion
from serving.answering import Answer, Request, answer
from serving.fleet import Split
from serving.ids import new_ids, share_of_entity, share_of_id

if TYPE_CHECKING:
    from tests.unit.answering.conftest import Maker


def outcome(result: Answer | HomeostatError) -> object:
    if isinstance(result, HomeostatError):
        return type(result)
    return [one["prediction"] for one in result.predictions]


def test_a_batch_is_encoded_once_for_versions_that_encode_alike(loaded: Maker) -> None:
    split = Split("m", 1, loaded(1), challenger=loaded(2), phase="canary", canary_share=0.0)
    done = answer(split, [Request([1, 2]), Request([3])])
    assert [outcome(one) for one in done.results] == [[101, 102], [103]]
    assert split.champion.learner.encoded == 1  # type: ignore[attr-defined]  # the double counts
    assert split.challenger is not None
    assert split.challenger.learner.encoded == 0  # type: ignore[attr-defined]
    first = done.results[0]
    assert isinstance(first, Answer)
    assert first.shadows[2][:, 0].tolist() == [201, 202]


def test_versions_that_encode_otherwise_encode_for_themselves(loaded: Maker) -> None:
    other = loaded(2, encoding="other")
    answer(Split("m", 1, loaded(1), challenger=other, phase="canary"), [Request([1])])
    assert other.learner.encoded == 1  # type: ignore[attr-defined]  # the double counts


def test_no_caller_waits_for_a_challenger_in_shadow(loaded: Maker) -> None:
    challenger = loaded(2, encoding="other")
    split = Split("m", 1, loaded(1), challenger, loaded(3), phase="shadow", standby_share=0.0)
    done = answer(split, [Request([1, 2]), Request([3])])
    assert [outcome(one) for one in done.results] == [[101, 102], [103]]
    assert challenger.learner.encoded == 0  # type: ignore[attr-defined]  # the double counts
    assert [(one.loaded.version, one.requests) for one in done.asked] == [(2, [0, 1])]


def test_one_bad_row_is_the_error_of_its_request_alone(loaded: Maker) -> None:
    done = answer(Split("m", 1, loaded(1)), [Request([1]), Request([2, "x"]), Request([3])])
    assert [outcome(one) for one in done.results] == [[101], InvalidRow, [103]]
    bad = done.results[1]
    assert isinstance(bad, InvalidRow)
    assert bad.fields["row"] == 1


@pytest.mark.parametrize("poison", [13, -1, 99])
def test_a_learner_that_fails_on_one_request_answers_the_others(loaded: Maker, poison: int) -> None:
    done = answer(Split("m", 1, loaded(1)), [Request([1]), Request([poison]), Request([3])])
    assert [outcome(one) for one in done.results] == [[101], LearnerError, [103]]
    assert done.failures == {1: 1}
    assert done.champion_alone_failed == 0


def test_a_failure_counts_towards_a_rollback_only_where_the_standby_can_do_it(
    loaded: Maker,
) -> None:
    able = Split("m", 1, loaded(1), standby=loaded(2, breaks=False), standby_share=0.0)
    unable = Split("m", 1, loaded(1), standby=loaded(2), standby_share=0.0)
    assert answer(able, [Request([13]), Request([1])]).champion_alone_failed == 1
    assert answer(unable, [Request([13]), Request([1])]).champion_alone_failed == 0


def test_a_shadow_that_fails_spoils_no_answer(loaded: Maker) -> None:
    split = Split("m", 1, loaded(1, breaks=False), challenger=loaded(2), phase="canary")
    done = answer(split, [Request([13]), Request([1])])
    assert [outcome(one) for one in done.results] == [[113], [101]]
    assert done.failures == {2: 1}
    first = done.results[0]
    assert isinstance(first, Answer)
    assert first.shadows == {}


def test_in_canary_each_arm_shadows_the_other_and_no_request_is_mixed(loaded: Maker) -> None:
    split = Split("m", 3, loaded(1), challenger=loaded(2), phase="canary", canary_share=0.3)
    done = answer(split, [Request([1, 2]) for _ in range(400)])
    answers = [one for one in done.results if isinstance(one, Answer)]
    assert {len({p["version"] for p in one.predictions}) for one in answers} == {1}
    assert all({one.loaded.version, *one.shadows} == {1, 2} for one in answers)
    share = sum(one.arm == "challenger" for one in answers) / 400
    assert 0.2 < share < 0.4
    assert done.rows_of(2) == 2 * sum(one.arm == "challenger" for one in answers)


def test_an_answer_says_why_its_version_answers(loaded: Maker) -> None:
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


def test_a_pinned_version_that_went_while_the_request_waited_answers_nobody(loaded: Maker) -> None:
    done = answer(Split("m", 3, loaded(1)), [Request([1], version=2, pinned=True), Request([1])])
    assert [outcome(one) for one in done.results] == [UnknownVersion, [101]]


def test_an_entity_keeps_its_arm(loaded: Maker) -> None:
    split = Split("m", 3, loaded(1), challenger=loaded(2), phase="canary", canary_share=0.5)
    for entity in ("ann", "bob", "cid", "dan"):
        done = answer(split, [Request([1], entity) for _ in range(20)])
        assert len({one.arm for one in done.results if isinstance(one, Answer)}) == 1


def test_a_named_version_answers_whatever_its_share_and_one_that_does_not_serve_never(
    loaded: Maker,
) -> None:
    split = Split("m", 3, loaded(1), challenger=loaded(2), phase="canary", canary_share=0.01)
    done = answer(split, [Request([1], version=version) for version in (2, 1, 9, 2)])
    assert [outcome(one) for one in done.results] == [[201], [101], UnknownVersion, [201]]
    trial = Split("m", 3, loaded(1), challenger=loaded(2), phase="shadow")
    done = answer(trial, [Request([1], version=2), Request([1])])
    assert [outcome(one) for one in done.results] == [UnknownVersion, [101]]
    moved = answer(Split("m", 4, loaded(2)), [Request([1], version=1), Request([1], version=2)])
    assert [outcome(one) for one in moved.results] == [UnknownVersion, [201]]


def test_the_standby_is_to_be_asked_for_its_share_of_what_was_answered(loaded: Maker) -> None:
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
