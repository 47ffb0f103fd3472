"""Rules of retraining that a backtest sets side by side.

| rule | retrains |
|---|---|
| `homeostat` | at a loss signal, by the policy, until it is well again (`monitoring.recovery`) |
| `never` | never |
| `calendar` | afresh on the newest N rows, every N rows |
| `adwin` | afresh on the rows since each alarm of river's ADWIN |

The last three are not held to gates: what they train serves.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Protocol

from flows.backtest import Course, Labelled, Serving, Tally, part
from flows.learning import train_afresh
from flows.lessons import first_lesson
from homeostat.errors import DataError, Refused
from homeostat.policy import Policy
from models.data import Dataset
from models.evaluate import Evaluation


class MovingMean(Protocol):
    """What is asked of river's ADWIN, which ships no types."""

    estimation: float  # mean of the window
    width: float  # rows of it
    drift_detected: bool

    def update(self, x: float) -> object:
        """Take one more value in."""


class Never:
    """The first version answers everything.

    Args:
        dataset: The stream.
        policy: How to learn.
        course: How it is replayed; its warm-up trains version 1.
    """

    name = "never"

    def __init__(self, dataset: Dataset, policy: Policy, course: Course) -> None:
        course.check(len(dataset))
        self.tally = Tally()
        self._dataset, self._policy, self._course = dataset, policy, course
        self.serving = self._train(0, course.warmup)

    def answered(self, start: int, stop: int, evaluation: Evaluation) -> None:
        """It looks at no input."""

    def labelled(self, rows: Labelled) -> None:
        """It looks at no label."""

    def _train(self, start: int, stop: int) -> Serving:
        lesson = first_lesson(part(self._dataset, start, stop), self._policy)
        trained = train_afresh(lesson, self._policy, None)
        return Serving(trained.learner, trained.module)

    def _retrain(self, start: int, stop: int) -> None:
        """Another version from the rows [start, stop), where they can be learnt from."""
        try:
            self.serving = self._train(start, stop)
        except DataError:
            self.tally.refused.append(stop)
            return
        self.tally.retrains.append(stop)
        self.tally.rows_learnt += stop - start


class Calendar(Never):
    """A new version every `every` rows, from the newest `every` rows."""

    def __init__(self, dataset: Dataset, policy: Policy, course: Course, every: int) -> None:
        super().__init__(dataset, policy, course)
        self.name = f"every {every:,}"
        self._every, self._last = every, course.warmup

    def labelled(self, rows: Labelled) -> None:
        """Retrain when the rows are there."""
        if rows.stop - self._last >= self._every:
            self._last = rows.stop
            self._retrain(rows.stop - self._every, rows.stop)


class Adwin(Never):
    """A new version at each alarm of river's ADWIN on the losses.

    It is trained on the rows that ADWIN holds to be of after the change, once they are as many
    as the policy's `min_labels`.

    References:
        Bifet and Gavaldà, *Learning from time-changing data with adaptive windowing* (2007).

    Raises:
        Refused: river is not installed.
    """

    name = "adwin"

    def __init__(self, dataset: Dataset, policy: Policy, course: Course) -> None:
        super().__init__(dataset, policy, course)
        self._detector = _adwin()
        self._change: int | None = None

    def labelled(self, rows: Labelled) -> None:
        """Watch for a rise of the loss, and retrain when the rows since then are there."""
        for row, loss in enumerate(rows.losses.tolist(), rows.start + 1):
            before = self._detector.estimation
            self._detector.update(loss)
            if self._detector.drift_detected and self._detector.estimation > before:
                self.tally.alarms.append(row)
                self._change = row - int(self._detector.width)
        enough = self._policy.retrain.min_labels
        if self._change is not None and rows.stop - self._change >= enough:
            self._retrain(max(self._change, 0), rows.stop)
            self._detector, self._change = _adwin(), None


def river_is_here() -> bool:
    """Whether river can be imported: it is no part of Homeostat."""
    return importlib.util.find_spec("river") is not None


def _adwin() -> MovingMean:
    if not river_is_here():
        raise Refused("river is not installed.", remedy="pip install river")
    detector: MovingMean = importlib.import_module("river.drift").ADWIN()
    return detector
