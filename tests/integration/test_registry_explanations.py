"""`homeostat explain`: what moved behind an incident, told from the database and the disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from sqlalchemy.orm import Session, sessionmaker
from typer.testing import CliRunner
from uuid6 import uuid7

from homeostat.cli import app
from homeostat.errors import InputError
from monitoring import InputDetector, LossDetector, LossReference, read_signal, triage
from monitoring.profile import Profile
from monitoring.signals import Signal
from registry import (
    LabelItem,
    PredictionRecord,
    connect,
    log_predictions,
    raise_signal,
    record_labels,
    record_losses,
    sessions,
)
from registry.blocks import Arm, Columns, to_blocks
from registry.log import log_blocks
from registry.samples import sample_within

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TURN = 400  # seconds after noon from which pixel_0_1 is brighter


@dataclass
class Scene:
    """A served version with its log, and a maker of sessions on it."""

    maker: sessionmaker[Session]
    state: Path

    def explain(self, incident: str, *more: str) -> str:
        said = CliRunner().invoke(app, ["explain", incident, *more])
        assert said.exit_code == 0, said.output
        return said.output


@pytest.fixture
def scene(station: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Version 1 of `digits` has answered a row a second for ten minutes; no server is up."""
    made = station()
    made.serve(1, NOON)  # type: ignore[attr-defined] # a station of conftest.py
    state = made.settings.state_dir  # type: ignore[attr-defined] # likewise
    monkeypatch.chdir(state)
    monkeypatch.setenv("HOMEOSTAT_STATE_DIR", str(state))
    monkeypatch.setenv("HOMEOSTAT_MLFLOW_URL", "http://127.0.0.1:9")
    maker = sessions(connect(f"sqlite:///{state / 'lifecycle.db'}"))
    with maker.begin() as session:
        log_blocks(session, to_blocks((Arm("digits", 1, 1, "champion"), one) for one in answers()))
    return Scene(maker, state)


def answers() -> list[Columns]:
    """What was answered: pixels as the profile of `conftest.py` has them, until one changes."""
    rng = np.random.default_rng(3)
    found = []
    for second in range(600):
        pixels = np.array([[(int(rng.integers(200)) * k) % 17 for k in range(64)]], dtype="<f4")
        if second >= TURN:
            pixels[0, 1] = 16.0
        moment = NOON + SECOND * second
        stamp = int(moment.timestamp() * 1000).to_bytes(6)
        found.append(
            Columns(
                at=int(moment.timestamp()) * 1_000_000,
                ids=stamp + b"\x70\x00\x80" + rng.bytes(7),
                entities=[],
                columns=64,
                exact=False,
                rows=pixels.tobytes(),
                width=10,
                outputs=np.full((1, 10), 0.1, dtype="<f4").tobytes(),
                answers=b'{"prediction":0}',
                shadows=[],
            )
        )
    return found


def drift(scene: Scene, version: int = 1) -> str:
    """The id of an incident whose detector saw the pixel change."""
    folder = next(path for path in (scene.state / "versions").glob("*") if len(path.name) == 64)
    profile = Profile.from_json((folder / "profile.json").read_bytes())
    detector = InputDetector(profile, 100_000, 0.1)
    rows = np.full((160, 64), 8.0)
    detector.update(rows, np.zeros(160), np.ones(160))
    assert detector.drift_detected
    signal = read_signal("input-drift", detector, since_at=(NOON + SECOND * 390).isoformat())
    with scene.maker.begin() as session:
        at = NOON + SECOND * 520
        return raise_signal(session, "digits", version, signal, triage(signal), at, "").id


def test_drift_is_explained_by_its_column_bins_and_time(scene: Scene) -> None:
    incident = drift(scene)
    picture = scene.state / "made" / "why.png"
    said = scene.explain(incident, "--picture", str(picture))
    assert "alarms. Were nothing changed, that would take 100,000 predictions or more" in said
    line = next(line for line in said.splitlines() if "pixel_0_1:" in line)
    assert "'15.5 and above'" in line
    assert "-> 100%" in line
    assert "95% confidence" in line
    assert "Mean loss since then, " in said
    pixels = imread(picture)
    assert pixels.shape[1] == 1920
    assert 0.05 < (pixels[..., :3].min(axis=2) < 0.9).mean() < 0.5  # neither empty nor a blot

    document = json.loads(scene.explain(incident, "--json"))
    (look,) = document["looks"]
    first = look["shifts"][0]
    assert first["name"] == "pixel_0_1"
    low, high = (datetime.fromisoformat(first["since"][end]) for end in ("low", "high"))
    assert low <= NOON + SECOND * TURN <= high
    assert high - low <= SECOND * 20


