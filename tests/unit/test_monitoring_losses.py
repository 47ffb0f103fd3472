import json
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from homeostat.errors import InputError
from monitoring import GuardDetector, LossDetector, LossReference

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
Detector = LossDetector | GuardDetector


def delay(detector: Detector, one: Callable[[], Floats], limit: int = 5_000) -> int:
    for rows in range(1, limit):
        detector.update(one())
        if detector.drift_detected:
            return rows
    return limit


def delays(make: Callable[[], Detector], before: Draw, after: Draw, runs: int = 20) -> float:
    found = []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        detector = make()
        detector.update(before(rng, 300))
        assert not detector.drift_detected
        found.append(delay(detector, lambda: after(rng, 1)))  # noqa: B023 - used within the turn
    return float(np.median(found))


def errors(rate: float) -> Draw:
    return lambda rng, n: (rng.random(n) < rate).astype(np.float64)


def test_errors_that_treble_are_found_within_a_hundred_labels() -> None:
    def make() -> Detector:
        return LossDetector(LossReference(20_000, 2_000.0), 100_000, 0.02)

    assert delays(make, errors(0.1), errors(0.3)) <= 100


def test_a_model_that_breaks_is_found_within_twenty_labels() -> None:
    def make() -> Detector:
        return LossDetector(LossReference(500, 15.0), 100_000, 0.02)

    assert delays(make, errors(0.03), errors(0.6)) <= 20


def test_losses_between_0_and_1_are_taken_too() -> None:
    def make() -> Detector:
        return LossDetector(LossReference(2_000, 300.0), 100_000, 0.02)

    found = delays(make, lambda rng, n: rng.beta(3, 17, n), lambda rng, n: rng.beta(7, 13, n))
    assert found <= 150


def test_an_improvement_never_alarms() -> None:
    for seed in range(5):
        detector = LossDetector(LossReference(2_000, 400.0), 2_000, 0.0)
        detector.update(errors(0.02)(np.random.default_rng(seed), 5_000))
        assert not detector.drift_detected


def test_a_rise_within_the_tolerance_is_left_alone_for_a_fifth_of_the_budget() -> None:
    detector = LossDetector(LossReference(20_000, 2_000.0), 100_000, 0.05)
    detector.update(errors(0.14)(np.random.default_rng(0), 20_000))
    assert not detector.drift_detected


def test_labels_that_stay_as_they_were_sharpen_what_a_short_reference_knows() -> None:
    used = LossDetector(LossReference(500, 50.0), 100_000, 0.0)
    fresh = LossDetector(LossReference(500, 50.0), 100_000, 0.0)
    used.update(np.arange(3_000) % 10 == 0)
    assert not used.drift_detected
    worse = np.arange(1_000) % 5 == 0
    found = [
        delay(detector, lambda: worse[detector.rows % 1_000 : detector.rows % 1_000 + 1])  # noqa: B023 - used within the turn
        for detector in (used, fresh)
    ]
    assert found[0] < found[1]


def test_a_better_time_does_not_make_the_reference_itself_an_alarm() -> None:
    detector = LossDetector(LossReference(1_000, 100.0), 10_000, 0.02)
    detector.update(np.zeros(3_000))
    assert detector.bound == pytest.approx(0.12)


def test_what_comes_too_slowly_for_the_labels_still_meets_the_reference() -> None:
    detector = LossDetector(LossReference(1_000, 100.0), 10_000, 0.0)
    rng = np.random.default_rng(4)
    detector.update(rng.random(6_000) < np.linspace(0.1, 0.3, 6_000))
    assert detector.drift_detected
    assert detector.bound == pytest.approx(0.131, abs=0.001)  # its 99 % limit


def test_without_a_reference_nothing_is_claimed() -> None:
    detector = LossDetector(LossReference(0, 0.0), 100, 0.02)
    detector.update(np.ones(1_000))
    assert (detector.evidence, detector.drift_detected, detector.since) == (0.0, False, 0)


