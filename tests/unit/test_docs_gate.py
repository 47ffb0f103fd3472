"""The gate that docs/registry.md shows is one that works."""

from __future__ import annotations

import importlib
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from homeostat.policy import GatePolicy
from registry import Contender, Evidence, judge

PAGE = Path(__file__).parents[2] / "docs" / "registry.md"
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
ROWS = [{"member": n % 2 == 0} for n in range(40)]


@pytest.mark.parametrize("unfair", [True, False])
def test_the_documented_gate_judges_by_its_own_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unfair: bool
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (source,) = [block for block in blocks if "def fair" in block]
    (tmp_path / "fair.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    losses = np.array([float(unfair and row["member"] and n < 8) for n, row in enumerate(ROWS)])
    policy = GatePolicy(extra=("fair:fair",))
    verdict = judge(Evidence(Contender("a" * 64, {0: losses}), None, policy, None, rows=ROWS), NOON)
    (figure,) = [each for each in verdict.figures if each.name == "fair"]
    assert figure.figure == pytest.approx(0.2 if unfair else 0.0)
    assert figure.passed is not unfair
    assert verdict.passed is not unfair
