r"""When a label counts: once the labels of predictions made with its own are in as well.

Wrong answers are often labelled sooner than right ones (somebody complains). Bet on as they come,
such labels look like a fall of accuracy, above all where traffic begins or swells: a new version's
first labels are then all of errors. So labels are bet on in the order of their predictions, behind
a frontier that moves on in two ways, neither of which asks what labels say.

- *Complete*: a share of at least `COMPLETE` of all predictions up to it are labelled.
- *Old*: by the delays of the newest labels a share `MATURE` of those that come are in at the age
  of the predictions before it. It takes a history of `WARM` such delays (or `LONG` more), and of
  `LEAST` seconds, before that is believed: of labels slower than all that were seen nothing can be
  known. Until then `YOUNG` takes the place of `COMPLETE`.
- *Settled*: while that is not known, and where only a part of all predictions is ever labelled:
  they are older than most labels took, the log goes back `SETTLED` such delays, and of them a
  share of at least `ENOUGH` is labelled, by `MANY` labels. s is that share *of all predictions*,
  so the price below holds whatever lacks says, and if it never comes; only large losses pay it.

With a share s in, whichever, the mean loss of what is in is at most 1 / s times that of all: losses
are not negative. So a loss is bet on at a price that is 1 / s times as high, and what comes after
the frontier has passed is not bet on (where right answers are labelled first it is all errors).

Where quick labels are shown to lose as much as slow ones, neither is needed. With a share s in,
their mean is off by (1 - s) (quick - slow); once its 99 % limits are within half the tolerance, so
few are enough, at the plain price, and late ones count as well.

Shapes: B blocks of predictions, L labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.delays import AT_RISK, MATURE

Floats = NDArray[np.float64]

COMPLETE, YOUNG = 0.95, 0.8
WARM, LEAST = 20.0, 3_600.0
LONG = 3 * 86_400.0  # seconds
SETTLED, ENOUGH, MANY = 3.0, 0.25, 50
PARTS = (0.25, 0.5, 0.75)  # of the labels, where fewer than `MATURE` may be enough
Z = 2.576  # of a normal limit that errs once in a hundred
SEEN = 1_000  # labels that show a delay which has grown


@dataclass(frozen=True)
class Ripe:
    """A frontier of predictions, and what is in behind it.

    Args:
        at: The moment up to which labels count, or how old a prediction has to be for it; seconds.
        share: Of the labels that come; 1 also where those that are in are like the others, 0
            where it is not known what is still to come.
        late: Whether a label that comes after the frontier has passed is bet on.
    """

    at: float
    share: float
    late: bool = False


def complete_until(
    begun: ArrayLike,
    rows: ArrayLike,
    labelled: ArrayLike,
    least: float = COMPLETE,
    settled: float = -math.inf,
) -> Ripe | None:
    """The moment of the newest prediction up to which they are complete; None: there is none yet.

    With `settled` also the newest up to which they are that.

    Args:
        begun: (B,) seconds, when each block of predictions began; all of it counts from then on.
        rows: (B,) predictions of each.
        labelled: (L,) seconds, when those were made that are labelled.
        least: The share of them that is enough.
        settled: The moment up to which `ENOUGH` is, by `MANY` labels.
    """
    starts, sizes = np.asarray(begun, dtype=np.float64), np.asarray(rows, dtype=np.float64)
    order = np.argsort(starts, kind="stable")
    moments = np.sort(np.asarray(labelled, dtype=np.float64))
    made = np.r_[0.0, np.cumsum(sizes[order])]
    made = made[np.searchsorted(starts[order], moments, side="right")]
    share = np.searchsorted(moments, moments, side="right") / np.maximum(made, 1.0)
    many = np.arange(1, len(moments) + 1) >= MANY
    stopped = (moments <= settled) & (share >= ENOUGH) & many
    full = np.flatnonzero((share >= least) | stopped)
    if not len(full):
        return None
    return Ripe(float(moments[full[-1]]), min(1.0, float(share[full[-1]])))


def counts_after(
    delays: ArrayLike, losses: ArrayLike, history: float, tolerance: float
) -> Ripe | None:
    """The age from which on a prediction's label counts; None: too little is known.

    While its share is 0 it is only the age at which labels settle.

    Args:
        delays: (L,) seconds that the newest labels took, the newest first.
        losses: (L,) their losses in [0, 1].
        history: Seconds since the first prediction of all.
        tolerance: Rise of the mean loss that is not worth an alarm.
    """
    took, lost = np.asarray(delays, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if len(took) < AT_RISK:
        return None
    whole = max(float(np.quantile(some, MATURE, method="higher")) for some in (took, took[:SEEN]))
    if history < max(LEAST, min(WARM * whole, whole + LONG)):
        return Ripe(whole, 0.0) if history >= SETTLED * whole else None
    for part in PARTS:
        enough = float(np.quantile(took, part, method="higher"))
        quick = took <= enough
        off = (1.0 - float(quick.mean())) * _apart(lost[quick], lost[~quick])
        if not quick.all() and off <= tolerance / 2:
            return Ripe(enough, 1.0, late=True)
    return Ripe(whole, MATURE)


def _apart(one: Floats, other: Floats) -> float:
    """The 99 % limit of how far two means of losses are apart (Agresti and Caffo 2000).

    Losses between 0 and 1 vary less than errors of the same mean, for which it is made.
    """
    sizes = [len(some) + 2 for some in (one, other)]
    means = [(some.sum() + 1) / size for some, size in zip((one, other), sizes, strict=True)]
    variance = sum(mean * (1 - mean) / size for mean, size in zip(means, sizes, strict=True))
    return float(abs(means[0] - means[1]) + Z * math.sqrt(variance))


def frontiers(full: Ripe | None, age: Ripe | None, now: float) -> list[tuple[float, float]]:
    """Up to which moments labels count now, and with which share of them in: the nearer first.

    Args:
        full: What is complete.
        age: What is old enough.
        now: The present, in seconds.
    """
    found = [] if full is None else [(full.at, full.share)]
    return sorted(found + ([(now - age.at, age.share)] if age and age.share else []))
