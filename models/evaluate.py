"""What a model is worth on labelled rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homeostat.errors import DataError, LearnerError
from models.learner import Floats, Label, Learner
from models.torch_learner import guarded

_CHUNK = 1024  # rows of one forward pass


@dataclass(frozen=True)
class Evaluation:
    """Outputs (N, C) float32, the loss of each row (N,) in [0, 1], and 1 minus their mean."""

    outputs: NDArray[np.float32]
    losses: Floats
    accuracy: float


def evaluate(
    learner: Learner, model: nn.Module, x: Tensor, labels: Sequence[Label] | Tensor
) -> Evaluation:
    """Predict and score labelled rows.

    Args:
        learner: Whose model it is.
        model: Left as it is.
        x: (N, D), as `Learner.encode` gives them.
        labels: The N truths as JSON carries them, or (N,) as `Learner.targets` gives them.

    Raises:
        DataError: there is no row.
        InvalidLabel: a label that cannot be a truth.
        LearnerError: the learner failed or broke its contract.
    """
    if not len(x):
        raise DataError("There is no row to judge by.", remedy="Give labelled rows.")
    outputs = np.concatenate([predict(learner, model, part) for part in torch.split(x, _CHUNK)])
    truths = guarded(learner.truths, labels) if isinstance(labels, Tensor) else labels
    losses: Floats = _array(guarded(learner.score, outputs, truths), np.float64)
    # Not "any below or any above": NaN must fail too.
    if losses.shape != (len(x),) or not ((losses >= 0) & (losses <= 1)).all():
        raise LearnerError(
            f"{type(learner).__name__}.score did not give {len(x)} losses between 0 and 1.",
            remedy="Mend the learner's score.",
        )
    return Evaluation(outputs, losses, 1.0 - float(losses.mean()))


def predict(learner: Learner, model: nn.Module, batch: Tensor) -> NDArray[np.float32]:
    """Outputs (N, C) of encoded rows (N, D), the learner's contract checked.

    Raises:
        LearnerError: the learner failed, or gave another number of rows or a value that is
            not finite.
    """
    outputs: NDArray[np.float32] = _array(guarded(learner.predict, model, batch), np.float32)
    if outputs.ndim != 2 or len(outputs) != len(batch):
        raise LearnerError(
            f"{type(learner).__name__}.predict gave the shape {outputs.shape} for {len(batch)} "
            "rows.",
            remedy="Give one line of outputs for each row.",
        )
    if not np.isfinite(outputs).all():
        raise LearnerError(
            f"{type(learner).__name__}.predict gave a value that is not finite.",
            remedy="The weights or the encoding are broken: do not serve this version.",
        )
    return outputs


def _array(values: object, dtype: type[np.floating[Any]]) -> NDArray[Any]:
    try:
        return np.asarray(values, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise LearnerError(
            f"The learner gave no array of numbers: {error}.", remedy="Mend the learner's code."
        ) from error
