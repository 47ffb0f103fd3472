r"""What an incident comes to: one verdict with its reason, of which "do not retrain" is one.

| verdict | when | answer |
|---|---|---|
| `real-loss` | labels, or failures, show that the version does worse | retrain, or roll back |
| `data-break` | values missing, unknown, in another unit, out of range, constant | mend the feed |
| `harmless-drift` | inputs moved, labels since show that accuracy holds | do not retrain |
| `immature` | inputs moved, and too few labels have come since | wait |
| `operational` | it is not about how well the version predicts | do not retrain |

Accuracy is shown to hold when the upper limit of the mean loss since the change is within what the
detector of losses calls unchanged: Chernoff's limit for n values in [0, 1] of mean m, the largest
p >= m with :math:`n\,\mathrm{KL}(m, p) \le \log(1/\delta)`, at :math:`\delta = 0.01`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from monitoring.bets import upper_bound
from monitoring.estimates import Estimate
from monitoring.signals import Signal, triage

Verdict = Literal["real-loss", "data-break", "harmless-drift", "immature", "operational"]
Answer = Literal["retrain", "roll back", "do not retrain", "wait"]

DOUBT = 0.01  # how often accuracy that fell is taken as one that held, at one look
_MOST = 1 << 24  # labels that nobody waits for


@dataclass(frozen=True)
class Ruling:
    """A verdict, what it calls for, and why in a sentence."""

    verdict: Verdict
    answer: Answer
    reason: str


@dataclass(frozen=True)
class Measured:
    """Losses on the rows predicted since a change.

    Args:
        labels: How many.
        mean: Their mean loss, in [0, 1].
        bound: The mean loss up to which accuracy counts as unchanged.
    """

    labels: int
    mean: float
    bound: float

    @property
    def limit(self) -> float:
        """The mean loss that is not exceeded, but for a share `DOUBT` of such samples."""
        if not self.labels:
            return 1.0
        return float(upper_bound(self.mean, self.labels, -math.log(DOUBT)))


def rule(
    signals: Sequence[Signal], measured: Measured | None = None, estimate: Estimate | None = None
) -> Ruling:
    """The verdict on everything that is known of one cause.

    Args:
        signals: At least one; what stands now.
        measured: What labels say since the change; None: nothing yet.
        estimate: What is expected without labels since the change: it can hold a verdict back
            (an estimate that accuracy fell is no harmless drift), never make one.
    """
    by_kind = {signal.kind: signal for signal in signals}
    for kind in ("worse-than-standby", "hard-failure"):
        if kind in by_kind:
            return Ruling("real-loss", "roll back", triage(by_kind[kind]).reason)
    drift, loss = by_kind.get("input-drift"), by_kind.get("loss")
    if drift is not None and (said := triage(drift)).action == "page":
        also = " Accuracy fell with it; a retrain would learn the fault." if loss else ""
        return Ruling("data-break", "do not retrain", said.reason + also)
    if loss is not None:
        return Ruling("real-loss", "retrain", triage(loss).reason)
    if drift is not None:
        return _harm(measured, estimate)
    said = triage(signals[0])
    return Ruling("operational", "do not retrain", said.reason)


def labels_needed(mean: float, bound: float) -> int | None:
    """About how many labels of a mean loss show that it is within a bound; None: no number does."""
    if mean >= bound:
        return None
    count = 1
    while count < _MOST and upper_bound(mean, count, -math.log(DOUBT)) > bound:
        count *= 2
    return count


def _harm(measured: Measured | None, estimate: Estimate | None) -> Ruling:
    """Whether inputs that moved did harm, by the labels since."""
    guess = _estimated(measured, estimate)
    if measured is None or not measured.labels:
        none = "The inputs moved; no label has come since the change."
        return Ruling("immature", "wait", none + guess)
    said = (
        f"{measured.labels} labels since the change: mean loss {measured.mean:.3f}, at most "
        f"{measured.limit:.3f} (99 %); up to {measured.bound:.3f} is no change.{guess}"
    )
    if measured.limit > measured.bound:
        needed = labels_needed(measured.mean, measured.bound)
        until = f" Wait for about {needed} labels." if needed else " Wait for what more labels say."
        unknown = "The inputs moved; it is not shown yet what that did."
        return Ruling("immature", "wait", f"{unknown} {said}{until}")
    if estimate is not None and estimate.loss is not None and estimate.low > measured.bound:
        odd = "The inputs moved. Labels say that accuracy holds, the estimate that it fell:"
        return Ruling("immature", "wait", f"{odd} are they of the rows that moved? {said}")
    return Ruling("harmless-drift", "do not retrain", f"The inputs moved, accuracy holds. {said}")


def _estimated(measured: Measured | None, estimate: Estimate | None) -> str:
    """The estimate in words, marked as one."""
    if estimate is None:
        return ""
    if estimate.loss is None:
        return f" Without labels it cannot be estimated: {estimate.trouble}"
    said = (
        f" Estimated without labels: mean loss {estimate.loss:.3f} "
        f"({estimate.low:.3f} to {estimate.high:.3f})"
    )
    if measured is not None and estimate.contradicted(measured.labels, measured.mean):
        return f"{said}, which the labels contradict: the concept may have changed."
    return f"{said}; it sees no change of the concept."
