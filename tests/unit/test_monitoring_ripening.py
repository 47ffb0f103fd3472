"""Labels count once those of predictions made with their own are in, whatever they say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.drift_selection import BAD, COURSES, EARLY, count
from monitoring import LossDetector, LossReference
from monitoring.delays import MATURE
from monitoring.ripening import (
    COMPLETE,
    SETTLED,
    WARM,
    YOUNG,
    complete_until,
    counts_after,
    frontiers,
)

MADE = np.arange(100.0)


def test_predictions_are_complete_up_to_the_last_that_few_before_lack() -> None:
    ones = np.ones(100)
    assert complete_until(MADE, ones, MADE[:40]) is not None
    found = complete_until(MADE, ones, np.delete(MADE, [10, 20, *range(60, 90)]))
    assert found is not None
    assert found.at == 59.0
    assert found.share == pytest.approx(58 / 60)


def test_labels_of_a_tenth_of_the_predictions_are_not_complete() -> None:
    wrong = MADE[5::10]
    assert complete_until(MADE, np.ones(100), wrong) is None


def test_a_block_of_predictions_counts_whole_from_its_first_on() -> None:
    assert complete_until([0.0], [100], MADE[:94]) is None
    found = complete_until([0.0], [100], MADE[:95])
    assert found is not None
    assert found.share == pytest.approx(COMPLETE)


def test_labels_count_at_the_age_that_most_took_once_the_history_is_long() -> None:
    rng = np.random.default_rng(1)
    wrong = rng.random(2_000) < 0.1
    took = np.where(wrong, 100.0, 1_000.0)
    short = counts_after(took, wrong, WARM * 1_000 - 1, 0.02)
    long = counts_after(took, wrong, WARM * 1_000, 0.02)
    assert short is not None
    assert not short.share
    assert frontiers(None, short, 5_000.0) == []
    assert long is not None
    assert (long.at, long.share, long.late) == (1_000.0, MATURE, False)


def test_labels_of_a_third_settle_at_their_share_of_all_predictions() -> None:
    """What lacks may be all right: so the price is that of all predictions, not of the labelled."""
    made = np.arange(900.0)
    some = made[1::3]
    took = np.full(300, 200.0)
    assert counts_after(took, np.zeros(300), SETTLED * 200 - 1, 0.02) is None
    age = counts_after(took, np.zeros(300), SETTLED * 200, 0.02)
    assert age is not None
    found = complete_until(made, np.ones(900), some, YOUNG, 900.0 - age.at)
    assert found is not None
    assert found.at == 700.0
    assert found.share == pytest.approx(1 / 3, abs=0.01)
    assert complete_until(made, np.ones(900), made[1::5], YOUNG, 700.0) is None
    assert complete_until(made, np.ones(900), some, YOUNG, 100.0) is None  # too few labels by then


def test_a_version_that_is_bad_while_the_log_is_young_is_seen_by_the_third_that_is_labelled() -> (
    None
):
    """An hour, or twenty delays of 900 s, were waited for else."""
    rows = 12_000
    found = count(2, 1, 0, EARLY, 0.02, rows, BAD)
    assert found[0] == 0
    assert found[1] <= 2_000


def test_labels_as_quick_for_right_as_for_wrong_answers_are_not_waited_for() -> None:
    rng = np.random.default_rng(2)
    took = rng.exponential(1_000.0, 20_000)
    alike = counts_after(took, rng.random(20_000) < 0.1, 1e6, 0.02)
    assert alike is not None
    assert alike.late
    assert alike.at == pytest.approx(693, abs=30)  # half of the labels are enough
    few = counts_after(took[:500], rng.random(500) < 0.1, 1e6, 0.02)
    assert few is not None
    assert not few.late


def test_a_delay_that_grows_is_noticed_by_the_newest_labels() -> None:
    took = np.r_[np.full(100, 5_000.0), np.full(19_900, 10.0)]
    found = counts_after(took, np.arange(20_000) % 10 == 0, 1e6, 0.0)
    assert found is not None
    assert found.at == 5_000.0


def test_too_few_labels_tell_nothing() -> None:
    assert counts_after(np.ones(19), np.zeros(19), 1e6, 0.02) is None
    assert frontiers(None, None, 100.0) == []


def test_a_mean_that_labels_which_lack_may_explain_is_no_alarm() -> None:
    """All that lack were right: at 80 % complete a tenth of errors looks like an eighth."""
    alarms = {0.3: 0, 0.8: 0, 1.0: 0}
    for share in alarms:
        for seed in range(10):
            rng = np.random.default_rng(seed)
            detector = LossDetector(LossReference(200_000, 20_000.0), 10_000, 0.0)
            detector.update(rng.random(3_000) < 0.1 / min(share, 0.8), share=share)
            alarms[share] += detector.drift_detected
    assert alarms[1.0] >= 9
    assert max(alarms[0.3], alarms[0.8]) <= 3  # as many as 30,000 labels may bring


def test_late_labels_are_learnt_from_and_never_bet_on() -> None:
    detector = LossDetector(LossReference(1_000, 100.0), 1_000, 0.02)
    before = detector.bound
    detector.update(np.ones(200), bet=False)
    assert not detector.drift_detected
    assert detector.evidence == 0.0
    assert detector.rows == 200
    assert detector.bound > before


@pytest.mark.parametrize("place", [3, 4], ids=lambda place: COURSES[place].name)
def test_wrong_answers_labelled_first_raise_no_alarm_where_traffic_begins(place: int) -> None:
    """Bet on as they come, they do in every stream; 1.2 are promised for these 4 together."""
    rows = 3_000
    naive = sum(count(place, 0, stream, rows, 0.02, rows)[0] > 0 for stream in range(4))
    ours = sum(count(place, 1, stream, rows, 0.02, rows)[0] for stream in range(4))
    assert naive == 4
    assert ours <= 1