@pytest.mark.parametrize("reference", [LossReference(10, 11.0), LossReference(10, -1.0)])
def test_a_reference_that_cannot_be_is_refused(reference: LossReference) -> None:
    with pytest.raises(InputError):
        LossDetector(reference, 100, 0.02)


def paired(champion: float, standby: float) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> Floats:
        u = rng.random(n)  # what the standby gets wrong, the champion does too
        return (u < champion).astype(float) - (u < standby)

    return draw


def test_a_champion_down_from_95_to_75_percent_is_found_in_well_under_a_hundred_labels() -> None:
    change = paired(0.25, 0.05)
    fresh = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        draws = iter(change(rng, 5_000))
        fresh.append(delay(GuardDetector(100_000, 0.02), lambda: np.array([next(draws)])))  # noqa: B023 - used up before the next turn
    assert np.median(fresh) <= 70
    used = delays(lambda: GuardDetector(100_000, 0.02), paired(0.05, 0.05), change, 40)
    assert used <= 95


def test_a_champion_as_good_as_the_standby_is_left_alone_for_a_part_of_the_budget() -> None:
    rng = np.random.default_rng(1)
    guard = GuardDetector(100_000, 0.02)
    guard.update((rng.random(5_000) < 0.1) * 1.0 - (rng.random(5_000) < 0.1))
    assert not guard.drift_detected


def test_the_head_start_raises_the_threshold_as_much() -> None:
    guard = GuardDetector(10_000, 0.0)
    assert np.exp(guard.threshold) - np.exp(guard.evidence) == pytest.approx(10_000)
    guard.merge(GuardDetector(10_000, 0.0))
    assert np.exp(guard.threshold) - np.exp(guard.evidence) == pytest.approx(10_000)


def test_late_labels_from_before_a_drop_do_not_hide_it() -> None:
    rng = np.random.default_rng(4)
    moments, came = np.arange(1_000.0), np.arange(1_000.0)
    came[1:800:2] = np.linspace(800.5, 999.5, 400)  # half of the labels of the good stretch
    chance = np.where(moments < 800, 0.05, 0.15)
    differences = (rng.random(1_000) < chance) * 1.0 - (rng.random(1_000) < 0.05)
    order = np.argsort(came)
    told, untold = GuardDetector(1_000, 0.02), GuardDetector(1_000, 0.02)
    told.update(differences[order], moments[order])
    untold.update(differences[order])
    assert told.evidence > untold.evidence + 2.0


def test_labels_in_order_are_the_same_evidence_with_and_without_their_moments() -> None:
    differences = paired(0.1, 0.05)(np.random.default_rng(5), 2_000)
    told, untold = GuardDetector(10**9, 0.02), GuardDetector(10**9, 0.02)
    told.update(differences, np.arange(2_000.0))
    untold.update(differences)
    assert told.evidence == untold.evidence > 0


def test_labels_in_any_order_stay_within_the_budget_at_the_edge_of_the_tolerance() -> None:
    rng, labels, alarms = np.random.default_rng(6), 40_000, 0
    differences = rng.choice([1.0, 0.0, -1.0], labels, p=[0.05, 0.92, 0.03])
    moments = np.arange(float(labels))
    order = np.argsort(moments + 1_000 * rng.random(labels), kind="stable")
    guard = GuardDetector(1_000, 0.02)
    for start in range(0, labels, 20):
        places = order[start : start + 20]
        guard.update(differences[places], moments[places])
        if guard.drift_detected:
            alarms += 1
            guard.reset()
    assert alarms <= labels / 1_000


def test_what_an_earlier_release_saved_is_read() -> None:
    guard = GuardDetector(1_000, 0.02)
    guard.update([1.0, 0.0, 1.0])
    saved = json.loads(guard.to_json())
    saved["running"] = saved["running"][0]
    del saved["from"], saved["filled"]
    again = GuardDetector.from_json(json.dumps(saved))
    assert again.evidence == guard.evidence
    again.update([1.0], [5.0])
    guard.update([1.0])
    assert again.evidence == guard.evidence
