"""Gates that users bring: installed packages' entry points, and `gates.extra` of a policy.

They are not ours and may do anything: a gate that cannot be imported, raises, or answers with
something that is no figure refuses the candidate and says so; the flow goes on.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from registry.gate_evidence import Evidence
from registry.json_text import canonical
from registry.verdicts import GateFigure

GROUP = "homeostat.gates"
MAX_TEXT = 2_000  # characters of a reason
MAX_NAME = 100
MAX_FIGURES = 100  # of one gate

Answer = GateFigure | Sequence[GateFigure] | None
Gate = Callable[[Evidence], Answer]

logger = logging.getLogger(__name__)


class _NoFigure(Exception):
    """What a gate answered cannot be shown."""


def ask_extra(evidence: Evidence, taken: Sequence[str]) -> list[GateFigure]:
    """What the users' gates say of a candidate.

    Args:
        evidence: As every gate is given it.
        taken: Names of figures that are given already.
    """
    figures: list[GateFigure] = []
    for name, path in references(evidence.policy.extra).items():
        known = {*taken, *(figure.name for figure in figures)}
        figures += _ask(name, path, evidence, known)
    return figures


def references(extra: Sequence[str]) -> Mapping[str, str]:
    """The users' gates by name, each with its `module:function`: installed, then the policy's."""
    found = {point.name: point.value for point in entry_points(group=GROUP)}
    return dict(sorted(found.items())) | {path: path for path in extra if path not in found}


def _ask(name: str, path: str, evidence: Evidence, taken: set[str]) -> list[GateFigure]:
    try:
        answer: Any = _find(path)(evidence)
        several = isinstance(answer, Iterable) and not isinstance(answer, str)
        figures = answer if several else [] if answer is None else [answer]
        checked: list[GateFigure] = []
        for figure in figures:
            checked.append(_checked(figure, {*taken, *(each.name for each in checked)}))
            if len(checked) > MAX_FIGURES:
                raise _NoFigure(f"It gave more than {MAX_FIGURES} figures.")
        return checked
    except _NoFigure as error:
        return [_failed(name, str(error))]
    except (Exception, SystemExit) as error:
        logger.warning("the gate %s failed", name, exc_info=True)
        return [_failed(name, f"It failed with {type(error).__name__}: {error}")]


def _find(path: str) -> Gate:
    module, _, function = path.partition(":")
    found: Gate = getattr(importlib.import_module(module), function)
    return found


def _checked(figure: object, taken: set[str]) -> GateFigure:
    """The figure, if it is one: nothing that somebody else's code answers is believed."""
    if not isinstance(figure, GateFigure):
        raise _NoFigure(f"It answered {str(figure)[:100]!r}, which is no GateFigure.")
    given: dict[str, Any] = vars(figure)
    name, numbers, reason = given["name"], (given["figure"], given["bound"]), given["reason"]
    if not (isinstance(name, str) and 0 < len(name) <= MAX_NAME):
        raise _NoFigure(f"A figure's name must have 1 to {MAX_NAME} characters.")
    if name in taken:
        raise _NoFigure(f"There is a figure '{name}' already.")
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in numbers):
        raise _NoFigure(f"The figure and the bound of '{name}' must be finite numbers.")
    if not isinstance(given["passed"], bool | np.bool_):
        raise _NoFigure(f"'{name}' must say passed True or False, not {given['passed']!r}.")
    if not (isinstance(reason, str) and len(reason) <= MAX_TEXT):
        raise _NoFigure(f"The reason of '{name}' must be text of at most {MAX_TEXT} characters.")
    try:
        details = json.loads(canonical(dict(given["details"])))
    except (TypeError, ValueError) as error:
        raise _NoFigure(f"The details of '{name}' are no JSON: {error}.") from error
    return GateFigure(
        name, float(numbers[0]), float(numbers[1]), bool(given["passed"]), reason, details
    )


def _failed(name: str, fault: str) -> GateFigure:
    return GateFigure(
        name[:MAX_NAME] or "?",
        0.0,
        1.0,
        False,
        f"The gate could not judge. {' '.join(fault.split())[:MAX_TEXT]} Mend it, or take it out.",
    )
