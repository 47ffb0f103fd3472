"""Where the loss grew most: what is shown is there, and the search is paid for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from homeostat.schema import Feature
from monitoring.cells import grown_cells
from monitoring.profile import Profile, stack

Floats = NDArray[np.float64]
FEATURES = [Feature("age"), Feature("income"), Feature("kind", "categorical", ("a", "b", "c"))]


def rows(rng: np.random.Generator, n: int) -> Floats:
    return np.column_stack([rng.normal(size=(n, 2)), rng.integers(0, 3, n)])


def profile() -> Profile:
    zeros = np.zeros(1000)
    given = rows(np.random.default_rng(0), 1000)
    return Profile.from_reference(FEATURES, "regression", given, zeros, zeros, zeros)


COLUMNS = profile().columns


def watched(rng: np.random.Generator, n: int) -> tuple[Floats, NDArray[np.bool_]]:
    return stack(rows(rng, n), np.zeros(n), np.zeros(n), 3), np.arange(n) >= n // 2


def test_a_planted_cell_of_two_columns_is_found() -> None:
    rng = np.random.default_rng(1)
    values, after = watched(rng, 4000)
    inside = (values[:, 0] < 0.0) & (values[:, 2] == 1)
    losses = rng.random(4000) < np.where(inside & after, 0.6, 0.1)
    best = grown_cells(COLUMNS, values, losses, after)[0]
    assert best.shown
    assert best.found
    assert "age below" in best.name
    assert "kind b" in best.name
    assert best.before < 0.2 < 0.45 < best.after
    assert best.elsewhere[1] < 0.2


def test_a_named_slice_is_judged_on_all_its_rows() -> None:
    rng = np.random.default_rng(2)
    values, after = watched(rng, 2000)
    inside = rng.random(2000) < 0.2  # no column tells
    losses = rng.random(2000) < np.where(inside & after, 0.5, 0.1)
    few = np.arange(2000) < 5
    cells = grown_cells(COLUMNS, values, losses, after, {"hidden": inside, "few": few})
    by_name = {cell.name: cell for cell in cells if not cell.found}
    assert by_name["hidden"].shown
    assert by_name["hidden"].rows_before + by_name["hidden"].rows_after == inside.sum()
    assert (by_name["few"].shown, by_name["few"].p) == (False, 1.0)


def test_too_few_rows_show_nothing() -> None:
    values, after = watched(np.random.default_rng(3), 20)
    assert grown_cells(COLUMNS, values, after.astype(float), after) == ()
