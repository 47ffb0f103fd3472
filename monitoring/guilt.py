"""What one column has to do with an input detector's evidence, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from monitoring.columns import Column
from monitoring.counting import Floats


@dataclass(frozen=True)
class FeatureEvidence:
    """One column's part in the evidence.

    Args:
        name: The feature, `prediction` or `confidence`.
        evidence: Its own log e-value, at least 0.
        total_variation: Of its recent rows from the reference, in [0, 1].
        moved: The bin whose share changed most, in words.
        before: That bin's share in the reference.
        after: Its share in the recent rows.
        broken: Rise of the share of missing values and unseen categories: a data break.
    """

    name: str
    evidence: float
    total_variation: float
    moved: str
    before: float
    after: float
    broken: float


def guilt_of(
    column: Column, total: float, reference: Floats, seen: Floats, distance: float
) -> FeatureEvidence:
    """What a column has to do with the evidence.

    Args:
        column: The column.
        total: Its own e-value.
        reference: (B,) shares of its bins then.
        seen: (B,) shares of its bins now.
        distance: Total variation of the two.
    """
    change = seen - reference
    moved = int(np.abs(change[: column.width]).argmax())
    lost = [column.width - 1] + ([column.width - 2] if column.kind == "categorical" else [])
    return FeatureEvidence(
        name=column.name,
        evidence=math.log(max(total, 1.0)),
        total_variation=distance,
        moved=column.bin_name(moved),
        before=float(reference[moved]),
        after=float(seen[moved]),
        broken=max(0.0, float(change[lost].sum())),
    )
