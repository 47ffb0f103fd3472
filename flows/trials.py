"""`strategy = "auto"`: several strategies are tried, and what the gates would like best is kept.

Each trial trains a copy of the champion on the same rows and is measured as the gates will: on the
held-out rows of every regime, beside the champion. Among those that forgot no regime by more than
the bound, the one with the greatest gain on the newest regime is kept; where all forgot more, the
one that forgot least.

A choice among K on the very rows that the gates judge by would let a bad candidate pass up to K
times as often, so the gates hold what was chosen to `error_rate / K` (`stricter`): a version that
is worse by the bound still passes with a chance of at most `error_rate`, by the union bound over
the trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flows.judging import Judged, judge_regimes
from flows.learning import Champion, Trained, Trial, retrain_budget, train_further
from flows.lessons import Lesson
from homeostat.errors import SettingsError
from homeostat.policy import GatePolicy, Policy
from models import Prototypes
from models.learner import Budget, Learner

AUTO = "auto"
TRIED = ("averaged-replay", "der++", "head-only", "full")
# Nothing but one strategy trains a head that keeps sums.
TRIED_ON_PROTOTYPES = ("prototypes",)


def train_by_policy(
    lesson: Lesson, policy: Policy, champion: Champion, budget: Budget | None = None
) -> Trained:
    """Train a copy of the champion on a new regime by the policy's strategy, or by the best.

    Args:
        lesson: The rows, split.
        policy: Of the model.
        champion: Whose weights go on.
        budget: What a retrain may spend, each trial an equal part of its seconds; None: as the
            policy says.

    Raises:
        Refused: the champion was adopted.
        DataError: the rows cannot be learnt from.
        LearnerError: the learner's own code failed.
        SettingsError: no strategy is for this learner.
    """
    if policy.retrain.strategy != AUTO:
        return train_further(lesson, policy, champion, budget)
    budget = budget or retrain_budget(policy.retrain)
    names = tried_for(champion.learner)
    # The same part for each, however long the others took: one that was killed goes on.
    share = replace(budget, seconds=budget.seconds / len(names))
    made: list[Trained] = []
    trials: list[Trial] = []
    refused = ""
    for name in names:
        try:
            trained = train_further(lesson, with_strategy(policy, name), champion, share)
        except SettingsError as error:  # a strategy that is not for this learner
            refused = error.message
            continue
        made.append(trained)
        trials.append(measured(name, trained, judge_regimes(trained, champion), policy.gates))
    if not made:
        raise SettingsError(
            f"None of the strategies {', '.join(names)} is for this learner: {refused}",
            remedy="Name a strategy that is, as retrain.strategy.",
        )
    chosen = best(trials)
    fit = replace(made[chosen].fit, seconds=sum(one.fit.seconds for one in made))
    spent = sum(one.cpu_seconds for one in made)
    return replace(made[chosen], fit=fit, cpu_seconds=spent, trials=tuple(trials))


def tried_for(learner: Learner) -> Sequence[str]:
    """The strategies to try, in the order in which a tie is decided."""
    return TRIED_ON_PROTOTYPES if isinstance(learner, Prototypes) else TRIED


def with_strategy(policy: Policy, name: str) -> Policy:
    """The same policy, which trains by one strategy."""
    retrain = policy.retrain.model_copy(update={"strategy": name})
    return policy.model_copy(update={"retrain": retrain})


def measured(name: str, trained: Trained, judged: Judged, gates: GatePolicy) -> Trial:
    """What the gates will see of a trial."""
    assert judged.champion is not None  # a retrain goes on from one
    worse = {
        number: float((judged.candidate[number] - losses).mean())
        for number, losses in judged.champion.items()
    }
    gain = -worse.pop(judged.regime)
    bound = gates.forgetting if gates.former_forgetting is None else gates.former_forgetting
    forgetting = max(worse.values(), default=0.0)
    return Trial(name, gain, forgetting, forgetting < bound or bound >= 1.0, trained.fit.seconds)


def best(trials: Sequence[Trial]) -> int:
    """Which trial is kept: of equal ones the first."""

    def worth(place: int) -> tuple[bool, float]:
        trial = trials[place]
        return trial.keeps, trial.gain if trial.keeps else -trial.forgetting

    return max(range(len(trials)), key=worth)


def stricter(gates: GatePolicy, trained: Trained) -> GatePolicy:
    """The bounds for a candidate that was chosen among trials by the rows that judge it."""
    count = max(1, len(trained.trials))
    return gates.model_copy(update={"error_rate": gates.error_rate / count})
