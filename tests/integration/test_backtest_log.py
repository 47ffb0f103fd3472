"""The prediction log as a stream to replay, and what a trial has cost, by the same log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner
from uuid6 import uuid7

from homeostat.cli import app
from homeostat.clock import utc_now
from homeostat.errors import DataError
from registry import (
    LabelItem,
    PredictionRecord,
    connect,
    log_predictions,
    record_labels,
    record_losses,
    sessions,
    transaction,
)
from registry.regret import regret_of

BEGUN = utc_now() - timedelta(days=2)
SECOND = timedelta(seconds=1)
TOML = """database_url = "sqlite:///{}"
[models.points]
learner = "table"
epochs = 2
retrain = {{epochs = 2}}
"""


def fill(session: Session, versions: Sequence[int], losses: Sequence[dict[int, float]]) -> None:
    """Points a second apart, answered by these versions, labelled by the hundred 100 s later."""
    draw = np.random.default_rng(4).normal(size=(len(versions), 2)).round(4)
    records = [
        PredictionRecord(
            id=str(uuid7()),
            model="points",
            version=version,
            generation=1,
            arm="champion",
            entity="",
            at=BEGUN + SECOND * number,
            row={"a": float(point[0]), "b": float(point[1])},
            output=np.zeros(2, dtype=np.float32),
            answer={"prediction": "up", "confidence": 0.5},
        )
        for number, (version, point) in enumerate(zip(versions, draw, strict=True))
    ]
    log_predictions(session, records)
    sides = ["up" if a > 0 else "down" for a in draw[:, 0]]
    for start in range(0, len(records), 100):
        part, late = records[start : start + 100], BEGUN + SECOND * (start + 200)
        items = zip(part, sides[start:], strict=False)
        record_labels(session, [LabelItem(one.id, side, "t") for one, side in items], late)
        lost = zip(part, losses[start:], strict=False)
        record_losses(
            session, [(one.id, v, loss, late) for one, of in lost for v, loss in of.items()]
        )


@pytest.fixture
def folder(migrated_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation whose log has 800 labelled points: version 2 answers from the 500th on."""
    place = tmp_path / "lifecycle.db"
    shutil.copy(migrated_sqlite, place)
    (tmp_path / "homeostat.toml").write_text(TOML.format(place))
    versions = [1] * 500 + [2] * 300
    with transaction(sessions(connect(f"sqlite:///{place}"))) as session:
        fill(session, versions, [{version: version - 1.0} for version in versions])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["backtest", "points", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_log_is_replayed_beside_what_was_answered(folder: Path) -> None:
    said = json.loads(run("--json", "--page", "curves.html"))
    assert (said["rows"], said["warmup"], said["rows_per_day"]) == (800, 200, 86_508)
    assert 190 <= said["delay"] <= 200  # 95 % of labels took no longer, as gateways wait for them
    rules = {line["rule"]: line for line in said["rules"]}
    assert rules["as it was"]["accuracy"] == 0.5
    assert rules["as it was"]["retrains"] == [500]
    assert rules["homeostat"]["accuracy"] > 0.6
    page = (folder / "curves.html").read_text()
    assert "as it was" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.usefixtures("folder")
def test_a_log_of_too_few_labels_says_how_many_and_what_to_do() -> None:
    with pytest.raises(DataError, match=r"has 0 labelled predictions .* a backtest takes 400"):
        run("--days", "0.5")


def test_a_stated_delay_is_how_long_labels_of_the_log_wait(folder: Path) -> None:
    with (folder / "homeostat.toml").open("a") as file:
        file.write("monitor = {label_delay_seconds = 20}\n")
    assert json.loads(run("--json"))["delay"] == 20


def test_regret_counts_rows_that_both_versions_answered(session: Session) -> None:
    given = [3] * 20 + [4] * 10
    both = [{3: 0.0, 4: 1.0}] * 15 + [{3: 1.0, 4: 0.0}] * 5 + [{3: 0.0, 4: 1.0}] * 10
    fill(session, given, both)
    found = regret_of(session, "points", 3, 4, BEGUN)
    assert (found.rows, found.given, found.champion, found.challenger) == (30, 15.0, 5.0, 25.0)
    assert (found.total, found.even) == (10.0, 10.0)
    assert regret_of(session, "points", 3, 4, BEGUN + 29 * SECOND).rows == 1
