r"""Where the loss grew most: cells of one or two columns, with the search paid for.

The rows are split at random in two halves. On one, conditions on one column (a bin, or all bins
up to one) and pairs of them are searched for those whose loss grew most beside the other rows.
The few best are tested on the other half, which knows nothing of the search, together with the
slices that somebody named beforehand (these on all rows), by Holm's (1979) method: where no cell's
loss grew more than that of the rows outside it, the chance to show any is at most `ERROR_RATE`.

One test asks whether :math:`(a_{in} - b_{in}) - (a_{out} - b_{out}) > 0`, with b the mean loss
before and a after. Means and their binomial variances (an upper bound for any loss in [0, 1]) are
those of a row of loss 0 and one of loss 1 more, which makes the normal approximation hold from a
few rows on (Agresti and Caffo 2000). Rows are taken as independent. Shapes: N rows, C columns.

References:
    Agresti, Caffo, *Simple and effective confidence intervals for proportions* (2000); Holm, *A
    simple sequentially rejective multiple test procedure* (1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.columns import Binning, Column
from monitoring.exact import holm

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

ERROR_RATE = 0.05
LEAST = 30  # rows of a cell before, and after, on each half
_CANDIDATES = 5  # cells that are tested
_WIDTH = 24  # conditions on one column that are paired
_ALIKE = 0.5  # share of common rows above which two cells are one
_SEED = 0


@dataclass(frozen=True)
class Cell:
    """How the loss changed in some of the rows, and in all others.

    Args:
        name: What the rows have in common.
        found: Whether it was searched for; otherwise somebody named it.
        shown: Whether it grew more than elsewhere, beyond the error rate of all cells.
        p: Of "it grew no more than elsewhere".
        rows_before: Rows of it before, of those that it was tested on.
        rows_after: And after.
        before: Its mean loss before, and
        after: after.
        elsewhere: The mean losses of the other rows, before and after.
    """

    name: str
    found: bool
    shown: bool
    p: float
    rows_before: int
    rows_after: int
    before: float
    after: float
    elsewhere: tuple[float, float]


@dataclass(frozen=True)
class _Condition:
    column: int
    name: str
    rows: Mask


def grown_cells(
    columns: Sequence[Column],
    values: ArrayLike,
    losses: ArrayLike,
    after: ArrayLike,
    named: Mapping[str, Mask] | None = None,
) -> tuple[Cell, ...]:
    """The cells where the loss grew most, and the named slices; what is shown comes first.

    Args:
        columns: C columns with their bins.
        values: (N, C) what is watched of the rows.
        losses: (N,) in [0, 1].
        after: (N,) whether the row is from after the change.
        named: (N,) the rows of each slice that somebody named.
    """
    lost, late = np.asarray(losses, dtype=np.float64), np.asarray(after, dtype=np.bool_)
    searched = np.random.default_rng(_SEED).random(len(lost)) < 0.5
    best = _search(columns, np.asarray(values, dtype=np.float64), lost, late, searched)
    cells = [_cell(name, rows, lost, late, ~searched, found=True) for name, rows in best]
    everywhere = np.ones(len(lost), dtype=np.bool_)
    cells += [
        _cell(n, rows, lost, late, everywhere, found=False) for n, rows in (named or {}).items()
    ]
    # As many tests as there could be: their number must not tell of the half that was searched.
    unused = [1.0] * (_CANDIDATES - len(best))
    verdicts = holm([*(cell.p for cell in cells), *unused], ERROR_RATE)
    judged = [
        Cell(**{**vars(cell), "shown": shown})
        for cell, shown in zip(cells, verdicts[: len(cells)], strict=True)
    ]
    return tuple(sorted(judged, key=lambda cell: (not cell.shown, cell.p)))


def _search(
    columns: Sequence[Column], values: Floats, losses: Floats, after: Mask, half: Mask
) -> list[tuple[str, Mask]]:
    """The cells of the greatest growth on one half, each unlike the others."""
    singles = _scored(_conditions(columns, values), losses, after, half)
    pairs = [
        _Condition(-1, f"{one.name} and {other.name}", one.rows & other.rows)
        for place, (_, one) in enumerate(singles[:_WIDTH])
        for _, other in singles[place + 1 : _WIDTH]
        if one.column != other.column
    ]
    chosen: list[_Condition] = []
    ranked = sorted([*singles, *_scored(pairs, losses, after, half)], key=lambda pair: -pair[0])
    for score, one in ranked:
        if score <= 0.0 or len(chosen) == _CANDIDATES:
            break
        if all(_common(one.rows, other.rows) <= _ALIKE for other in chosen):
            chosen.append(one)
    return [(one.name, one.rows) for one in chosen]


def _conditions(columns: Sequence[Column], values: Floats) -> list[_Condition]:
    bins = Binning(columns).indices(values)
    found = []
    for index, column in enumerate(columns):
        own = bins[:, index]
        found += [
            _Condition(index, f"{column.name} {column.bin_name(place)}", own == place)
            for place in range(column.width)
        ]
        if column.kind == "numeric":
            there = own < column.width - 1  # not missing
            for place in range(1, len(column.edges)):
                edge = f"{column.edges[place]:.4g}"
                found.append(_Condition(index, f"{column.name} below {edge}", own <= place))
                above = (own > place) & there
                found.append(_Condition(index, f"{column.name} {edge} and above", above))
    return found


def _scored(
    conditions: Sequence[_Condition], losses: Floats, after: Mask, half: Mask
) -> list[tuple[float, _Condition]]:
    """Conditions with enough rows on both halves and their growth on one, the largest first."""
    if not conditions:
        return []
    late, lost = after[half], losses[half]
    scored = []
    for one in conditions:
        rest = one.rows[~half]
        if min(int((rest & after[~half]).sum()), int((rest & ~after[~half]).sum())) >= LEAST:
            rows = one.rows[half]
            if min(int((rows & late).sum()), int((rows & ~late).sum())) >= LEAST:
                scored.append((_growth(rows, lost, late), one))
    return sorted(scored, key=lambda pair: -pair[0])


def _growth(rows: Mask, losses: Floats, after: Mask) -> float:
    """How many standard errors the loss grew more in these rows than in the others."""
    grown, variance = 0.0, 0.0
    for where, sign in ((rows, 1.0), (~rows, -1.0)):
        for when, direction in ((after, 1.0), (~after, -1.0)):
            own = where & when
            n = float(own.sum()) + 2.0
            mean = (float(losses[own].sum()) + 1.0) / n
            grown += sign * direction * mean
            variance += mean * (1.0 - mean) / n
    return grown / math.sqrt(variance)


def _cell(name: str, rows: Mask, losses: Floats, after: Mask, tested: Mask, *, found: bool) -> Cell:
    inside, outside = rows & tested, ~rows & tested
    before, now = inside & ~after, inside & after
    enough = min(int(before.sum()), int(now.sum())) >= LEAST
    score = _growth(rows[tested], losses[tested], after[tested]) if enough else 0.0
    return Cell(
        name=name,
        found=found,
        shown=False,
        p=0.5 * math.erfc(score / math.sqrt(2.0)) if enough else 1.0,
        rows_before=int(before.sum()),
        rows_after=int(now.sum()),
        before=_mean(losses[before]),
        after=_mean(losses[now]),
        elsewhere=(_mean(losses[outside & ~after]), _mean(losses[outside & after])),
    )


def _mean(losses: Floats) -> float:
    return float(losses.mean()) if len(losses) else 0.0


def _common(one: Mask, other: Mask) -> float:
    return float((one & other).sum()) / max(float((one | other).sum()), 1.0)
