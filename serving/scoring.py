"""What each version that answered lost on a label."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostat.errors import HomeostatError, InvalidLabel, LearnerError
from models.learner import Learner
from registry.labels import LabelOutcome
from registry.log import PredictionRecord
from registry.losses import LabelledLoss
from serving.runtime import Outputs

logger = logging.getLogger(__name__)

FindLearner = Callable[[str, int], Learner | None]


@dataclass(frozen=True)
class Scored:
    """The losses on one accepted label; `revised`: it took the place of another."""

    model: str
    prediction_id: str
    row: LabelledLoss
    revised: bool = False


def score(
    outcomes: Sequence[LabelOutcome], learner_of: FindLearner
) -> tuple[list[Scored], dict[int, str]]:
    """Losses of the accepted outcomes by version, and by its place why a label is invalid.

    Args:
        outcomes: Of any models.
        learner_of: The learner of a model's version, or None where that is not known.
    """
    losses: dict[int, dict[int, float]] = {}
    moments: dict[int, tuple[str, str, datetime]] = {}
    groups: dict[tuple[str, int, int], list[tuple[int, Outputs]]] = {}
    for place, outcome in enumerate(outcomes):
        prediction = outcome.prediction
        if outcome.status not in ("accepted", "revised") or prediction is None:
            continue
        moments[place] = (prediction.model, prediction.id, prediction.at)
        losses[place] = {}
        for version, output in _answers(prediction):
            key = (prediction.model, version, len(output))
            groups.setdefault(key, []).append((place, output))
    reasons: dict[int, str] = {}
    for (model, version, _), members in groups.items():
        learner = learner_of(model, version)
        if learner is None:
            continue
        for place, loss in _scores(learner, members, outcomes, reasons).items():
            losses[place][version] = loss
    scored = [
        Scored(
            model,
            prediction_id,
            LabelledLoss(at, losses[place]),
            outcomes[place].status == "revised",
        )
        for place, (model, prediction_id, at) in moments.items()
        if losses[place]
    ]
    return scored, reasons


def _answers(prediction: PredictionRecord) -> list[tuple[int, Outputs]]:
    return [(prediction.version, prediction.output), *prediction.shadows]


def _scores(
    learner: Learner,
    members: Sequence[tuple[int, Outputs]],
    outcomes: Sequence[LabelOutcome],
    reasons: dict[int, str],
) -> dict[int, float]:
    """Loss by place; a label that cannot be used gets its reason instead."""
    places = [place for place, _ in members]
    outputs = np.stack([output for _, output in members])
    labels = [outcomes[place].value for place in places]
    try:
        return dict(zip(places, _score(learner, outputs, labels), strict=True))
    except HomeostatError:
        found: dict[int, float] = {}
        for place, output, label in zip(places, outputs, labels, strict=True):
            try:
                found[place] = _score(learner, output[None], [label])[0]
            except InvalidLabel as error:
                reasons[place] = str(error)
            except HomeostatError:
                logger.exception("a label of version cannot be scored")
        return found


def _score(learner: Learner, outputs: NDArray[np.float32], labels: list[Any]) -> list[float]:
    try:
        losses = np.asarray(learner.score(outputs, labels), dtype=np.float64)
    except HomeostatError:
        raise
    except Exception as error:
        raise LearnerError(f"The learner failed in score: {error}") from error
    if losses.shape != (len(labels),) or not bool(((losses >= 0) & (losses <= 1)).all()):
        raise LearnerError(f"The learner scored {len(labels)} labels as {losses!r}, not in [0, 1].")
    return [float(loss) for loss in losses]
