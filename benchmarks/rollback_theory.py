"""What the guard decides, simulated: its delay beside the bound of theory, false alarms, power.

Two versions answer the same rows. Each is wrong at its own rate: independently of the other, which
is the hardest case, or `nested`: the worse one errs where the better one does, and on more rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.losses import LossDetector, LossReference
from monitoring.sequential import GuardDetector

Floats = NDArray[np.float64]
HEALTHY, FALLEN = 0.05, 0.15  # error rates: accuracy 0.95, then 0.85
TOLERANCE = 0.02
BUDGET = 100_000
BUDGETS = (1_000, 10_000, 100_000, 1_000_000)
BEFORE = 5_000  # healthy labels before a late drop
LONGEST = 20_000
PROMISED = 3_000  # labels within which a drop has to be found
DAY = 1_000  # labels of a model-day


def mistakes(draw: np.random.Generator, rates: Floats) -> Floats:
    """(n,) losses of 0 and 1 at the given rates."""
    return (draw.random(len(rates)) < rates).astype(np.float64)


def until_decided(guard: GuardDetector, differences: Floats) -> int | None:
    """Labels until the guard decides; None: it does not."""
    for number, value in enumerate(differences, 1):
        guard.update([value])
        if guard.drift_detected:
            return number
    return None


def delays(budget: int, seeds: int, *, late: bool, nested: bool = False) -> list[int]:
    """Labels from a drop of 0.95 to 0.85 until the rollback, sorted; false alarms left out."""
    found = []
    for seed in range(seeds):
        draw = np.random.default_rng(seed)
        guard = GuardDetector(budget, TOLERANCE)
        if late:
            same = np.full(BEFORE, HEALTHY)
            guard.update(mistakes(draw, same) - mistakes(draw, same))
            if guard.drift_detected:
                continue
        more = mistakes(draw, np.full(LONGEST, FALLEN - HEALTHY if nested else FALLEN))
        standby = mistakes(draw, np.full(LONGEST, 0.0 if nested else HEALTHY))
        labels = until_decided(guard, more - standby)
        found.append(LONGEST if labels is None else labels)
    return sorted(found)


def bound(budget: int, *, nested: bool = False) -> float:
    r"""Labels that no rule can do without in the mean, at so few false alarms, to first order.

    Lorden's :math:`\log N / \mathrm{KL}`, with the divergence of what the differences are after the
    drop from the nearest law with a mean of at most the tolerance, by its dual (Honda and Takemura
    2010): :math:`\max_\lambda E \log(1 + \lambda (d - \epsilon))`. It is that of the worst history:
    with evidence from before the drop, or a head start, a rule may be quicker.
    """
    worse, better = FALLEN * (1 - HEALTHY), HEALTHY * (1 - FALLEN)
    if nested:
        worse, better = FALLEN - HEALTHY, 0.0
    chance = np.array([better, 1 - worse - better, worse])
    values = np.array([-1.0, 0.0, 1.0]) - TOLERANCE
    stakes = np.linspace(0.0, 1.0 / (1.0 + TOLERANCE) - 1e-9, 10_001)
    growth = np.log1p(stakes[:, None] * values) @ chance
    return math.log(budget) / float(growth.max())


@dataclass(frozen=True)
class Quiet:
    """What model-days without a change brought: alarms that were false."""

    days: int
    rollbacks: int
    pages: int


def quiet(days: int, *, seasonal: bool) -> Quiet:
    """False rollbacks and false pages about accuracy in simulated days of `DAY` labels.

    Seasonal: error rates swing by a fifth over each day and by a tenth over each week, and the two
    versions a quarter of a day apart, so that each is the better one for a part of it. A detector
    that alarmed starts afresh.
    """
    draw = np.random.default_rng(7)
    guard = GuardDetector(BUDGET, TOLERANCE)
    losses = LossDetector(LossReference(10_000, 10_000 * HEALTHY), BUDGET, TOLERANCE)
    rollbacks = pages = 0
    hours = np.arange(DAY) / DAY
    for day in range(days):
        champion, standby = np.full(DAY, HEALTHY), np.full(DAY, HEALTHY)
        if seasonal:
            week = 1 + 0.1 * math.sin(2 * math.pi * day / 7)
            champion = HEALTHY * week * (1 + 0.2 * np.sin(2 * math.pi * hours))
            standby = HEALTHY * week * (1 + 0.2 * np.sin(2 * math.pi * (hours + 0.25)))
        ours, theirs = mistakes(draw, champion), mistakes(draw, standby)
        guard.update(ours - theirs)
        losses.update(ours)
        if guard.drift_detected:
            rollbacks += 1
            guard.reset()
        if losses.drift_detected:
            pages += 1
            losses.reset()
    return Quiet(days, rollbacks, pages)


def drops() -> Iterator[tuple[str, Floats]]:
    """Error rates (n,) of a champion after each kind of drop; its standby stays at 0.05."""
    rows = np.arange(LONGEST)
    yield "abrupt", np.full(LONGEST, FALLEN)
    yield "gradual, over 2,000 labels", HEALTHY + (FALLEN - HEALTHY) * np.minimum(rows / 2_000, 1)
    yield "recurring, every other 500", np.where(rows // 500 % 2 == 0, FALLEN, HEALTHY)
    yield "slice, a fifth of rows 0.95 to 0.55", np.where(rows % 5 == 0, 0.45, HEALTHY)


def power(rates: Floats, seeds: int) -> tuple[float, float]:
    """The share of seeds decided within `PROMISED` labels, and the median delay."""
    found = []
    for seed in range(seeds):
        draw = np.random.default_rng(1_000 + seed)
        guard = GuardDetector(BUDGET, TOLERANCE)
        same = np.full(BEFORE, HEALTHY)
        guard.update(mistakes(draw, same) - mistakes(draw, same))
        standby = mistakes(draw, np.full(len(rates), HEALTHY))
        labels = until_decided(guard, mistakes(draw, rates) - standby)
        found.append(len(rates) if labels is None else labels)
    share = float(np.mean([labels <= PROMISED for labels in found]))
    return share, float(np.median(found))
