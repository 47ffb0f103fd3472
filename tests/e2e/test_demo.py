"""The demo is the loop's own test: each of its acts is checked from outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

LONGEST = 600.0  # seconds; far beyond what it takes, so that only a hang ends it


@pytest.mark.timeout(LONGEST + 60)
def test_the_demo_closes_the_loop(tmp_path: Path) -> None:
    """Trained, served, drifted, retrained, promoted, sabotaged, rolled back, reported."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HOMEOSTAT_")}
    done = subprocess.run(
        [sys.executable, "-m", "homeostat.cli", "demo", "--state-dir", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
        env=environment | {"COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert re.search(r"failed requests\s+│\s+0 ", done.stdout)
    page = Path(re.findall(r"^report +(\S+)$", done.stdout, flags=re.MULTILINE)[0])
    assert "<img" in page.read_text()
    assert page.with_suffix(".png").stat().st_size > 10_000
    assert not (tmp_path / "demo" / "up.json").exists(), "everything was stopped"
