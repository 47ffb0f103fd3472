"""The demo is the loop's own test: each of its acts is checked from outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

LONGEST = 1500.0  # seconds; ten times what it takes alone, so that only a hang ends it


@pytest.mark.timeout(LONGEST + 60)
def test_the_demo_closes_the_loop(tmp_path: Path) -> None:
    """Trained, served, drifted, retrained, promoted, sabotaged, rolled back, reported."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HOMEOSTAT_")}
    said = tmp_path / "said.txt"
    with said.open("w") as out:
        demo = subprocess.Popen(
            [sys.executable, "-m", "homeostat.cli", "demo", "--state-dir", str(tmp_path / "demo")],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment | {"COLUMNS": "200"},
        )
        try:
            ended = demo.wait(LONGEST)
        except subprocess.TimeoutExpired:
            demo.terminate()  # it stops what it started
            ended = demo.wait(60)
    story = said.read_text()
    assert ended == 0, story[-6000:]
    assert re.search(r"failed requests\s+│\s+0 ", story)
    page = Path(re.findall(r"^report +(\S+)$", story, flags=re.MULTILINE)[0])
    assert "<img" in page.read_text()
    assert page.with_suffix(".png").stat().st_size > 10_000
    assert not (tmp_path / "demo" / "up.json").exists(), "everything was stopped"
