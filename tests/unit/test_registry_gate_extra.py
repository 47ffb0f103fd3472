"""Users' gates: found by entry point or path, and never able to stop a flow."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from homeostat.policy import GatePolicy
from registry import Contender, Evidence, GateFigure, Verdict, judge

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
OWN = """
import math
import sys
from registry import GateFigure

def even(evidence):
    wrong = int(evidence.candidate.losses[evidence.newest].sum())
    return GateFigure("even", wrong, 0, wrong % 2 == 0, f"{wrong} rows wrong.", {"wrong": wrong})

def several(evidence):
    return [GateFigure("one", 1, 1, True, ""), GateFigure("two", 2, 1, False, "Two is more.")]

def absent(evidence): return None
def raises(evidence): raise KeyError("no such column")
def leaves(evidence): sys.exit(3)
def says_text(evidence): return "passed"
def says_yes(evidence): return GateFigure("yes", 1, 1, "yes", "")
def says_nan(evidence): return GateFigure("nan", math.nan, 1, True, "")
def takes_a_name(evidence): return GateFigure("accuracy", 1, 1, True, "")
def twice(evidence): return [GateFigure("same", 1, 1, True, "")] * 2
def no_json(evidence): return GateFigure("set", 1, 1, True, "", {"a": {1, 2}})
def without_end(evidence):
    n = 0
    while True:
        n += 1
        yield GateFigure(f"g{n}", 1, 1, True, "")
def changes(evidence):
    evidence.candidate.losses.clear()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path with a module of gates."""
    (tmp_path / "own_gates.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_gates", raising=False)
    return tmp_path


def told(*extra: str, wrong: int = 4) -> Verdict:
    losses = (np.arange(100) < wrong).astype(np.float64)
    candidate = Contender("a" * 64, {0: losses})
    return judge(Evidence(candidate, None, GatePolicy(extra=extra), None), NOON)


def figure(verdict: Verdict, name: str) -> GateFigure:
    return next(each for each in verdict.figures if each.name == name)


@pytest.mark.usefixtures("own")
def test_a_gate_of_the_policy_decides_with_the_others() -> None:
    verdict = told("own_gates:even")
    assert verdict.passed
    assert figure(verdict, "even").details == {"wrong": 4}
    refused = told("own_gates:even", wrong=5)
    assert refused.reason == "even: 5 rows wrong."
    assert refused.policy["extra"] == ["own_gates:even"]


def test_a_gate_of_an_installed_package_is_asked_of_every_model(own: Path) -> None:
    info = own / "own_gates-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-gates\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[homeostat.gates]\neven = own_gates:even\n")
    assert not told(wrong=3).passed
    assert told(wrong=2).passed


@pytest.mark.usefixtures("own")
def test_a_gate_may_give_several_figures_or_none() -> None:
    verdict = told("own_gates:several", "own_gates:absent")
    assert [each.name for each in verdict.figures] == ["accuracy", "one", "two"]
    assert verdict.reason == "two: Two is more."


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("own_gates:raises", "KeyError: 'no such column'"),
        ("own_gates:leaves", "SystemExit: 3"),
        ("own_gates:says_text", "'passed', which is no GateFigure"),
        ("own_gates:says_yes", "must say passed True or False, not 'yes'"),
        ("own_gates:says_nan", "finite numbers"),
        ("own_gates:takes_a_name", "There is a figure 'accuracy' already"),
        ("own_gates:twice", "There is a figure 'same' already"),
        ("own_gates:no_json", "no JSON"),
        ("own_gates:without_end", "more than 100 figures"),
        ("own_gates:nowhere", "AttributeError"),
        ("no_such_module:gate", "ModuleNotFoundError"),
        ("no path at all", "ModuleNotFoundError"),
        ("", "ValueError"),
    ],
)
def test_a_gate_that_fails_refuses_the_candidate_and_says_why(name: str, says: str) -> None:
    verdict = told(name)
    assert not verdict.passed
    failed = figure(verdict, name or "?")
    assert not failed.passed
    assert says in failed.reason
    assert "Mend it, or take it out." in failed.reason
    assert Verdict.from_json(verdict.to_json()) == verdict


@pytest.mark.usefixtures("own")
def test_a_gate_cannot_change_what_the_others_are_given() -> None:
    verdict = told("own_gates:changes", "own_gates:even")
    assert not verdict.passed
    assert "AttributeError" in figure(verdict, "own_gates:changes").reason
    assert figure(verdict, "even").passed
