"""One contract for all detectors; a new one joins the list and inherits the tests."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from homeostat.errors import ArtifactError, InputError
from homeostat.schema import Feature
from monitoring import GuardDetector, InputDetector, LossDetector, LossReference, Profile

BUDGET = 10_000
Detector = InputDetector | LossDetector | GuardDetector
Make = Callable[[], Any]


def small_profile() -> Profile:
    rng = np.random.default_rng(5)
    rows, zeros = rng.normal(size=(600, 2)), np.zeros(600)
    features = [Feature("a"), Feature("b")]
    return Profile.from_reference(features, "classification", rows, zeros, zeros, zeros)


PROFILE = small_profile()
MAKERS: dict[str, Make] = {
    "inputs": lambda: InputDetector(PROFILE, BUDGET, 0.1),
    "loss": lambda: LossDetector(LossReference(1_000, 100.0), BUDGET, 0.02),
    "guard": lambda: GuardDetector(BUDGET, 0.02),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Make:
    name: str = request.param
    return MAKERS[name]


def feed(detector: Detector, rows: int, seed: int = 0, changed: bool = False) -> None:
    rng = np.random.default_rng(seed)
    if isinstance(detector, InputDetector):
        zeros = np.zeros(rows)
        detector.update(rng.normal(2.5 * changed, 1.0, size=(rows, 2)), zeros, zeros)
    elif isinstance(detector, LossDetector):
        detector.update((rng.random(rows) < (0.7 if changed else 0.08)).astype(float))
    else:
        high = 0.6 if changed else 0.05
        detector.update((rng.random(rows) < high) * 1.0 - (rng.random(rows) < 0.05))


def test_a_fresh_detector_has_seen_nothing(make: Make) -> None:
    detector = make()
    assert (detector.rows, detector.drift_detected, detector.since) == (0, False, 0)
    assert 0 <= detector.evidence < detector.threshold
    assert detector.threshold == pytest.approx(math.log(BUDGET), abs=0.01)


def test_an_empty_update_changes_nothing(make: Make) -> None:
    detector = make()
    before = detector.to_json()
    feed(detector, 0)
    assert detector.to_json() == before


def test_what_stays_the_same_is_no_drift(make: Make) -> None:
    detector = make()
    feed(detector, 800)
    assert not detector.drift_detected
    assert detector.rows == 800


def test_a_strong_change_is_detected_and_dated(make: Make) -> None:
    detector = make()
    feed(detector, 320)
    feed(detector, 160, seed=1, changed=True)
    assert detector.drift_detected
    assert detector.evidence >= detector.threshold
    assert 130 <= detector.since <= 200


def test_a_detection_stays_until_reset(make: Make) -> None:
    detector = make()
    feed(detector, 160, changed=True)
    feed(detector, 3_000, seed=2)
    assert detector.drift_detected
    detector.reset()
    left, fresh = json.loads(detector.to_json()), json.loads(make().to_json())
    left.pop("spacing", None)  # how the stream hangs together is known still
    fresh.pop("spacing", None)
    assert left == fresh


def test_state_survives_json_and_goes_on_alike(make: Make) -> None:
    detector = make()
    feed(detector, 77)
    again = type(detector).from_json(detector.to_json())
    assert again.to_json() == detector.to_json()
    for one in (detector, again):
        feed(one, 50, seed=3, changed=True)
    assert again.to_json() == detector.to_json()


def test_another_detectors_state_is_refused(make: Make) -> None:
    detector = make()
    for text in ("", "[]", "{}", '{"schema": 1, "detector": "Oracle"}'):
        with pytest.raises(ArtifactError, match=type(detector).__name__):
            type(detector).from_json(text)


def test_merging_adds_rows_and_keeps_a_detection(make: Make) -> None:
    calm, alarmed = make(), make()
    feed(calm, 200)
    feed(alarmed, 160, seed=1, changed=True)
    calm.merge(alarmed)
    assert calm.rows == 360
    assert calm.drift_detected
    assert calm.evidence >= alarmed.evidence


def test_merging_two_empty_detectors_gives_an_empty_one(make: Make) -> None:
    detector = make()
    detector.merge(make())
    assert (detector.rows, detector.drift_detected, detector.since) == (0, False, 0)
    assert detector.evidence < detector.threshold
    feed(detector, 50)


def test_detectors_of_different_settings_do_not_merge() -> None:
    with pytest.raises(InputError, match="different settings"):
        GuardDetector(BUDGET, 0.02).merge(GuardDetector(BUDGET, 0.03))
    with pytest.raises(InputError, match="different settings"):
        MAKERS["inputs"]().merge(InputDetector(PROFILE, BUDGET, 0.2))


def test_repr_names_the_settings(make: Make) -> None:
    assert str(BUDGET) in repr(make())


def test_the_input_is_left_untouched(make: Make) -> None:
    detector = make()
    if isinstance(detector, InputDetector):
        values = np.ones((20, 2))
        detector.update(values, np.zeros(20), np.zeros(20))
    else:
        losses = np.ones(20)
        detector.update(losses)
        values = losses[:, None]
    assert np.all(values == 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.5])
def test_a_loss_that_is_no_loss_is_named_and_nothing_is_taken(bad: float) -> None:
    for detector in (MAKERS["loss"](), MAKERS["guard"]()):
        with pytest.raises(InputError, match="index 2") as caught:
            detector.update([0.0, 1.0, bad])
        assert str(bad) in str(caught.value)
        assert detector.rows == 0


def test_rows_that_are_not_finite_do_not_deafen() -> None:
    detector = MAKERS["inputs"]()
    detector.update(np.full((16, 2), np.nan), np.full(16, np.inf), np.full(16, -np.inf))
    detector.reset()
    detector.update(np.full((1, 2), np.nan), [np.nan], [np.nan])
    feed(detector, 320)
    feed(detector, 160, changed=True)
    assert detector.drift_detected
    assert detector.guilty(1)[0].name in ("a", "b")


@pytest.mark.parametrize(("budget", "tolerance"), [(0, 0.1), (10, -0.1), (10, 1.0)])
def test_settings_that_cannot_be_meant_are_refused(budget: int, tolerance: float) -> None:
    with pytest.raises(InputError):
        InputDetector(PROFILE, budget, tolerance)
    with pytest.raises(InputError):
        GuardDetector(budget, tolerance)
