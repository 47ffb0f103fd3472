"""An explanation in words, a line a finding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime

from monitoring.cells import ERROR_RATE as CELL_RATE
from monitoring.cells import Cell
from monitoring.estimates import LEVEL, Estimate
from monitoring.explaining import ERROR_RATE, Shift
from monitoring.open_set import OpenSet
from registry.explanations import Explanation, Look, SignalNote

SHOWN = 8  # columns that are told; the JSON has every one
_SUBJECTS = {
    "input-drift": "the inputs",
    "loss": "the loss",
    "worse-than-standby": "the loss beside the standby",
}
_COUNTED = {"input-drift": "predictions", "loss": "labels", "worse-than-standby": "labels"}


def in_words(explanation: Explanation) -> list[str]:
    """What happened, at what evidence, what moved and since when."""
    incident = explanation.incident
    over = f", resolved {_when(incident.resolved_at)}" if incident.resolved_at else ""
    lines = [
        incident.title,
        f"Opened {_when(incident.opened_at)}{over}; {incident.state}, {incident.severity}.",
    ]
    if reason := str(incident.details.get("reason", "")):
        lines.append(reason)
    looks = {look.kind: look for look in explanation.looks}
    for signal in explanation.signals:
        lines.append(_evidence(signal))
        if look := looks.pop(signal.kind, None):
            lines += _found(look, signal)
    return lines


def _evidence(signal: SignalNote) -> str:
    if signal.kind not in _COUNTED:
        return f"{signal.detector}, {_when(signal.at)}: no test, a fact: {_reason(signal)}"
    budget, counted = math.exp(signal.threshold), _COUNTED[signal.kind]
    return (
        f"{signal.detector}, {_when(signal.at)}: evidence {_power(signal.evidence)} where "
        f"{_power(signal.threshold)} alarms. Were nothing changed, that would take "
        f"{budget:,.0f} {counted} or more in the mean."
    )


def _reason(signal: SignalNote) -> str:
    return str(signal.details.get("reason", "see the incident's story."))


def _found(look: Look, signal: SignalNote) -> Iterator[str]:
    subject = _SUBJECTS[look.kind]
    if look.trouble:
        yield f"The rows behind it could not be looked at: {look.trouble}"
        yield from _noted(signal)
        return
    inputs = look.kind == "input-drift"
    kind = "answers" if inputs else "labelled answers"
    sample = f"a random sample of {look.rows:,} of" if inputs else f"{look.rows:,} of about"
    part = "all" if look.rows == look.total else sample
    yield f"Looked at {part} {look.total:,} {kind}, {_when(look.start)} to {_when(look.end)}."
    named = [shift for shift in look.shifts if shift.named]
    for shift in named[:SHOWN]:
        yield _moved(shift)
    if len(named) > SHOWN:
        yield f"And {len(named) - SHOWN} columns more, less clearly."
    if not named:
        yield f"No change of {subject} is clear in these rows by itself."
        yield from _noted(signal)
    elif len(look.shifts) > 1:
        yield (
            f"Each of {len(look.shifts)} columns was looked at; the chance to name any of them "
            f"without a change is about {ERROR_RATE:.0%} in all."
        )
    if look.estimate is not None:
        yield _estimated(look.estimate)
    if look.open_set is not None and look.open_set.low > 0.0:
        yield _strange(look.open_set)
    if look.cells is not None:
        yield from _grown(look.cells)


def _estimated(one: Estimate) -> str:
    """What the rows since the change are likely to lose, marked as an estimate."""
    if one.loss is None:
        return f"  Mean loss since then, without labels: cannot be estimated. {one.trouble}"
    wrong = f"; in '{one.column}' confidence misleads, and was corrected" if one.column else ""
    return (
        f"  Mean loss since then, estimated without labels from {one.rows:,} rows: {one.loss:.3f} "
        f"({one.low:.3f} to {one.high:.3f}, {LEVEL:.0%}{wrong}). It sees no change of the concept."
    )


def _strange(one: OpenSet) -> str:
    """Where rows of no known class are likely, how many, marked as an estimate."""
    return (
        f"  Rows of no class that the version knows, estimated without labels: {one.share:.1%} or "
        f"more ({one.low:.1%} to {one.high:.1%}), if the known ones are as sure as before."
    )


def _grown(cells: Sequence[Cell]) -> Iterator[str]:
    """Where the loss grew more than elsewhere."""
    shown = [cell for cell in cells if cell.shown]
    for cell in shown:
        before, after = cell.elsewhere
        how = "found by search" if cell.found else "named in the settings"
        yield (
            f"  It grew most where {cell.name}: {cell.before:.3f} -> {cell.after:.3f} "
            f"({cell.rows_after:,} rows since), elsewhere {before:.3f} -> {after:.3f} "
            f"({how}; p {cell.p:.1g})."
        )
    if shown:
        yield (
            f"  The chance to show any such part of the rows where there is none is at most "
            f"{CELL_RATE:.0%}, the search included."
        )
    else:
        yield "  No part of the rows, of one column or two, is shown to have lost more than others."


def _moved(shift: Shift) -> str:
    if shift.mean is not None:
        before, after = shift.mean
        said = f"from {before:.3f} to {after:.3f} in the mean"
    else:
        said = ", ".join(
            f"{_bin(one.name)} {one.before:.0%} -> {one.after:.0%}" for one in shift.moved
        )
        said = said or "many bins by a little"
        said += f" (total variation {shift.total_variation:.2f})"
    since = ", against the profile: all of these rows differ"
    if shift.since is not None:
        at, low, high = (shift.since.at, shift.since.low, shift.since.high)
        since = (
            f", since {_when(at)} (between {_when(low)} and {_when(high)}, "
            f"{shift.since.level:.0%} confidence; {shift.rows_after:,} rows since)"
        )
    return f"  {shift.name}: {said}{since}."


def _noted(signal: SignalNote) -> Iterator[str]:
    """What the detector itself noted of the columns when it alarmed."""
    for one in signal.details.get("features", []):
        if isinstance(one, dict) and float(one.get("evidence", 0.0)) > 0.0:
            yield (
                f"  {one['name']}: {_bin(str(one['moved']))} {one['before']:.0%} -> "
                f"{one['after']:.0%} (total variation {one['total_variation']:.2f}, evidence "
                f"{_power(float(one['evidence']))}), as noted at the alarm."
            )
    yield f"  The detector dates it to about {_when(signal.since_at)}, without an interval."


def _bin(name: str) -> str:
    return f"'{name}'"


def _power(log_value: float) -> str:
    """An e-value whose logarithm may be in the hundreds."""
    return f"10^{log_value / math.log(10):.1f}"


def _when(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else ""
