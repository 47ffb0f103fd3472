r"""How much of a canary's traffic each version gets: Thompson sampling on the trial's posterior.

Both versions answer every row, seen or unseen, so each labelled row tells of both, and the
posterior of the mean difference of losses needs no exploring to grow: the share decides who is
seen, never what is learnt. So the trial's anytime-valid test is as valid as at a fixed share, and
alone ends the trial.

Thompson sampling gives a row to the challenger with the probability, by the posterior, that it is
the better one (Thompson 1933). A row's place in [0, 1) is the hash of its entity, so an entity
changes its version only when the share passes its place, which is as sticky as a moving share can
be: of all entities the part that changes is the part by which the share moved.
"""

from __future__ import annotations

import math
from statistics import NormalDist

LEAST = 0.05  # of the traffic either version keeps: each goes on being seen
STEP = 0.05  # a smaller move of the share is not worth a line of the ledger
GROWTH = 2.0  # the challenger's share grows by this at most at once: no load comes as a shock


def chance_better(n: int, total: float, squares: float) -> float:
    r"""The posterior probability that the mean difference of losses is below 0.

    The posterior is that of a mean under a Dirichlet process whose prior is one row, half of it a
    loss, half of it a win (Ferguson 1973; the Bayesian bootstrap of Rubin 1981 with that row
    added), taken as normal:

    .. math:: \mu = \frac{\sum d}{n + 1}, \qquad
        \sigma^2 = \frac{(\sum d^2 + 1) / (n + 1) - \mu^2}{n + 2}.

    Args:
        n: Rows.
        total: Sum of loss(challenger) - loss(champion), each in [-1, 1].
        squares: Sum of their squares.

    Example:
        >>> chance_better(0, 0.0, 0.0)
        0.5
        >>> chance_better(100, -10.0, 10.0) > 0.99
        True
    """
    mean = total / (n + 1)
    spread = math.sqrt(max((squares + 1.0) / (n + 1) - mean * mean, 1e-12) / (n + 2))
    return NormalDist().cdf(-mean / spread)


def next_share(share: float, better: float) -> float:
    """The challenger's share that follows on a share, in [0, 1]; the same where it is near enough.

    Args:
        share: As it is.
        better: The probability that the challenger is the better one.
    """
    wanted = min(max(better, LEAST), 1.0 - LEAST)
    reached = min(wanted, GROWTH * share) if share > 0.0 else wanted
    return reached if abs(reached - share) >= STEP else share
