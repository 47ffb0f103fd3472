"""Versions made again from their lineage, on a real MLflow, Prefect server and database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from sqlalchemy import delete, select

from flows.pipeline import pipeline
from flows.reproduce import Reproduction, reproduce
from flows.retrain import retrain
from flows.site import open_site
from homeostat.errors import Refused, UnknownVersion
from registry import transaction
from registry.lineage_records import ancestry
from registry.tables import LabelRow

if TYPE_CHECKING:
    from tests.integration.flows.conftest import Site

CHANGED = datetime(2026, 11, 1, 12, tzinfo=UTC)


def made_again(site: Site, version: int, folder: Path) -> Reproduction:
    with open_site(site.settings) as opened:
        return reproduce(opened, site.model, version, folder / str(version))


def lose_labels(site: Site, count: int) -> None:
    with transaction(site.maker) as session:
        gone = select(LabelRow.id).order_by(LabelRow.id).limit(count)
        session.execute(delete(LabelRow).where(LabelRow.id.in_(gone)))


def test_pipeline_and_retrain_are_made_again_bit_for_bit_from_their_lineage(
    site: Site, tmp_path: Path
) -> None:
    first = pipeline(site.model)
    site.log_digits(400, 0.7, CHANGED, start=700)
    incident = site.open_incident(CHANGED)
    second = retrain(site.model, incident.id, "the-request")
    site.log_digits(50, 0.7, CHANGED + timedelta(seconds=1))  # labels that came since

    made = [made_again(site, version, tmp_path) for version in (1, 2)]

    assert [each.made for each in made] == [first["digest"], second["digest"]]
    assert [(each.same, each.differences) for each in made] == [(True, ()), (True, ())]
    with transaction(site.maker) as session:
        newest, oldest = ancestry(session, site.model, 2)
    assert [str(newest.number), str(oldest.number)] == ["1.0.1", "1.0.0"]
    assert newest.record.parent is not None
    assert newest.record.parent.digest == first["digest"] == oldest.digest
    assert newest.record.data.rows == 400
    assert newest.record.data.begins == CHANGED.isoformat()
    assert newest.record.environment.threads == 1
    assert site.tags(2)["homeostat.semver"] == "1.0.1"
    assert site.aliases()["champion"] == 1
    assert len(site.versions.list_versions(site.model)) == 2

    lose_labels(site, 3)
    without = made_again(site, 2, tmp_path / "without")

    assert not without.same
    assert without.made == ""  # data that is not what it was is not trained on
    (difference,) = without.differences
    assert difference.what == "data"
    assert difference.then.startswith("400 rows")
    assert difference.now.startswith("397 rows")


def test_other_libraries_and_other_bytes_are_named_and_no_other_learner_is_imported(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline(site.model)
    with monkeypatch.context() as patched:
        patched.setattr("flows.provenance._version", lambda name: f"{name} of another day")
        patched.setattr("flows.learning.GOLDEN_FILE", "other.json")
        made = made_again(site, 1, tmp_path)

    assert not made.same
    assert made.files == ("golden.json", "other.json")
    told = {each.what: each.now for each in made.differences}
    assert told["library torch"] == "torch of another day"
    assert "threads" not in told

    monkeypatch.setattr("flows.reproduce.known_learners", dict)
    other = site.settings.policy(site.model).model_copy(update={"learner": "table"})
    site.settings.models[site.model] = other
    with pytest.raises(Refused, match="not allowed here"):
        made_again(site, 1, tmp_path)


def test_a_version_without_lineage_cannot_be_made_again(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UnknownVersion, match="No lineage"):
        made_again(site, 1, tmp_path)


class Killed(BaseException):
    """No error that anything mends, as a kill is none."""


def test_a_retrain_killed_in_its_training_is_gone_on_with_and_makes_the_same_version(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline(site.model)
    site.log_digits(400, 0.7, CHANGED, start=700)
    incident = site.open_incident(CHANGED)
    trainings = site.settings.state_dir / "trainings"
    with monkeypatch.context() as patched:
        patched.setattr("models.checkpoint.EVERY", 0.0)
        steps, usual = iter(range(1, 100)), torch.optim.AdamW.step

        def step(optimiser: torch.optim.AdamW) -> None:
            usual(optimiser)
            if next(steps) == 31:
                raise Killed

        patched.setattr("torch.optim.AdamW.step", step)
        with pytest.raises(Killed):
            retrain(site.model, incident.id, "first")
    assert len(list(trainings.iterdir())) == 1
    site.log_digits(50, 0.7, CHANGED + timedelta(seconds=9))  # labels that came since

    answer = retrain(site.model, incident.id, "second")

    run = site.mlflow("runs/get", run_id=answer["run_id"])["run"]["data"]
    params = {item["key"]: item["value"] for item in run["params"]}
    metrics = {item["key"]: item["value"] for item in run["metrics"]}
    assert (params["resumed_at_step"], params["rows"]) == ("30", "400")
    assert made_again(site, 2, tmp_path).same
    assert list(trainings.iterdir()) == []
    assert metrics["train_rows_read"] > 2 * 10 * 270  # half of each step is replayed
    assert metrics["full_share"] == pytest.approx(metrics["train_steps"] / (10 * 48), rel=0.1)


def test_a_training_that_was_killed_does_not_go_on_with_rows_whose_labels_are_gone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline(site.model)
    site.log_digits(100, 0.7, CHANGED, start=700)
    incident = site.open_incident(CHANGED)
    with monkeypatch.context() as patched:
        patched.setattr("flows.learning.retrain", killed)
        with pytest.raises(Killed):
            retrain(site.model, incident.id, "first")
    lose_labels(site, 3)

    answer = retrain(site.model, incident.id, "second")

    run = site.mlflow("runs/get", run_id=answer["run_id"])["run"]["data"]
    params = {item["key"]: item["value"] for item in run["params"]}
    assert (params["resumed_at_step"], params["rows"]) == ("0", "97")


def killed(*_: object) -> None:
    raise Killed
