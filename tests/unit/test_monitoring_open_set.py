"""The share of rows of no known class, without labels: what it promises, and what it cannot see."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from homeostat.schema import Feature
from monitoring import Column, Profile
from monitoring.columns import Binning, draw_bins
from monitoring.open_set import OpenSet, open_set, unseen

Floats = NDArray[np.float64]


def sure(rng: np.random.Generator, rows: int) -> Floats:
    """The confidence of known rows: mostly high."""
    return np.asarray(1.0 - 0.5 * rng.beta(1, 6, rows))


def doubtful(rng: np.random.Generator, rows: int) -> Floats:
    """Of unknown ones that no known row is like."""
    return np.asarray(rng.uniform(0.2, 0.5, rows))


def mixed(rng: np.random.Generator, rows: int) -> Floats:
    """Of unknown ones among which some are answered surely."""
    return np.asarray(1.0 - 0.5 * rng.beta(2, 3, rows))


def reference(rng: np.random.Generator, rows: int) -> Column:
    """The profile's confidence column: a fifth draws its bins, the others fill them."""
    said = sure(rng, rows)
    column = draw_bins(Feature("confidence"), said[::5], said)
    filled = Binning([column]).count(said[np.arange(rows) % 5 != 0][:, None])[0]
    return replace(column, counts=tuple(int(one) for one in filled))


def estimates(kind: object, share: float, seed: int, times: int = 300) -> list[OpenSet]:
    """Windows of 500 rows against references of 1,000, a part of the rows of an unknown kind."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(times):
        column, strange = reference(rng, 1_000), rng.binomial(500, share)
        rows = np.concatenate([sure(rng, 500 - strange), kind(rng, strange)])  # type: ignore[operator]  # one of the three
        found.append(open_set(column, Binning([column]).count(rows[:, None])[0]))
    return found


@pytest.mark.parametrize(
    ("kind", "share"), [(doubtful, 0.0), (doubtful, 0.1), (mixed, 0.1), (mixed, 0.3), (sure, 0.2)]
)
def test_the_lower_limit_is_above_the_truth_in_at_most_one_of_forty_windows(
    kind: object, share: float
) -> None:
    """Whatever the unknown rows are like; of 300 windows 7.5 are expected at the worst."""
    above = sum(one.low > share for one in estimates(kind, share, seed=1))
    assert above <= 15  # the chance of more at 2.5 % is 0.6 %


def test_the_limits_hold_the_truth_where_no_unknown_row_is_sure() -> None:
    found = estimates(doubtful, 0.2, seed=2)
    assert sum(one.low <= 0.2 <= one.high for one in found) >= 275  # 285 promised, less 3 sd
    assert np.mean([one.share for one in found]) == pytest.approx(0.2, abs=0.02)
    assert all(one.low > 0.0 for one in found)


def test_what_is_answered_surely_is_not_seen_and_never_counted() -> None:
    found = estimates(sure, 0.4, seed=3, times=60)
    assert sum(one.low > 0.0 for one in found) <= 5
    assert max(one.share or 0.0 for one in found) < 0.2


def test_known_rows_that_became_harder_are_taken_for_unknown_ones() -> None:
    """What the estimate supposes: nothing without labels could tell the two apart."""
    rng = np.random.default_rng(4)
    column = reference(rng, 1_000)
    blurred = 1.0 - 0.5 * rng.beta(2, 3, 500)
    assert open_set(column, Binning([column]).count(blurred[:, None])[0]).low > 0.3


def test_where_it_cannot_tell_it_says_why() -> None:
    column = reference(np.random.default_rng(5), 200)
    few = open_set(column, np.full(column.width, 2))
    assert (few.share, few.limits) == (None, None)
    assert "too few" in few.trouble
    always = Column("confidence", "numeric", (0.9, 1.1), (), (), (0, 200, 0, 0))
    assert "as sure of every row" in open_set(always, [0, 50, 0, 0]).trouble
    assert json.loads(json.dumps(few.to_json()))["estimated"] is True


def test_a_regression_has_no_classes() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(100, 1))
    profile = Profile.from_reference(
        [Feature("a")], "regression", x, x[:, 0], x[:, 0], np.zeros(100)
    )
    assert "no classes" in profile.open_set(profile.counts(x, x[:, 0], x[:, 0])).trouble


def test_labels_tell_a_share_with_its_exact_interval() -> None:
    """Clopper and Pearson's table: 1 of 10 is 0.25 % to 44.5 %."""
    one = unseen(10, 1)
    assert one.share == 0.1
    assert one.low == pytest.approx(0.0025, abs=1e-4)
    assert one.high == pytest.approx(0.4450, abs=1e-4)
    assert (unseen(0, 0).share, unseen(0, 0).high) == (None, 1.0)
    assert (unseen(5, 5).low > 0.4, unseen(5, 5).high) == (True, 1.0)
