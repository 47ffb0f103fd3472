"""The promises of the detectors, by seeded simulation of several 100,000 rows.

A run counts alarms on a stream that does not change, with a reset after each. The 95 % upper
confidence limit of their number (Poisson) must stay within rows / budget.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from homeostat.schema import Feature
from monitoring import GuardDetector, InputDetector, LossDetector, LossReference, Profile

BUDGET = 2_000
Floats = NDArray[np.float64]


def upper_limit(alarms: int) -> float:
    return float(chi2.ppf(0.95, 2 * (alarms + 1)) / 2)


def profile_of(rows: Floats, classes: Floats, confidence: Floats) -> Profile:
    features = [Feature(f"f{i}") for i in range(rows.shape[1])]
    zeros = np.zeros(len(rows))
    return Profile.from_reference(features, "classification", rows, classes, confidence, zeros)


def draw(rng: np.random.Generator, n: int) -> tuple[Floats, Floats, Floats]:
    """Rows with heavy tails, ties, a constant column and correlation; classes; confidence."""
    normal = rng.normal(size=(n, 2))
    rows = np.column_stack(
        [
            normal[:, 0],
            0.8 * normal[:, 0] + 0.6 * normal[:, 1],
            rng.standard_t(1.5, n),
            rng.poisson(0.7, n),
            np.zeros(n),
        ]
    )
    return rows, rng.integers(0, 4, n).astype(float), rng.uniform(0.3, 1, n)


@pytest.mark.parametrize("size", [500, 5_000])
def test_false_input_alarms_stay_within_the_budget_at_any_reference(size: int) -> None:
    rng = np.random.default_rng(size)
    alarms = rows = 0
    for _ in range(8):
        detector = InputDetector(profile_of(*draw(rng, size)), BUDGET, tolerance=0.0)
        for _ in range(100):
            detector.update(*draw(rng, 256))
            rows += 256
            if detector.drift_detected:
                alarms += 1
                detector.reset()
    assert upper_limit(alarms) <= rows / BUDGET


def test_a_change_as_large_as_the_tolerance_stays_within_the_budget() -> None:
    rng = np.random.default_rng(1)
    profile = profile_of(rng.random((5_000, 2)), np.zeros(5_000), rng.random(5_000))
    detector = InputDetector(profile, BUDGET, tolerance=0.1)
    alarms = 0
    for _ in range(400):
        rows = rng.random((256, 2))
        # A tenth of the mass goes from the lowest tenth to the highest: the hardest such change.
        rows[:, 0] = np.where(rows[:, 0] < 0.1, 1 - rows[:, 0], rows[:, 0])
        detector.update(rows, np.zeros(256), rng.random(256))
        if detector.drift_detected:
            alarms += 1
            detector.reset()
    assert upper_limit(alarms) <= 400 * 256 / BUDGET


def test_false_loss_alarms_stay_within_the_budget_at_small_references() -> None:
    rng = np.random.default_rng(2)
    alarms = labels = 0
    for _ in range(40):
        reference = LossReference(300, float(rng.binomial(300, 0.1)))
        detector = LossDetector(reference, BUDGET, tolerance=0.0)
        for _ in range(250):
            detector.update(rng.random(20) < 0.1)
            labels += 20
            if detector.drift_detected:
                alarms += 1
                detector.reset()
    assert upper_limit(alarms) <= labels / BUDGET


def test_false_rollbacks_stay_within_the_budget_at_the_edge_of_the_tolerance() -> None:
    rng = np.random.default_rng(3)
    guard = GuardDetector(BUDGET, 0.02)
    alarms = 0
    differences = rng.choice([1.0, 0.0, -1.0], 200_000, p=[0.05, 0.92, 0.03])
    for part in differences.reshape(-1, 10):
        guard.update(part)
        if guard.drift_detected:
            alarms += 1
            guard.reset()
    assert upper_limit(alarms) <= 200_000 / BUDGET


def delay(detector: InputDetector, rng: np.random.Generator, changed: list[int], by: float) -> int:
    width = len(detector.profile.features)
    for rows in range(8, 2_000, 8):
        batch = rng.normal(size=(8, width))
        batch[:, changed] += by
        detector.update(batch, np.zeros(8), rng.random(8))
        if detector.drift_detected:
            return rows
    return 2_000


@pytest.mark.parametrize(
    ("features", "changed", "by"),
    [(20, [3], 1.0), (64, list(range(32)), 1.0), (20, list(range(5)), 0.8)],
    ids=["one of 20 by 1 sd", "half of 64 by 1 sd", "five of 20 by 0.8 sd"],
)
def test_a_strong_shift_is_found_within_two_hundred_rows(
    features: int, changed: list[int], by: float
) -> None:
    found = []
    for seed in range(7):
        rng = np.random.default_rng(seed)
        reference = rng.normal(size=(2_000, features))
        profile = profile_of(reference, np.zeros(2_000), rng.random(2_000))
        detector = InputDetector(profile, 100_000, 0.1)
        detector.update(rng.normal(size=(480, features)), np.zeros(480), rng.random(480))
        assert not detector.drift_detected
        found.append(delay(detector, rng, changed, by))
    assert np.median(found) <= 200
