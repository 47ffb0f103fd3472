"""p-values that hold at every number of rows, for losses of two versions on the same rows.

One question: how surprising would these differences be, if their mean were `delta` or more?
Nothing is assumed of them but that rows come independently and losses lie in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from monitoring.evidence import Floats

MOST_EXACT = 20_000  # rows: beyond, the normal approximation is as good and far cheaper
_DOUBT = 1e-4  # of the p-value, spent on not knowing how often a row is won
_POINTS = 30  # of the grid over what is not known of that
_SPREAD = 6.5  # standard deviations: what is further out is less than _TAIL
_TAIL = 1e-9
_NOTHING = -40.0  # logarithm of a chance: so many such outcomes together are less than _TAIL
_BETS = 0.6 ** np.arange(8)  # shares of the largest stake

Counts = NDArray[np.int64]


def p_at_least(differences: Floats, delta: float) -> float:
    """The p-value of "the mean difference is `delta` or more"; small: it is less.

    Args:
        differences: (n,) of losses, each in [-1, 1]; n may not be 0.
        delta: In (-1, 1).
    """
    counts = lost_and_won(differences)
    if counts is None:
        return _p_of_bets(differences, delta)
    n, (lost, won) = len(differences), counts
    if n > MOST_EXACT:
        return NormalDist().cdf(float(score(n, np.array([lost]), np.array([won]), delta)[0]))
    return _p_of_counts(n, lost, won, delta)


def lost_and_won(differences: Floats) -> tuple[int, int] | None:
    """How many rows were lost and won, where every difference is -1, 0 or 1; else None."""
    if not (np.rint(differences) == differences).all():
        return None
    return int((differences > 0).sum()), int((differences < 0).sum())


def score(n: int, lost: Counts, won: Counts, delta: float) -> Floats:
    r"""Tango's (1998) score of "the mean difference is `delta`", for counts of 0/1 losses.

    .. math:: z = (b - c - n\delta) / \sqrt{n V}

    with b rows lost, c rows won, and V the variance of one difference, fitted with its mean held
    at delta. At delta = 0 its square is McNemar's (1947) statistic.
    """
    slope = -lost - won + (2 * n - lost + won) * delta
    root = np.sqrt(np.maximum(slope * slope + 8 * n * won * delta * (1 - delta), 0.0))
    variance = (root - slope) / (2 * n) + delta * (1 - delta)
    excess = lost - won - n * delta
    found: Floats = excess / np.sqrt(n * np.maximum(variance, 1e-12))
    return np.where(np.abs(excess) < 1e-12 * n, 0.0, found)


@lru_cache(maxsize=4096)  # slices of one size meet the same few counts again and again
def _p_of_counts(n: int, lost: int, won: int, delta: float) -> float:
    """Exact and unconditional (Suissa and Shuster 1991, Berger and Boos 1994).

    What is at least as extreme by the score is summed over all outcomes, for each chance of a
    row won that the rows do not rule out; the largest sum counts, and their doubt is added.
    """
    chances = _chances_of_winning(n, won, delta)
    if not len(chances):
        return _DOUBT
    losing = np.maximum(chances + delta, 0.0)
    b, c = _likely(n, losing)[:, None], _likely(n, chances)[None, :]
    rest = n - b - c
    seen = float(score(n, np.array([lost]), np.array([won]), delta)[0])
    extreme = (rest >= 0) & (score(n, b, c, delta) <= seen + 1e-9)
    b, c = np.broadcast_to(b, rest.shape)[extreme], np.broadcast_to(c, rest.shape)[extreme]
    rest = rest[extreme]
    ways = _log_factorials(n)
    ways = ways[n] - ways[b] - ways[c] - ways[rest]
    sums = []
    for p, q in zip(losing.tolist(), chances.tolist(), strict=True):
        mass = ways + _times(b, p) + _times(c, q) + _times(rest, 1.0 - p - q)
        sums.append(float(np.exp(mass[mass > _NOTHING]).sum()))
    return min(1.0, max(sums) + _DOUBT + _TAIL)


def _p_of_bets(differences: Floats, delta: float) -> float:
    """From the wealth of bets that are fair where the mean is `delta` (Waudby-Smith, Ramdas 2024).

    A mean of such wealths has an expectation of at most 1, so (Markov) 1 / wealth is a p-value.
    """
    gains = delta - differences
    stakes = _BETS / (1.0 - delta) * (1.0 - 1e-9)  # the largest that cannot lose more than it has
    wealth = np.log1p(stakes[:, None] * gains[None, :]).sum(axis=1)
    top = float(wealth.max())
    log_mean = top + math.log(float(np.exp(wealth - top).mean()))
    return math.exp(min(0.0, -log_mean))


def _chances_of_winning(n: int, won: int, delta: float) -> Floats:
    """A grid over the chances of a row won that the counts do not rule out (Chernoff's bound)."""
    limit = math.log(2.0 / _DOUBT) / n
    low = _end(won / n, 0.0, limit)
    high = min(_end(won / n, 1.0, limit), (1.0 - delta) / 2.0)
    return np.linspace(low, high, _POINTS) if low <= high else np.zeros(0)


def _end(seen: float, outside: float, limit: float) -> float:
    """Where, between `seen` and `outside`, the divergence from `seen` reaches `limit`."""
    inside = seen
    if _divergence(seen, outside) <= limit:
        return outside
    for _ in range(50):
        middle = (inside + outside) / 2.0
        inside, outside = (
            (middle, outside) if _divergence(seen, middle) <= limit else (inside, middle)
        )
    return outside


def _divergence(seen: float, chance: float) -> float:
    """Kullback and Leibler's, of two coins."""
    found = 0.0
    for share, other in ((seen, chance), (1.0 - seen, 1.0 - chance)):
        if share > 0.0:
            found += share * math.log(share / other) if other > 0.0 else math.inf
    return found


def _likely(n: int, chances: Floats) -> Counts:
    """The counts of n that can come up at one of these chances, but for less than the tail."""
    spread = _SPREAD * np.sqrt(n * chances * (1.0 - chances)) + 30.0
    low = max(0, math.floor(float((n * chances - spread).min())))
    high = min(n, math.ceil(float((n * chances + spread).max())))
    return np.arange(low, high + 1)


def _log_factorials(n: int) -> Floats:
    logs: Floats = np.log(np.arange(1, n + 1, dtype=np.float64))
    return np.concatenate([np.zeros(1), np.cumsum(logs)])


def _times(counts: Counts, chance: float) -> Floats:
    """Counts * log(chance), where 0 * log(0) is 0."""
    if chance <= 0.0:
        return np.where(counts == 0, 0.0, -np.inf)
    return counts.astype(np.float64) * math.log(chance)


def holm(p_values: Sequence[float], error_rate: float) -> list[bool]:
    """Which of several hypotheses are refused, with one error rate over all of them (Holm 1979).

    However many of them hold and however they depend on one another, the chance that any true one
    is refused is at most `error_rate`.

    Example:
        >>> holm([0.001, 0.03, 0.04], 0.05)
        [True, False, False]
    """
    refused = [False] * len(p_values)
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        if p_values[index] > error_rate / (len(p_values) - rank):
            break
        refused[index] = True
    return refused
