"""Gates: what a candidate must show before it may take traffic.

A gate is a small named function of the evidence (candidate, champion, data) that answers with a
figure, the bound it was held to and a reason; None where it does not apply. They stand in one
table, `GATES`, and are asked in its order:

| gate | holds when |
|---|---|
| `accuracy` | on the newest regime's held-out rows it is at least the policy's floor |
| `newest-regime` | there, it is shown to be not worse than the champion (paired test) |
| `regime-K` | on each earlier regime it is shown to have lost less than the bound (paired test) |
| `documents` | card and bill of materials are there, whole, and about this artifact |
| `slices` | on no slice it is shown to have lost more than the slice's budget (paired tests) |
| `golden` | the serving code loads it, and its golden rows are answered as when it was made |
| `latency`, `memory` | what the serving code measured is within the policy's bounds |

The first version of a model has no champion to be compared with: what compares does not apply.
Users' own gates follow (`registry.gate_extra`).

Errors. A candidate that is worse than the champion by the bound or more on the newest regime, or on
an earlier one, passes with a chance of at most `error_rate`: those tests are exact, and as every
gate must pass, no other one adds to the chance. A candidate that keeps every slice's budget is
refused by the slices gate with a chance of at most `error_rate`, over all slices together.
`accuracy` is a bound on what was measured on the frozen rows, no test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from monitoring import compare_losses
from registry.gate_documents import documents
from registry.gate_evidence import Evidence, Losses
from registry.gate_extra import Answer, Gate, ask_extra
from registry.gate_measured import golden, latency, memory
from registry.gate_slices import slices
from registry.verdicts import GateFigure, Verdict

__all__ = ["GATES", "Answer", "Gate", "GateFigure", "Verdict", "judge"]


def judge(evidence: Evidence, at: datetime) -> Verdict:
    """Ask every gate about a candidate.

    Args:
        evidence: The two versions, the rows, the bounds.
        at: When.

    Returns:
        All figures, the users' gates' too; what one of those does wrong refuses the candidate.

    Raises:
        DataError: no rows to judge by, or the two were not judged on the same rows.
    """
    evidence.check()
    figures = [figure for gate in GATES.values() for figure in _listed(gate(evidence))]
    figures += ask_extra(evidence, [figure.name for figure in figures])
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
    """Shown, regime by regime, to have kept what the champion knows.

    Each is tested at the whole error rate: it has to pass every one of them, so one that forgot
    any regime passes no more often (Berger 1982, intersection-union).
    """
    if evidence.champion is None:
        return ()
    earlier = sorted(set(evidence.candidate.losses) - {evidence.newest})
    theirs = evidence.champion.losses
    return [_kept(evidence, number, theirs[number]) for number in earlier]


def _kept(evidence: Evidence, number: int, theirs: Losses) -> GateFigure:
    policy, ours = evidence.policy, evidence.candidate.losses[number]
    bound = policy.forgetting if policy.former_forgetting is None else policy.former_forgetting
    if bound >= 1.0:
        mean = float((ours - theirs).mean())
        reason = f"Forgot {mean:+.3f} of regime {number}; as much as it likes."
        return GateFigure(f"regime-{number}", mean, bound, True, reason)
    outcome = compare_losses(ours, theirs, bound, policy.error_rate)
    passed = bool(outcome.passed)
    return GateFigure(
        f"regime-{number}",
        float(outcome.mean),
        bound,
        passed,
        f"Forgot {outcome.mean:+.3f} of regime {number}"
        f" (interval {outcome.low:+.3f} to {outcome.high:+.3f}, {outcome.n} rows);"
        f" {'shown' if passed else 'not shown'} to be less than {bound:.3f}.",
    )


GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "accuracy": accuracy,
        "newest-regime": not_worse,
        "forgetting": forgetting,
        "documents": documents,
        "slices": slices,
        "golden": golden,
        "latency": latency,
        "memory": memory,
    }
)


def _listed(answer: Answer) -> Sequence[GateFigure]:
    if answer is None:
        return ()
    return (answer,) if isinstance(answer, GateFigure) else answer
