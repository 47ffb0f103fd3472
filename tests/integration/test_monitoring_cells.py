"""The error rate of the search for where the loss grew."""

from __future__ import annotations

import math

import numpy as np

from homeostat.schema import Feature
from monitoring.cells import ERROR_RATE, grown_cells
from monitoring.profile import Profile, stack

RUNS = 60


def test_no_cell_is_shown_more_often_than_the_error_rate() -> None:
    """The loss grows by as much everywhere, though a column tells who loses."""
    features = [Feature("age"), Feature("kind", "categorical", ("a", "b", "c"))]
    zeros = np.zeros(600)
    shown = 0
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        rows = np.column_stack([rng.normal(size=600), rng.integers(0, 3, 600)])
        profile = Profile.from_reference(features, "regression", rows, zeros, zeros, zeros)
        after = np.arange(600) >= 300
        losses = rng.random(600) < 0.1 + 0.1 * (rows[:, 0] > 0.0) + 0.2 * after
        cells = grown_cells(profile.columns, stack(rows, zeros, zeros, 2), losses, after)
        assert cells
        shown += any(cell.shown for cell in cells)
    assert shown / RUNS <= ERROR_RATE + 2 * math.sqrt(ERROR_RATE * (1 - ERROR_RATE) / RUNS)
