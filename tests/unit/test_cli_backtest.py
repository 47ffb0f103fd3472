from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from homeostat.cli import app
from homeostat.errors import DataError

TOML = '[models.points]\nlearner = "table"\nlabel = "side"\nepochs = 2\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "homeostat.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_backtest_prints_a_line_for_each_rule_and_writes_nothing(folder: Path) -> None:
    draw = np.random.default_rng(1).normal(size=(600, 2))
    rows = pd.DataFrame(draw, columns=["a", "b"])
    rows.assign(side=np.where(rows["a"] > 0, "up", "down")).to_parquet(folder / "s.parquet")
    words = ["backtest", "points", "s.parquet", "--warmup", "200", "--calendar", "150", "--json"]

    done = CliRunner().invoke(app, words, catch_exceptions=False)

    said = json.loads(done.stdout)
    assert (said["rows"], said["warmup"]) == (600, 200)
    rules = {line["rule"]: line for line in said["rules"]}
    assert {"homeostat", "never", "every 150"} <= set(rules)
    assert rules["every 150"]["retrains"] == [350, 500]
    assert rules["never"]["retrains"] == []
    assert {path.name for path in folder.iterdir()} == {"homeostat.toml", "s.parquet"}


def test_a_file_that_is_no_stream_is_named(folder: Path) -> None:
    (folder / "s.parquet").write_text("no parquet")

    for name, message in (("none.csv", "There is no file"), ("s.parquet", "cannot be read")):
        with pytest.raises(DataError, match=message):
            CliRunner().invoke(app, ["backtest", "points", name], catch_exceptions=False)
