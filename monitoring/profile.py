"""A version's profile: what its inputs, outputs and losses looked like where it was judged.

Only counts are kept, in bins that never move, so the profiles of replicas add up exactly and
nothing is scanned twice. Shapes: N rows, F features, C = F + 2 columns (the features, then
`predicted` and `confidence`), B bins of the widest column.

Bins are drawn from every fifth row of the reference and filled by the others: bins fitted to
the very rows they count look more even than the world is, and no bound on them would hold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from homeostat.errors import ArtifactError, InputError
from homeostat.schema import Feature, Task
from monitoring.columns import Binning, Column, draw_bins, read_column
from monitoring.counting import Counts, Floats
from monitoring.estimates import Calibration, Estimate, estimate
from monitoring.losses import LossReference
from monitoring.open_set import OpenSet, open_set
from monitoring.watched import Watched

SCHEMA = 1
PREDICTED = "prediction"
CONFIDENCE = "confidence"
LOSS_BINS = 20  # of equal width on [0, 1]
_EVERY = 5  # one row in so many draws the bins
_LARGE = 600  # rows of a part from which its rows are not counted one by one


@dataclass(frozen=True)
class LossSummary:
    """The reference losses: n, sum, sum of squares, and a histogram of equal bins on [0, 1]."""

    n: int
    total: float
    squares: float
    histogram: tuple[int, ...]


class Profile:
    """Reference distributions and losses of one version; immutable, mergeable, plain JSON.

    Args:
        features: The F features.
        task: Says whether a prediction is a class or a value.
        columns: F + 2 columns, `prediction` and `confidence` last.
        losses: The reference losses.
        calibration: What `estimate` knows; None: nothing.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        task: Task,
        columns: Sequence[Column],
        losses: LossSummary,
        calibration: Calibration | None = None,
    ) -> None:
        self.features = tuple(features)
        self.task: Task = task
        self.columns = tuple(columns)
        self.losses = losses
        self.calibration = calibration
        self._binning = Binning(self.columns)

    @classmethod
    def from_reference(
        cls,
        features: Sequence[Feature],
        task: Task,
        observed: ArrayLike,
        predicted: ArrayLike,
        confidence: ArrayLike,
        losses: ArrayLike,
    ) -> Profile:
        """Profile the rows that a version was judged by (held out, never trained on).

        Args:
            features: The F features, in the order of `observed`'s columns.
            task: `classification`: predictions are class indices.
            observed: (N, F); NaN is a missing value.
            predicted: (N,) as `Learner.predicted` gives.
            confidence: (N,) as `Learner.confidence` gives.
            losses: (N,) in [0, 1].

        Raises:
            InputError: no row, lengths that differ, or a loss outside [0, 1].
        """
        watched = _watched(features, task, predicted)
        values = stack(observed, predicted, confidence, len(features))
        if not len(values):
            raise InputError("A profile needs rows; the reference has none.")
        columns = []
        for index, feature in enumerate(watched):
            column = draw_bins(feature, values[::_EVERY, index], values[:, index])
            # The bins of a category are given, not fitted: all rows may fill them.
            given = column.kind == "categorical" or len(values) < 2 * _EVERY
            fill = values if given else values[np.arange(len(values)) % _EVERY != 0]
            counted = Binning([column]).count(fill[:, [index]])[0]
            columns.append(replace(column, counts=tuple(int(n) for n in counted)))
        summary, binning = _summarise(losses, len(values)), Binning(columns)
        calibration = Calibration.fit(binning.indices(values), losses, binning.bins)
        return cls(features, task, columns, summary, calibration)

    @property
    def rows(self) -> int:
        """Number of reference rows."""
        return self.losses.n

    @property
    def loss_reference(self) -> LossReference:
        """What a `LossDetector` compares with."""
        return LossReference(self.losses.n, self.losses.total)

    @property
    def reference_counts(self) -> Counts:
        """Reference rows in each bin, (F + 2, B)."""
        counts = np.zeros((len(self.columns), self._binning.bins), dtype=np.int64)
        for index, column in enumerate(self.columns):
            counts[index, : column.width] = column.counts
        return counts

    def counts(self, observed: ArrayLike, predicted: ArrayLike, confidence: ArrayLike) -> Counts:
        """Count a batch in the profile's bins, (F + 2, B).

        Raises:
            InputError: a shape that is not the profile's.
        """
        watched = Watched.of(observed, predicted, confidence, len(self.features))
        return np.asarray(self.count_cut(watched, [len(watched)])[0])

    def count_cut(self, watched: Watched, sizes: Sequence[int]) -> Counts:
        """`counts` of parts of so many rows each, one after the other, (parts, F + 2, B)."""
        if len(watched) < _LARGE * len(sizes):
            part = np.repeat(np.arange(len(sizes)), sizes)
            return self._binning.count_parts(watched.columns(0, len(watched)).T, part, len(sizes))
        ends, places = np.cumsum(sizes).tolist(), self._binning.places
        return self._binning.count_blocks(
            [watched.blocks(end - size, end, places) for end, size in zip(ends, sizes, strict=True)]
        )

    def count_values(self, values: Floats) -> Counts:
        """`counts` of the (N, F + 2) array that `stack` makes."""
        return self._binning.count(values)

    def count_parts(self, values: Floats, part: Counts, parts: int) -> Counts:
        """`count_values` of each part of the rows, (parts, F + 2, B); see `Binning`."""
        return self._binning.count_parts(values, part, parts)

    def estimate(self, counts: ArrayLike) -> Estimate:
        """The mean loss of rows counted in the profile's bins, without their labels.

        Args:
            counts: (F + 2, B), as `counts` gives.
        """
        return estimate(self.calibration, self.columns, counts)

    def open_set(self, counts: ArrayLike) -> OpenSet:
        """The share of rows counted in the profile's bins that are of no known class.

        Args:
            counts: (F + 2, B), as `counts` gives.
        """
        last = np.asarray(counts)[-1]
        if self.task == "regression":
            said = "A regression has no classes."
            return OpenSet(int(last.sum()), None, trouble=said)
        return open_set(self.columns[-1], last)

    def merge(self, other: Profile) -> Profile:
        """The profile of both references together; a calibration is fitted and does not add up.

        Raises:
            InputError: the bins differ.
        """
        mine = [replace(column, counts=()) for column in self.columns]
        if mine != [replace(column, counts=()) for column in other.columns]:
            raise InputError("Two profiles with different bins do not add up.")
        columns = [
            replace(a, counts=tuple(x + y for x, y in zip(a.counts, b.counts, strict=True)))
            for a, b in zip(self.columns, other.columns, strict=True)
        ]
        a, b = self.losses, other.losses
        histogram = tuple(x + y for x, y in zip(a.histogram, b.histogram, strict=True))
        losses = LossSummary(a.n + b.n, a.total + b.total, a.squares + b.squares, histogram)
        return Profile(self.features, self.task, columns, losses)

    def to_json(self) -> str:
        """The profile as JSON with its schema number."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "task": self.task,
                "features": [vars(feature) for feature in self.features],
                "columns": [vars(column) for column in self.columns],
                "losses": vars(self.losses),
                "calibration": self.calibration.to_json() if self.calibration else None,
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Profile:
        """Read what `to_json` wrote.

        Raises:
            ArtifactError: not JSON, another schema, or figures that do not fit together.
        """
        try:
            return cls._read(json.loads(text))
        except (
            LookupError,
            TypeError,
            ValueError,
            ArithmeticError,
            AttributeError,
            RecursionError,
        ) as error:
            raise ArtifactError(
                f"The profile cannot be read: {type(error).__name__}: {error}.",
                remedy="Register the version again with a profile made by this release.",
            ) from None

    @classmethod
    def _read(cls, data: Any) -> Profile:  # noqa: ANN401 - whatever the JSON holds
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']!r}, where {SCHEMA} is read")
        if data["task"] not in ("classification", "regression"):
            raise ValueError(f"task {data['task']!r}")
        features = [
            Feature(f["name"], f["kind"], tuple(str(c) for c in f["categories"]))
            for f in data["features"]
        ]
        columns = [read_column(entry) for entry in data["columns"]]
        if len(columns) != len(features) + 2:
            raise ValueError(f"{len(columns)} columns for {len(features)} features")
        raw = data["losses"]
        losses = LossSummary(
            int(raw["n"]),
            float(raw["total"]),
            float(raw["squares"]),
            tuple(int(n) for n in raw["histogram"]),
        )
        if not (0 <= losses.total <= losses.n and len(losses.histogram) == LOSS_BINS):
            raise ValueError(f"losses {raw!r}"[:200])
        raw = data.get("calibration")  # none in profiles of earlier releases
        width = max(column.width for column in columns)
        calibration = Calibration.from_json(raw, len(columns), width) if raw else None
        return cls(features, data["task"], columns, losses, calibration)


def stack(
    observed: ArrayLike, predicted: ArrayLike, confidence: ArrayLike, features: int
) -> Floats:
    """One (N, F + 2) array of all watched columns.

    Raises:
        InputError: a shape that does not fit.
    """
    watched = Watched.of(observed, predicted, confidence, features)
    return watched.columns(0, len(watched)).T


def _watched(features: Sequence[Feature], task: Task, predicted: ArrayLike) -> list[Feature]:
    if task == "regression":
        prediction = Feature(PREDICTED)
    else:
        codes = np.asarray(predicted, dtype=np.float64)
        codes = codes[np.isfinite(codes)]
        known = int(codes.max()) + 1 if len(codes) else 0
        prediction = Feature(PREDICTED, "categorical", tuple(str(c) for c in range(known)))
    return [*features, prediction, Feature(CONFIDENCE)]


def _summarise(losses: ArrayLike, rows: int) -> LossSummary:
    values = np.asarray(losses, dtype=np.float64).ravel()
    if len(values) != rows:
        raise InputError(f"{len(values)} losses for {rows} rows.")
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(bad):
        raise InputError(f"Loss {bad[0]} of the reference is {values[bad[0]]}, not in [0, 1].")
    histogram = np.histogram(values, bins=LOSS_BINS, range=(0.0, 1.0))[0]
    return LossSummary(
        rows, float(values.sum()), float((values**2).sum()), tuple(int(n) for n in histogram)
    )
