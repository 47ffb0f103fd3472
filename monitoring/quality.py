r"""How good alerts are: how many were about something, how soon they came, how often they wake.

What an incident was worth, nobody knows at once. It is *real* or a *false alarm* by what a person
said of it, else by its verdict once labels are in (`real-loss` and `data-break`; `harmless-drift`),
else by whether anybody took it on. What none of these tells is not counted in the precision

.. math:: \mathrm{precision} = \frac{\mathrm{real}}{\mathrm{real} + \mathrm{false}},

whose interval is Clopper and Pearson's (1934), 95 %: exact, so wide where little is known.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Worth = Literal["real", "false alarm", "unknown"]
EVERY = "all"  # the line of all detectors together

_BY_VERDICT: dict[str, Worth] = {
    "real-loss": "real",
    "data-break": "real",
    "harmless-drift": "false alarm",
}


@dataclass(frozen=True)
class Told:
    """One incident as one detector had part in it.

    Args:
        incident: Its id.
        detector: Whose signal it has.
        severity: `page` or `ticket`.
        opened_at: When it was opened.
        seen_at: When the detector's first signal came.
        changed_at: When what it is about began, by that signal's estimate; None: not known.
        acknowledged_at: When somebody took it on; None: nobody did.
        worth: What it was worth.
    """

    incident: str
    detector: str
    severity: str
    opened_at: datetime
    seen_at: datetime
    changed_at: datetime | None
    acknowledged_at: datetime | None
    worth: Worth


@dataclass(frozen=True)
class Quality:
    """The alerts of one detector; of `all` each incident counts once.

    Seconds are medians; None where there is nothing to tell it by.
    """

    detector: str
    incidents: int
    pages: int
    pages_a_week: float
    real: int
    false_alarms: int
    unknown: int
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    acknowledged: int
    detect_seconds: float | None
    acknowledge_seconds: float | None


def worth_of(judged: str, verdict: str, *, taken_on: bool) -> Worth:
    """What an incident was worth.

    Args:
        judged: What a person said: `real`, `false alarm` or nothing.
        verdict: As `monitoring.verdicts` has it.
        taken_on: Whether somebody acknowledged it, or something was done about it.
    """
    if judged in ("real", "false alarm"):
        return "real" if judged == "real" else "false alarm"
    if verdict in _BY_VERDICT:
        return _BY_VERDICT[verdict]
    return "real" if taken_on and verdict == "operational" else "unknown"


def quality(told: Sequence[Told], days: float) -> list[Quality]:
    """The quality of the alerts by detector, by name, and of all together.

    Args:
        told: What was told in a stretch of time.
        days: How long that is, more than 0.
    """
    names = sorted({one.detector for one in told})
    found = [_line(name, [one for one in told if one.detector == name], days) for name in names]
    first: dict[str, Told] = {}
    for one in sorted(told, key=lambda each: each.seen_at):
        first.setdefault(one.incident, one)
    return [*found, _line(EVERY, list(first.values()), days)]


def _line(name: str, told: Sequence[Told], days: float) -> Quality:
    worths = [one.worth for one in told]
    real, false = worths.count("real"), worths.count("false alarm")
    pages = sum(one.severity == "page" for one in told)
    low, high = _interval(real, real + false)
    return Quality(
        detector=name,
        incidents=len(told),
        pages=pages,
        pages_a_week=pages * 7 / days,
        real=real,
        false_alarms=false,
        unknown=worths.count("unknown"),
        precision=real / (real + false) if real + false else None,
        precision_low=low,
        precision_high=high,
        acknowledged=sum(one.acknowledged_at is not None for one in told),
        detect_seconds=_median(
            (one.seen_at - one.changed_at).total_seconds() for one in told if one.changed_at
        ),
        acknowledge_seconds=_median(
            (one.acknowledged_at - one.opened_at).total_seconds()
            for one in told
            if one.acknowledged_at
        ),
    )


def _median(values: Iterable[float]) -> float | None:
    found = [max(0.0, value) for value in values]
    return statistics.median(found) if found else None


def _interval(successes: int, trials: int) -> tuple[float | None, float | None]:
    if not trials:
        return None, None
    from scipy.stats import binomtest  # here: only who asks pays for it

    limits: Any = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    return float(limits.low), float(limits.high)
