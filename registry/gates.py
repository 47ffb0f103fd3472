"""Gates: what a candidate must show before it may take traffic.

Three conditions, each with the figure it was judged by:

| gate | holds when |
|---|---|
| `accuracy` | on the newest regime's held-out rows it is at least the policy's floor |
| `newest-regime` | there, it is shown to be not worse than the champion (paired test) |
| `regime-K` | on each earlier regime it lost no more than the policy's bound to the champion |

The first version of a model has no champion to be compared with: only the floor counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from homeostat.errors import DataError
from homeostat.policy import GatePolicy
from monitoring import compare_losses
from registry.tables import VerdictRow

Losses = NDArray[np.float64]


@dataclass(frozen=True)
class GateFigure:
    """One gate: the figure, the bound it was held to, and why it passed or not."""

    name: str
    figure: float
    bound: float
    passed: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    """All gates' outcome for the artifact of that digest, and for no other."""

    passed: bool
    figures: tuple[GateFigure, ...]
    digest: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as it is stored and shown."""
        return {
            "schema": 1,
            "passed": self.passed,
            "digest": self.digest,
            "figures": [asdict(figure) for figure in self.figures],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        """What `to_json` gave."""
        figures = tuple(GateFigure(**figure) for figure in value["figures"])
        return cls(bool(value["passed"]), figures, str(value["digest"]))

    @property
    def reason(self) -> str:
        """Why it failed, gate by gate; or that every gate passed."""
        refused = [f"{gate.name}: {gate.reason}" for gate in self.figures if not gate.passed]
        return " ".join(refused) or "Every gate passed."


def judge(
    candidate: Mapping[int, Losses],
    champion: Mapping[int, Losses] | None,
    policy: GatePolicy,
    digest: str,
) -> Verdict:
    """Judge a candidate by its losses on held-out rows, next to the champion's on the same rows.

    Args:
        candidate: For each regime's number the (n,) losses in [0, 1] of its held-out rows.
        champion: The same of the champion, row by row; None for a model's first version.
        policy: The bounds.
        digest: Of the candidate's artifact.

    Raises:
        DataError: no rows to judge by, or the two were not judged on the same rows.
    """
    _check(candidate, champion)
    newest = max(candidate)
    figures = [_floor(candidate[newest], policy)]
    if champion is not None:
        figures.append(_not_worse(candidate[newest], champion[newest], policy))
        figures += [
            _kept(number, candidate[number], champion[number], policy)
            for number in sorted(candidate)
            if number != newest
        ]
    return Verdict(all(gate.passed for gate in figures), tuple(figures), digest)


def record_verdict(
    session: Session, model: str, version: int, verdict: Verdict, at: datetime
) -> None:
    """Keep what the gates said of a version; the newest counts."""
    session.add(
        VerdictRow(
            model=model,
            version=version,
            digest=verdict.digest,
            passed=verdict.passed,
            figures=[asdict(figure) for figure in verdict.figures],
            at=at,
        )
    )
    session.flush()


def verdict_for(session: Session, model: str, version: int) -> Verdict | None:
    """The newest verdict on a version, or None where it was never judged."""
    query = (
        select(VerdictRow)
        .where(VerdictRow.model == model, VerdictRow.version == version)
        .order_by(VerdictRow.id.desc())
        .limit(1)
    )
    row = session.scalar(query)
    if row is None:
        return None
    return Verdict.from_json({"passed": row.passed, "digest": row.digest, "figures": row.figures})


def _floor(losses: Losses, policy: GatePolicy) -> GateFigure:
    accuracy = 1.0 - float(losses.mean())
    passed = accuracy >= policy.min_accuracy
    return GateFigure(
        "accuracy",
        accuracy,
        policy.min_accuracy,
        passed,
        f"Accuracy {accuracy:.3f} on {len(losses)} held-out rows;"
        f" {'at least' if passed else 'less than'} {policy.min_accuracy:.3f}.",
    )


def _not_worse(candidate: Losses, champion: Losses, policy: GatePolicy) -> GateFigure:
    outcome = compare_losses(candidate, champion, policy.forgetting, policy.error_rate)
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


def _kept(number: int, candidate: Losses, champion: Losses, policy: GatePolicy) -> GateFigure:
    outcome = compare_losses(candidate, champion, policy.forgetting, policy.error_rate)
    lost = float(candidate.mean() - champion.mean())
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


def _check(candidate: Mapping[int, Losses], champion: Mapping[int, Losses] | None) -> None:
    if not candidate or any(len(losses) == 0 for losses in candidate.values()):
        raise DataError(
            "There are no held-out rows to judge the candidate by.",
            remedy="Give every regime held-out rows.",
        )
    for number, losses in candidate.items():
        if not np.all((losses >= 0.0) & (losses <= 1.0)):
            raise DataError(
                f"Losses of regime {number} are not all in [0, 1].",
                remedy="See what the learner's `score` returns.",
            )
        if champion is not None and len(champion.get(number, ())) != len(losses):
            raise DataError(
                f"Of regime {number} the candidate has {len(losses)} losses, the champion"
                f" {len(champion.get(number, ()))}.",
                remedy="Judge both on the same rows.",
                regime=number,
            )
