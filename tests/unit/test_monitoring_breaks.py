"""A broken feed is told from a world that moved, and named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from homeostat.demo.images import held_out, slant
from homeostat.schema import Feature
from monitoring import InputDetector, Profile, read_signal, triage
from monitoring.breaks import Break, find_breaks
from monitoring.profile import stack
from monitoring.verdicts import rule

Floats = NDArray[np.float64]
Change = float | Callable[[Floats], Floats]
FEATURES = [Feature("age"), Feature("level"), Feature("kind", "categorical", ("a", "b"))]


def rows(rng: np.random.Generator, count: int) -> Floats:
    """Ages about 45, a level about 0, one of two kinds."""
    age = rng.gamma(12.0, 4.0, count)
    return np.column_stack([age, rng.normal(size=count), rng.integers(0, 2, count)])


RNG = np.random.default_rng(11)
REFERENCE = rows(RNG, 2_000)
PROFILE = Profile.from_reference(
    FEATURES, "classification", REFERENCE, np.zeros(2_000), np.ones(2_000), np.zeros(2_000)
)


def seen(change: dict[int, Change]) -> tuple[InputDetector, list[Break]]:
    """A detector that alarmed on rows with some columns changed, and what is broken."""
    x = rows(np.random.default_rng(12), 256)
    for place, how in change.items():
        x[:, place] = how(x[:, place]) if callable(how) else how
    detector = InputDetector(PROFILE, 100_000, 0.1)
    still = (np.zeros(len(x)), np.ones(len(x)))
    detector.update(x, *still)
    assert detector.drift_detected
    guilty = [vars(one) for one in detector.guilty()]
    return detector, find_breaks(guilty, PROFILE.columns, stack(x, *still, len(FEATURES)))


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("factor", [10.0, 1_000.0, 60.0, 0.1, 0.001])
def test_another_unit_is_named_with_its_factor(place: int, factor: float) -> None:
    _, (found,) = seen({place: lambda x: x * factor})
    assert (found.name, found.kind) == (FEATURES[place].name, "unit")
    assert found.factor == pytest.approx(factor)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({0: 45.0}, "constant"),
        ({0: np.nan}, "gone"),
        ({2: 7.0}, "gone"),
        ({0: lambda x: x + 200.0}, "range"),
        ({1: lambda x: x - 50.0}, "range"),
    ],
)
def test_what_is_constant_gone_or_out_of_range_is_named(
    change: dict[int, Change], kind: str
) -> None:
    _, (found,) = seen(change)
    assert (found.name, found.kind) == (FEATURES[next(iter(change))].name, kind)
    assert found.name in found.reason
    assert found.name in found.remedy


@pytest.mark.parametrize(
    "change",
    [
        {0: lambda x: x * 1.6},  # kilometres for miles: as likely the world
        {0: lambda x: x + 12.0},
        {1: lambda x: x + 1.0},
        {1: lambda x: x * 2.5},
        {2: 1.0},  # a kind that everybody has now
    ],
)
def test_a_world_that_moved_is_no_break(change: dict[int, Change]) -> None:
    assert seen(change)[1] == []


@pytest.mark.parametrize("by", [-0.6, -0.3, 0.6])
def test_another_hand_is_no_broken_feed_though_single_pixels_look_like_it(by: float) -> None:
    """Margins that were blank get ink: ten times as much, out of the range, in some pixels."""
    images = held_out(0.3, 0).pixels
    still = (np.zeros(len(images)), np.ones(len(images)))
    features = [Feature(f"pixel {place}") for place in range(64)]
    profile = Profile.from_reference(features, "classification", images, *still, still[0])
    detector = InputDetector(profile, 100_000, 0.1)
    moved = slant(np.random.default_rng(1).permutation(images), by)[:200]
    for end in range(20, 201, 20):
        rows = moved[end - 20 : end]
        detector.update(rows, still[0][:20], still[1][:20])
        guilty = [vars(one) for one in detector.guilty(66)]
        watched = stack(moved[:end], still[0][:end], still[1][:end], 64)
        assert find_breaks(guilty, profile.columns, watched) == []
    assert detector.drift_detected


def test_a_break_pages_is_never_learnt_from_and_says_what_to_do() -> None:
    detector, found = seen({0: lambda x: x * 1_000.0})
    signal = read_signal("input-drift", detector, breaks=[vars(one) for one in found])
    said = triage(signal)
    assert (said.severity, said.action) == ("page", "page")
    assert "'age' is about 1,000 times what it was" in said.reason
    assert "send 'age' in the unit" in said.reason
    ruling = rule([signal])
    assert (ruling.verdict, ruling.answer) == ("data-break", "do not retrain")


def test_without_the_last_rows_no_factor_is_made_up() -> None:
    detector, _ = seen({0: lambda x: x * 1_000.0})
    guilty = [vars(one) for one in detector.guilty()]
    (found,) = find_breaks(guilty, PROFILE.columns, np.zeros((0, 5)))
    assert (found.kind, found.factor) == ("range", None)
