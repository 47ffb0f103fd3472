import numpy as np
import pytest

from homeostat.errors import ArtifactError, InputError
from monitoring import PairedTest, compare_losses, mean_interval, p_at_least


def labels_to_decision(
    test: PairedTest, rng: np.random.Generator, worse: float, better: float, limit: int = 5_000
) -> int:
    for n in range(1, limit):
        u = rng.random()
        test.update([1.0 if u < worse else -1.0 if u > 1 - better else 0.0])
        if test.decision != "continue":
            return n
    return limit


def test_a_challenger_better_by_0_3_decides_within_a_hundred_labels() -> None:
    for seed in range(20):
        test = PairedTest(0.02, 0.05)
        assert labels_to_decision(test, np.random.default_rng(seed), 0.05, 0.35) <= 100
        assert test.decision == "not-worse"


def test_a_challenger_worse_by_0_3_is_found_worse() -> None:
    for seed in range(20):
        test = PairedTest(0.02, 0.05)
        assert labels_to_decision(test, np.random.default_rng(seed), 0.35, 0.05) <= 100
        assert test.decision == "worse"


def test_versions_that_never_disagree_need_hundreds_of_labels() -> None:
    test = PairedTest(0.02, 0.05)
    decisions = []
    for _ in range(2):
        test.update(np.zeros(150))
        decisions.append(test.decision)
    assert decisions == ["continue", "not-worse"]


def test_each_error_is_as_rare_as_stated_with_a_look_after_every_label() -> None:
    rng = np.random.default_rng(0)
    wrong_promotions = wrong_aborts = 0
    for _ in range(150):
        test = PairedTest(0.1, 0.1)
        test.update(rng.choice([1.0, 0.0, -1.0], 300, p=[0.2, 0.7, 0.1]))  # mean 0.1: the margin
        wrong_promotions += test.decision == "not-worse"
        test = PairedTest(0.1, 0.1)
        test.update(rng.choice([1.0, 0.0, -1.0], 300, p=[0.1, 0.8, 0.1]))  # mean 0
        wrong_aborts += test.decision == "worse"
    assert wrong_promotions <= 15 + 8
    assert wrong_aborts <= 15 + 8


def test_a_decision_stands() -> None:
    test = PairedTest(0.02, 0.05)
    test.update(-np.ones(50))
    test.update(np.ones(500))
    assert test.decision == "not-worse"


def test_the_confidence_sequence_covers_and_narrows() -> None:
    rng = np.random.default_rng(1)
    test = PairedTest(0.02, 0.05)
    assert test.interval() == (-1.0, 1.0)
    widths = []
    for _ in range(3):
        test.update(rng.choice([1.0, 0.0, -1.0], 400, p=[0.1, 0.6, 0.3]))
        low, high = test.interval()
        assert low < -0.2 < high
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 0.25


def test_a_paired_test_survives_json_and_merges() -> None:
    test, other = PairedTest(0.02, 0.05), PairedTest(0.02, 0.05)
    test.update([0.25, -0.5, 0.0])
    other.update([-1.0, -1.0])
    again = PairedTest.from_json(test.to_json())
    assert again.to_json() == test.to_json()
    assert again.interval() == test.interval()
    again.merge(other)
    assert again.n == 5
    assert again.mean == pytest.approx(-0.45)
    with pytest.raises(InputError):
        again.merge(PairedTest(0.03, 0.05))
    with pytest.raises(ArtifactError):
        PairedTest.from_json('{"schema": 1, "decision": "perhaps"}')


def test_a_difference_that_is_none_is_named() -> None:
    test = PairedTest(0.02, 0.05)
    with pytest.raises(InputError, match="difference at index 1 is nan"):
        test.update([0.0, np.nan])
    assert test.n == 0


@pytest.mark.parametrize(("margin", "rate"), [(1.0, 0.05), (-0.1, 0.05), (0.1, 0.0), (0.1, 1.0)])
def test_a_margin_or_error_rate_that_cannot_be_tested_is_refused(
    margin: float, rate: float
) -> None:
    with pytest.raises(InputError):
        PairedTest(margin, rate)


def test_a_mean_interval_without_values_is_everything() -> None:
    assert mean_interval([], 0.05) == (0.0, 1.0)


def test_mean_intervals_cover_as_often_as_they_say_and_are_of_use() -> None:
    rng = np.random.default_rng(2)
    misses = 0
    for _ in range(200):
        low, high = mean_interval((rng.random(120) < 0.15).astype(float), 0.1)
        misses += not low <= 0.15 <= high
        assert high - low < 0.35
    assert misses <= 20
    low, high = mean_interval(np.ones(100), 0.05)
    assert high == 1
    assert low > 0.9


def test_an_equal_candidate_passes_with_a_margin_that_the_rows_can_show() -> None:
    losses = np.r_[np.zeros(190), np.ones(10)]
    outcome = compare_losses(losses, losses, 0.03, 0.05)
    assert outcome.passed
    assert outcome.mean == 0.0
    assert outcome.low < 0 < outcome.high < 0.03
    assert not compare_losses(losses[:20], losses[:20], 0.03, 0.05).passed


def test_a_worse_candidate_is_shown_to_be_worse() -> None:
    champion = np.zeros(200)
    outcome = compare_losses(np.r_[np.ones(30), np.zeros(170)], champion, 0.03, 0.05)
    assert not outcome.passed
    assert p_at_least(champion - np.r_[np.ones(30), np.zeros(170)], -0.03) < 0.001
    assert 0.05 < outcome.low < 0.15 < outcome.high


def test_a_candidate_that_is_perfectly_wrong_or_right_has_finite_figures() -> None:
    ones, zeros = np.ones(50), np.zeros(50)
    worst, best = compare_losses(ones, zeros, 0.02, 0.05), compare_losses(zeros, ones, 0.02, 0.05)
    assert (worst.passed, best.passed) == (False, True)
    assert worst.high == 1
    assert best.low == -1


def test_the_offline_test_errs_as_rarely_as_stated() -> None:
    rng = np.random.default_rng(3)
    passed = misses = 0
    for _ in range(400):
        champion = (rng.random(200) < 0.1).astype(float)
        worse = (champion == 0) & (rng.random(200) < 0.08 / 0.9)
        better = (champion == 1) & (rng.random(200) < 0.3)
        candidate = np.where(worse, 1.0, np.where(better, 0.0, champion))  # worse by 0.05
        outcome = compare_losses(candidate, champion, 0.05, 0.05)
        passed += outcome.passed
        misses += not outcome.low <= 0.05 <= outcome.high
    assert passed <= 32
    assert misses <= 32


def test_losses_of_a_regression_are_compared() -> None:
    rng = np.random.default_rng(4)
    champion = rng.uniform(0.1, 0.3, 200)
    better = compare_losses(champion - 0.05, champion + rng.normal(0, 0.01, 200), 0.02, 0.05)
    assert better.passed
    assert -0.06 < better.low < better.mean < better.high < -0.04


def test_nothing_is_shown_by_no_rows() -> None:
    outcome = compare_losses([], [], 0.02, 0.05)
    assert (outcome.n, outcome.low, outcome.high, outcome.passed) == (0, -1.0, 1.0, False)


def test_losses_of_different_rows_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be paired"):
        compare_losses([0.0], [0.0, 1.0], 0.02, 0.05)
