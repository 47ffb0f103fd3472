"""Since when: the split of a series, and how often its confidence set holds the truth."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from homeostat.errors import InputError
from homeostat.schema import Feature
from monitoring.change_point import CLEAR, change_point
from monitoring.explaining import explain_columns, explain_loss
from monitoring.profile import Profile, stack

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(("bins", "known", "at"), [(2, 0, 100), (2, 1000, 170), (10, 1000, 120)])
def test_the_confidence_set_covers_as_often_as_it_says(bins: int, known: int, at: int) -> None:
    """Of the clear changes, at least 95 % less two standard errors of 60 runs."""
    rng = np.random.default_rng(bins * 1000 + at)
    before = rng.dirichlet(np.full(bins, 5.0))
    covered: list[bool] = []
    while len(covered) < 60:
        after = before.copy()
        after[rng.integers(bins)] += rng.uniform(0.3, 1.0)
        after /= after.sum()
        steps = np.vstack(
            [rng.multinomial(5, before, size=at), rng.multinomial(5, after, size=200 - at)]
        )
        found = change_point(steps, rng.multinomial(known, before))
        if found.gain >= CLEAR:
            covered.append(found.low <= at <= found.high)
    assert np.mean(covered) >= 0.95 - 2 * math.sqrt(0.95 * 0.05 / 60)


def test_without_a_change_the_gain_is_rarely_clear() -> None:
    rng = np.random.default_rng(4)
    shares = rng.dirichlet(np.full(8, 5.0))
    gains = [
        change_point(rng.multinomial(4, shares, size=150), rng.multinomial(800, shares)).gain
        for _ in range(60)
    ]
    assert max(gains) < CLEAR


def test_a_wider_set_is_given_for_a_higher_level() -> None:
    steps = np.array([[8, 2]] * 30 + [[5, 5]] * 30)
    narrow, wide = change_point(steps, level=0.5), change_point(steps, level=0.99)
    assert (wide.low, wide.high) != (narrow.low, narrow.high)
    assert wide.low <= narrow.low <= narrow.split == 30 <= narrow.high <= wide.high


def test_a_change_before_the_first_row_is_found_by_the_reference() -> None:
    found = change_point(np.array([[1, 9]] * 20), np.array([90, 10]))
    assert (found.split, found.low) == (0, 0)
    assert found.before == (90.0, 10.0)


@pytest.mark.parametrize(
    ("counts", "reference", "level", "said"),
    [
        ([], None, 0.95, "no series"),
        ([[1, -1]], None, 0.95, "not negative"),
        ([[1, float("nan")]], None, 0.95, "finite"),
        ([[1, 2]], [1, 2, 3], 0.95, "do not fit"),
        ([[1, 2]], None, 1.0, "means nothing"),
    ],
)
def test_what_is_no_series_is_refused(
    counts: object, reference: object, level: float, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        change_point(counts, reference, level)  # type: ignore[arg-type] # that is the test


def test_the_moved_column_is_named_with_its_bins_and_its_time() -> None:
    rng = np.random.default_rng(11)
    rows = rng.normal(size=(1200, 3))
    rows[900:, 1] += 1.5
    rows[1000:, 2] = np.nan
    features = [Feature("a"), Feature("b"), Feature("c")]
    zeros = np.zeros(2000)
    reference = rng.normal(size=(2000, 3))
    profile = Profile.from_reference(features, "classification", reference, zeros, zeros, zeros)
    values = stack(rows, np.zeros(1200), np.zeros(1200), 3)
    moments = [NOON + timedelta(seconds=n) for n in range(1200)]
    shifts = explain_columns(profile, values, moments)
    assert {shift.name for shift in shifts if shift.named} == {"b", "c"}
    by_name = {shift.name: shift for shift in shifts}
    for name, second in (("b", 900), ("c", 1000)):
        since = by_name[name].since
        assert since is not None
        assert since.low <= NOON + timedelta(seconds=second) <= since.high
        assert since.high - since.low < timedelta(seconds=60)
    lost = by_name["c"].moved[0]
    assert (lost.name, lost.before) == ("missing", 0.0)
    assert lost.after > 0.95
    assert by_name["a"].since is None
    # Rows that differ from the profile from the first on are named, and not dated.
    (late,) = (
        one for one in explain_columns(profile, values[900:], moments[900:]) if one.name == "b"
    )
    assert (late.named, late.since) == (True, None)


def test_a_loss_that_rose_is_told_by_its_means() -> None:
    rng = np.random.default_rng(12)
    losses = (rng.random(600) < np.r_[[0.1] * 400, [0.5] * 200]).astype(float)
    moments = [NOON + timedelta(seconds=n) for n in range(600)]
    shift = explain_loss("loss", losses, moments, reference=[900, *[0] * 18, 100])
    assert shift.named
    assert shift.mean is not None
    assert shift.mean == pytest.approx((0.1, 0.5), abs=0.06)
    assert shift.since is not None
    assert shift.since.low <= NOON + timedelta(seconds=400) <= shift.since.high
