"""Accuracy without labels: an interval that covers, and what it cannot see."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from numpy.typing import NDArray

from homeostat.errors import ArtifactError
from homeostat.schema import Feature
from monitoring import Profile
from monitoring.estimates import Estimate, checked

Floats = NDArray[np.float64]
FEATURES = [Feature(name) for name in "abc"]


def chance(x: Floats, *, wrong: bool = True) -> Floats:
    """P(y = 1); where c is large it is not what the model believes, if `wrong`."""
    turn = 2.0 * np.maximum(x[:, 2] - 0.7, 0.0) * wrong
    return np.asarray(1.0 / (1.0 + np.exp(-(1.5 - turn) * x[:, 0] + x[:, 1])))


def answered(x: Floats) -> tuple[Floats, Floats]:
    """The model's classes and its confidence: it is too sure, and blind to c."""
    belief = 1.0 / (1.0 + np.exp(-1.5 * (1.5 * x[:, 0] - x[:, 1])))
    return (belief > 0.5).astype(float), np.maximum(belief, 1.0 - belief)


def losses(rng: np.random.Generator, x: Floats, *, wrong: bool = True) -> Floats:
    truths = rng.random(len(x)) < chance(x, wrong=wrong)
    return np.asarray(truths != answered(x)[0], dtype=np.float64)


def profile_of(rng: np.random.Generator, rows: int = 1_000) -> Profile:
    x = rng.normal(size=(rows, 3))
    return Profile.from_reference(FEATURES, "classification", x, *answered(x), losses(rng, x))


def estimate(profile: Profile, x: Floats) -> Estimate:
    return profile.estimate(profile.counts(x, *answered(x)))


SHIFTS = {
    "none": (np.zeros(3), 1.0),
    "easier": (np.array([1.0, -0.7, 0.0]), 1.0),
    "wider": (np.zeros(3), 1.5),
    "where confidence misleads": (np.array([0.0, 0.0, 1.5]), 1.0),
}


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_interval_covers_the_accuracy_that_labels_show_later(shift: str) -> None:
    """95 % is stated; of 40 seeds at most 5 may miss (chance of more at 95 %: 1 in 70)."""
    move, scale = SHIFTS[shift]
    missed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(1_000, 3)) * scale + move
        said = estimate(profile_of(rng), x)
        assert said.loss is not None
        missed += not said.low <= losses(rng, x).mean() <= said.high
    assert missed <= 5


def test_where_confidence_misleads_the_estimate_follows_the_column_that_shows_it() -> None:
    rng = np.random.default_rng(1)
    profile, x = (
        profile_of(rng, 4_000),
        rng.normal(size=(2_000, 3)) + SHIFTS["where confidence misleads"][0],
    )
    said = estimate(profile, x)
    assert said.loss is not None
    assert profile.calibration is not None
    confidence = profile.counts(x, *answered(x))[-1]
    calibrated = profile.calibration.losses / np.maximum(profile.calibration.rows[-1], 1)
    alone = float(confidence @ calibrated) / len(x)
    truth = losses(rng, x).mean()
    assert said.column == "c"
    assert abs(said.loss - truth) < 0.4 * abs(alone - truth)


def test_the_interval_widens_as_rows_move_away_from_the_reference() -> None:
    rng = np.random.default_rng(2)
    profile, x = profile_of(rng), rng.normal(size=(1_000, 3))
    widths = [
        said.high - said.low
        for far in (0.0, 0.7, 1.4)
        for said in [estimate(profile, x + np.array([0.0, 0.0, far]))]
    ]
    assert widths == sorted(widths)
    assert widths[2] > 1.5 * widths[0]


def test_a_changed_concept_is_not_seen_and_labels_say_so() -> None:
    rng = np.random.default_rng(3)
    profile, x = profile_of(rng), rng.normal(size=(1_000, 3))
    said = estimate(profile, x)
    after = 1.0 - losses(rng, x)  # the same inputs have the opposite truths now
    assert said.high < after.mean()  # wrong, as documented
    assert said.contradicted(200, float(after[:200].mean()))
    assert not said.contradicted(200, float(losses(rng, x)[:200].mean()))
    shown = checked(said, said, 200, float(after[:200].mean()))
    assert shown.loss is None
    assert "the concept has changed" in shown.trouble


def test_labels_that_agree_are_seldom_taken_for_a_contradiction() -> None:
    wrong = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(300, 3))
        wrong += estimate(profile_of(rng), x).contradicted(300, float(losses(rng, x).mean()))
    assert wrong <= 3


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (np.zeros((10, 3)), "too few"),
        (np.full((100, 3), np.nan), "like none of the reference in 'a'"),
    ],
)
def test_what_the_reference_cannot_tell_is_not_estimated(x: Floats, reason: str) -> None:
    said = estimate(profile_of(np.random.default_rng(4)), x)
    assert said.loss is None
    assert said.accuracy is None
    assert reason in said.trouble


def test_a_calibration_survives_json_and_one_that_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(5)
    profile, x = profile_of(rng), rng.normal(size=(500, 3))
    again = Profile.from_json(profile.to_json())
    one, other = estimate(profile, x), estimate(again, x)
    assert dataclasses.astuple(one)[1:4] == pytest.approx(dataclasses.astuple(other)[1:4], abs=1e-5)
    assert json.loads(json.dumps(one.to_json()))["estimated"] is True
    broken = json.loads(profile.to_json())
    broken["calibration"]["losses"][0] = 1e6
    with pytest.raises(ArtifactError, match="losses outside"):
        Profile.from_json(json.dumps(broken))


def test_a_profile_of_an_earlier_release_is_read_and_estimates_nothing() -> None:
    rng = np.random.default_rng(6)
    old = json.loads(profile_of(rng).to_json())
    del old["calibration"]
    said = estimate(Profile.from_json(json.dumps(old)), rng.normal(size=(100, 3)))
    assert said.loss is None
    assert "register it again" in said.trouble
