"""The slices gate: no part of the data may pay for what the whole gained.

A slice is some of the held-out rows of the regime that the candidate learnt: the rows of one
class, or those that a column's value or cut points pick out. Each has a budget: how much worse
than the champion the candidate may be there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostat.policy import SlicePolicy
from monitoring import holm, p_at_least
from registry.gate_evidence import Evidence, Losses
from registry.verdicts import GateFigure

SHOWN = 12  # names that a reason lists; `details` has all of them


@dataclass(frozen=True)
class Slice:
    """Rows of one kind: (n,) of them marked, and how much may be lost on them."""

    name: str
    rows: NDArray[np.bool_]
    budget: float


@dataclass(frozen=True)
class _Judged:
    name: str
    rows: int
    lost: float
    budget: float
    p: float  # of "it lost its budget or less"; 1 where there are too few rows


def slices(evidence: Evidence) -> GateFigure | None:
    """No slice is shown to be worse than the champion by more than its budget.

    Each is tested by the exact paired test at its budget, all together by Holm's (1979) method:
    a candidate that keeps every budget is refused no more often than the policy's error rate. The
    figure and the bound are those of the slice that stands out most.
    """
    champion = evidence.champion
    if champion is None or evidence.regime not in champion.losses:
        return None
    differences = evidence.candidate.losses[evidence.regime] - champion.losses[evidence.regime]
    least = evidence.policy.slice_rows
    judged = [_judged(each, differences, least) for each in find_slices(evidence)]
    if not judged:
        return None
    enough = [each for each in judged if each.rows >= least]
    verdicts = holm([each.p for each in enough], evidence.policy.error_rate)
    refused = {each.name for each, worse in zip(enough, verdicts, strict=True) if worse}
    details = {
        each.name: {
            "rows": each.rows,
            "lost": each.lost,
            "budget": each.budget,
            "p": each.p,
            "outcome": _outcome(each, least, refused),
        }
        for each in judged
    }
    worst = min(enough or judged, key=lambda each: (each.p, each.budget - each.lost))
    reason = _reason(evidence, judged, refused)
    return GateFigure("slices", worst.lost, worst.budget, not refused, reason, details)


def find_slices(evidence: Evidence) -> Iterator[Slice]:
    """Every slice of the policy, and of a classification every class."""
    policy = evidence.policy
    if evidence.task == "classification" and policy.class_budget < 1.0:
        truths = [_text(label) for label in evidence.labels]
        for name in sorted(set(truths)):
            yield Slice(f"class {name}", _equal(truths, name), policy.class_budget)
    if evidence.rows:
        yield from named_slices(policy.slices, evidence.rows)


def named_slices(rules: Mapping[str, SlicePolicy], rows: Sequence[object]) -> Iterator[Slice]:
    """Every slice of rows that a policy's columns cut."""
    for column, rule in rules.items():
        yield from _by_column(column, rule, [_cell(row, column) for row in rows])


def _by_column(column: str, rule: SlicePolicy, cells: Sequence[object]) -> Iterator[Slice]:
    if rule.values:
        texts = [_text(cell) for cell in cells]
        for value in rule.values:
            yield Slice(f"{column} = {value}", _equal(texts, value), rule.budget)
        return
    numbers = np.array([_number(cell) for cell in cells], dtype=np.float64)
    ends = (-np.inf, *rule.cuts, np.inf)
    for low, high in pairwise(ends):
        name = f"{column} from {low:g}" if low > -np.inf else column
        name += f" below {high:g}" if high < np.inf else ""
        yield Slice(name, (numbers >= low) & (numbers < high), rule.budget)


def _judged(one: Slice, differences: Losses, least: int) -> _Judged:
    ours = differences[one.rows]
    lost = float(ours.mean()) if len(ours) else 0.0
    p = p_at_least(-ours, -one.budget) if len(ours) >= least and one.budget < 1.0 else 1.0
    return _Judged(one.name, len(ours), lost, one.budget, p)


def _outcome(one: _Judged, least: int, refused: set[str]) -> str:
    if one.rows < least:
        return "too few rows"
    return "beyond its budget" if one.name in refused else "within its budget"


def _reason(evidence: Evidence, judged: Sequence[_Judged], refused: set[str]) -> str:
    least, rate = evidence.policy.slice_rows, evidence.policy.error_rate
    few = [f"{each.name} ({each.rows})" for each in judged if each.rows < least]
    beyond = [
        f"{each.name} lost {each.lost:+.3f} of {each.rows} rows (budget {each.budget:.3f})"
        for each in judged
        if each.name in refused
    ]
    count = len(judged) - len(few)
    parts = [
        f"Shown to lose more than the budget: {_some(beyond)}."
        if beyond
        else f"None of {count} slices is shown to lose more than its budget."
    ]
    parts.append(f"Error rate {rate:g} over all of them.")
    if few:
        parts.append(f"Too few rows to judge (fewer than {least}): {_some(few)}.")
    return " ".join(parts)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _equal(texts: Sequence[str], wanted: str) -> NDArray[np.bool_]:
    return np.array([text == wanted for text in texts], dtype=np.bool_)


def _cell(row: object, column: str) -> object:
    """The value of a named column, or of a list's place; None where there is none."""
    if isinstance(row, Mapping):
        return row.get(column)
    if isinstance(row, Sequence) and column.isdecimal() and int(column) < len(row):
        cell: object = row[int(column)]
        return cell
    return None


def _number(cell: Any) -> float:  # noqa: ANN401 - a cell of a row, whatever it holds
    return float(cell) if isinstance(cell, int | float) else np.nan


def _text(cell: object) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell, sort_keys=True)
