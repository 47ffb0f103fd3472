"""Gates: what a candidate must show before it may take traffic.

A gate is a small named function of the evidence (candidate, champion, data) that answers with a
figure, the bound it was held to and a reason; None where it does not apply. They stand in one
table, `GATES`, and are asked in its order:

| gate | holds when |
|---|---|
| `accuracy` | on the newest regime's held-out rows it is at least the policy's floor |
| `newest-regime` | there, it is shown to be not worse than the champion (paired test) |
| `regime-K` | on each earlier regime it lost no more than the policy's bound to the champion |
| `documents` | card and bill of materials are there, whole, and about this artifact |

The first version of a model has no champion to be compared with: only the floor counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from monitoring import compare_losses
from registry.gate_documents import documents
from registry.gate_evidence import Evidence
from registry.verdicts import GateFigure, Verdict

__all__ = ["GATES", "Answer", "Gate", "GateFigure", "Verdict", "judge"]

Answer = GateFigure | Sequence[GateFigure] | None
Gate = Callable[[Evidence], Answer]


def judge(evidence: Evidence, at: datetime) -> Verdict:
    """Ask every gate about a candidate.

    Args:
        evidence: The two versions, the rows, the bounds.
        at: When.

    Raises:
        DataError: no rows to judge by, or the two were not judged on the same rows.
    """
    evidence.check()
    figures = [figure for gate in GATES.values() for figure in _listed(gate(evidence))]
    return Verdict(
        passed=all(figure.passed for figure in figures),
        figures=tuple(figures),
        digest=evidence.candidate.digest,
        error_rate=evidence.policy.error_rate,
        policy=evidence.policy.model_dump(mode="json"),
        at=at,
    )


def accuracy(evidence: Evidence) -> GateFigure:
    """The floor: accuracy (1 - mean loss) on the newest regime's held-out rows."""
    losses, floor = evidence.candidate.losses[evidence.newest], evidence.policy.min_accuracy
    reached = 1.0 - float(losses.mean())
    passed = reached >= floor
    return GateFigure(
        "accuracy",
        reached,
        floor,
        passed,
        f"Accuracy {reached:.3f} on {len(losses)} held-out rows;"
        f" {'at least' if passed else 'less than'} {floor:.3f}.",
    )


def not_worse(evidence: Evidence) -> GateFigure | None:
    """Shown to be not worse than the champion on the newest regime, by a paired test."""
    if evidence.champion is None:
        return None
    policy, newest = evidence.policy, evidence.newest
    ours, theirs = evidence.candidate.losses[newest], evidence.champion.losses[newest]
    outcome = compare_losses(ours, theirs, policy.forgetting, policy.error_rate)
    passed = bool(outcome.passed)
    return GateFigure(
        "newest-regime",
        float(outcome.mean),
        policy.forgetting,
        passed,
        f"Loss against the champion's {outcome.mean:+.3f}"
        f" (interval {outcome.low:+.3f} to {outcome.high:+.3f}, {outcome.n} rows);"
        f" {'shown' if passed else 'not shown'} to be less than {policy.forgetting:.3f} worse.",
    )


def forgetting(evidence: Evidence) -> Sequence[GateFigure]:
    """How much of each earlier regime it lost to the champion."""
    if evidence.champion is None:
        return ()
    earlier = sorted(set(evidence.candidate.losses) - {evidence.newest})
    return [_kept(evidence, number) for number in earlier]


def _kept(evidence: Evidence, number: int) -> GateFigure:
    assert evidence.champion is not None
    policy = evidence.policy
    ours, theirs = evidence.candidate.losses[number], evidence.champion.losses[number]
    outcome = compare_losses(ours, theirs, policy.forgetting, policy.error_rate)
    lost = float(ours.mean() - theirs.mean())
    passed = lost <= policy.forgetting
    return GateFigure(
        f"regime-{number}",
        lost,
        policy.forgetting,
        passed,
        f"Forgot {lost:+.3f} of regime {number}"
        f" (interval {outcome.low:+.3f} to {outcome.high:+.3f}, {outcome.n} rows);"
        f" {'no more' if passed else 'more'} than {policy.forgetting:.3f}.",
    )


GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "accuracy": accuracy,
        "newest-regime": not_worse,
        "forgetting": forgetting,
        "documents": documents,
    }
)


def _listed(answer: Answer) -> Sequence[GateFigure]:
    if answer is None:
        return ()
    return (answer,) if isinstance(answer, GateFigure) else answer
