"""Judging a candidate beside its champion, on the held-out rows of every regime.

N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from flows.learning import Champion, Trained, held_out, shared_regimes
from models.evaluate import Evaluation, evaluate
from models.learner import Examples, Learner
from models.torch_learner import guarded
from monitoring.profile import Profile

Losses = Mapping[int, NDArray[np.float64]]  # by regime: the loss of each held-out row, (N,)


@dataclass(frozen=True)
class Judged:
    """How a candidate and the champion do on the held-out rows of every regime.

    Args:
        regime: The newest: what the stream looks like now.
        rows: Its held-out rows, encoded for the candidate.
        newest: The candidate on them.
        candidate: Its losses by regime.
        champion: The champion's losses on the same rows; None when there is none.
        learnt: The accuracy on earlier regimes of the version that learnt each, where known.
        untrained: The accuracy on the newest regime of a module that nothing has learnt; None
            where there is no champion.
        measures: The learner's own figures of the candidate by regime.
    """

    regime: int
    rows: Examples
    newest: Evaluation
    candidate: Losses
    champion: Losses | None
    learnt: Mapping[int, float] = field(default_factory=dict)
    untrained: float | None = None
    measures: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


def judge_regimes(trained: Trained, champion: Champion | None) -> Judged:
    """Run the candidate and the champion over the held-out rows of every regime.

    A candidate whose learner encodes otherwise than the champion's (another data set, other
    columns) cannot read the rows that were frozen for it: it is compared on its own rows only.
    """
    lesson, learner = trained.lesson, trained.learner
    frozen = {lesson.regime: held_out(learner, lesson)}
    before: dict[int, NDArray[np.float64]] = {}
    if champion is not None:
        own = held_out(champion.learner, lesson)
        before[lesson.regime] = evaluate(champion.learner, champion.module, own.x, own.y).losses
        for number in shared_regimes(champion, learner, lesson.regime):
            rows = champion.regimes.get(number)
            frozen[number] = rows
            before[number] = evaluate(champion.learner, champion.module, rows.x, rows.y).losses
    after = {
        number: evaluate(learner, trained.module, rows.x, rows.y) for number, rows in frozen.items()
    }
    newest = max(frozen)
    return Judged(
        newest,
        frozen[newest],
        after[newest],
        {number: evaluation.losses for number, evaluation in after.items()},
        before if champion is not None else None,
        {n: champion.regimes.learnt[n] for n in frozen if n in champion.regimes.learnt}
        if champion is not None
        else {},
        _untrained(learner, frozen[newest]) if champion is not None else None,
        {number: guarded(learner.measures, one.outputs) for number, one in after.items()},
    )


def _untrained(learner: Learner, rows: Examples) -> float | None:
    """What a module of this learner gets right before it has learnt anything; adopted: None."""
    if learner.format != "torch":
        return None
    module = guarded(learner.build, torch.Generator().manual_seed(0))
    return evaluate(learner, module, rows.x, rows.y).accuracy


def build_profile(trained: Trained, judged: Judged) -> Profile:
    """What inputs, outputs and losses look like now, on rows the candidate never learnt from."""
    learner, outputs = trained.learner, judged.newest.outputs
    return Profile.from_reference(
        learner.features,
        learner.task,
        guarded(learner.observe, judged.rows.x),
        guarded(learner.predicted, outputs),
        guarded(learner.confidence, outputs),
        judged.newest.losses,
    )