def test_a_version_that_cannot_be_loaded_leaves_what_the_detector_noted(scene: Scene) -> None:
    incident = drift(scene)
    shutil.rmtree(scene.state / "versions")
    said = scene.explain(incident)
    assert "The rows behind it could not be looked at" in said
    assert "as noted at the alarm" in said


def test_a_loss_is_explained_by_its_means(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    bright = np.arange(600) % 2  # of pixel_0_0
    risk = np.where(np.arange(600) < TURN, 0.1, np.where(bright, 1.0, 0.2))
    losses = (rng.random(600) < risk).astype(float)
    detector = LossDetector(LossReference(2_000, 200.0), 100_000, 0.02)
    detector.update(losses[:520])
    assert detector.drift_detected
    with scene.maker.begin() as session:
        incident = raise_losses(session, losses, detector)
    said = scene.explain(incident)
    line = next(line for line in said.splitlines() if line.startswith("  loss: from"))
    before, after = (float(line.split()[place]) for place in (2, 4))
    assert before == pytest.approx(0.1, abs=0.06)
    assert after == pytest.approx(0.6, abs=0.1)
    assert "It grew most where pixel_0_0 " in said
    assert "the search included" in said
    looked = json.loads(scene.explain(incident, "--json"))["looks"][0]
    assert looked["shifts"][0]["mean"] == pytest.approx([before, after], abs=0.001)
    monkeypatch.setattr("registry.explanations.ROWS", 250)
    said = scene.explain(incident)
    assert "Looked at 200 of about 600 labelled answers" in said, said
    assert "  loss: from" in said


def raise_losses(session: Session, losses: np.ndarray, detector: LossDetector) -> str:
    """Log a row a second again with its label and loss, and open the incident."""
    records = [
        PredictionRecord(
            id=str(uuid7()),
            model="digits",
            version=1,
            generation=1,
            arm="champion",
            entity="",
            at=NOON + SECOND * second,
            row=[16.0 * (second % 2), *[0.0] * 63],
            output=np.full(10, 0.1, dtype=np.float32),
            answer={"prediction": 0},
        )
        for second in range(600)
    ]
    log_predictions(session, records)
    record_labels(session, [LabelItem(one.id, 1) for one in records], NOON + SECOND * 600)
    record_losses(
        session,
        [
            (one.id, 1, loss, NOON + SECOND * 600)
            for one, loss in zip(records, losses.tolist(), strict=True)
        ],
    )
    signal = read_signal("loss", detector, since_at=(NOON + SECOND * 400).isoformat())
    return raise_signal(session, "digits", 1, signal, triage(signal), NOON + SECOND * 520, "").id


def test_what_is_no_test_is_told_as_a_fact(scene: Scene) -> None:
    signal = Signal("hard-failure", "errors", 1.0, 1.0, 3, 3, {"reason": "It fails."})
    with scene.maker.begin() as session:
        incident = raise_signal(session, "digits", 1, signal, triage(signal), NOON, "").id
    assert "no test, a fact: It fails." in scene.explain(incident)


def test_an_unknown_incident_is_refused(scene: Scene) -> None:  # noqa: ARG001 - it sets the scene
    said = CliRunner().invoke(app, ["explain", str(uuid7())])
    assert isinstance(said.exception, InputError)


def test_a_large_window_is_sampled_and_says_so(scene: Scene) -> None:
    with scene.maker.begin() as session:
        window = ("digits", NOON, NOON + SECOND * 500)
        whole, part = sample_within(session, *window, 500), sample_within(session, *window, 100)
        assert (len(whole.rows), whole.total, whole.whole) == (500, 500, True)
        assert (len(part.rows), part.total, part.whole) == (100, 500, False)
        assert [one.id for one in part.rows] == sorted(one.id for one in part.rows)
        assert sample_within(session, *window, 100, version=2).total == 0
