"""The delay of labels is learnt from those that came and those that have not."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.delays import difference, learn_delays, sooner


def stream(seed: int, mean: float, covered: float) -> tuple[np.ndarray, np.ndarray]:
    """20,000 predictions of ages up to 5,000 s: delays of labels that came, ages of the rest."""
    rng = np.random.default_rng(seed)
    age = rng.random(20_000) * 5_000
    delay = np.where(rng.random(20_000) < covered, rng.exponential(mean, 20_000), np.inf)
    came = delay <= age
    return delay[came], age[~came]


def test_predictions_that_wait_are_counted_as_waiting() -> None:
    came, waiting = stream(1, mean=1_000, covered=0.6)
    curve = learn_delays(came, waiting, np.ones(len(waiting)))
    for age in (300, 1_000, 3_000):
        assert curve.share(age) == pytest.approx(0.6 * (1 - np.exp(-age / 1_000)), abs=0.02)
    naive = float(np.mean(came <= 1_000)) * len(came) / 20_000
    assert abs(naive - curve.share(1_000)) > 0.025
    assert curve.mature_after() == pytest.approx(3_000, rel=0.15)


def test_waiting_predictions_may_be_counted_by_age() -> None:
    came, waiting = stream(2, mean=500, covered=1.0)
    ages, counts = np.unique(np.floor(waiting / 10) * 10, return_counts=True)
    one = learn_delays(came, waiting, np.ones(len(waiting)))
    other = learn_delays(came, ages[::-1], counts[::-1])
    assert other.share(700) == pytest.approx(one.share(700), abs=0.005)


def test_a_last_label_alone_does_not_decide_the_curve() -> None:
    curve = learn_delays(np.r_[np.full(50, 10.0), 4_000.0], np.full(949, 100.0), np.ones(949))
    assert curve.final == pytest.approx(0.05)
    assert curve.mature_after() == 10.0


def test_without_labels_nothing_is_learnt() -> None:
    curve = learn_delays([], [10.0], [5])
    assert (curve.final, curve.share(100.0), curve.mature_after()) == (0.0, 0.0, None)


def test_a_difference_of_losses_is_shown_only_where_labels_show_it() -> None:
    rng = np.random.default_rng(3)
    quick, slow = rng.random(900) < 0.4, rng.random(900) < 0.1
    assert difference(quick, slow)[0] > 0
    low, high = difference(slow, slow)
    assert low < 0 < high
    assert difference([], slow) == (-1.0, 1.0)


def test_losses_and_delays_that_grow_together_do_not_look_like_labels_in_a_hurry() -> None:
    rng = np.random.default_rng(3)
    made = np.arange(20_000.0)
    lost = (rng.random(20_000) < np.where(made < 10_000, 0.1, 0.4)).astype(np.float64)
    slower = rng.exponential(1.0, 20_000) * np.where(made < 10_000, 10.0, 40.0)
    naive = slower <= np.median(slower)
    assert difference(lost[naive], lost[~naive])[1] < 0
    quick = sooner(made, slower)
    low, high = difference(lost[quick], lost[~quick])
    assert low < 0 < high
    quick = sooner(made, np.where(lost > 0, slower, 3 * slower))
    assert difference(lost[quick], lost[~quick])[0] > 0


def test_few_labels_are_compared_as_one_stretch_and_none_not_at_all() -> None:
    assert sooner([3.0, 1.0, 2.0], [5.0, 1.0, 9.0]).tolist() == [True, True, False]
    assert sooner([], []).tolist() == []


def test_rows_that_were_asked_at_once_are_compared_with_one_another() -> None:
    made, wrong = np.repeat([1.0, 2.0, 3.0], 100), np.arange(300) % 100 < 60
    assert sooner(made, np.where(wrong, 10.0, 600.0)).tolist() == wrong.tolist()
