"""The pipeline on a real MLflow, a real Prefect server and a real database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows import candidates
from flows.pipeline import pipeline
from homeostat.errors import DataError, Refused, UnknownModel
from registry import (
    current_routing,
    regimes,
    transaction,
    verdict_for,
)
from tests.asking import ask

if TYPE_CHECKING:
    from tests.integration.flows.conftest import Site


def test_the_pipeline_makes_a_judged_champion_that_mlflow_shows(site: Site) -> None:
    answer = pipeline(site.model)

    assert answer["version"] == 1
    assert answer["passed"]
    assert answer["place"] == "champion"
    assert site.aliases() == {"champion": 1}
    version = site.versions.version(site.model, 1)
    assert version.tags["lifecycle.state"] == "serving"
    assert version.tags["homeostat.digest"] == answer["digest"]
    assert len(version.tags["homeostat.work_key"]) == 32
    assert "passed every gate" in version.description
    run = site.mlflow("runs/get", run_id=version.run_id)["run"]
    assert run["info"]["status"] == "FINISHED"
    metrics = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    assert metrics["accuracy"] == pytest.approx(answer["accuracy"])
    assert metrics["accuracy"] > 0.95
    assert 0 < metrics["latency_p50_ms"] <= metrics["latency_p99_ms"]
    assert min(metrics["throughput_rows_s"], metrics["size_bytes"]) > 0
    assert metrics["memory_mb"] >= 0
    assert version.tags["lifecycle.verdict"] == "passed"
    assert version.tags["gate.golden"] == "passed: 1 (bound 1)"
    files = site.mlflow("artifacts/list", run_id=version.run_id)["files"]
    assert {item["path"] for item in files} == {
        "model",
        "replay",
        "bom.cdx.json",
        "lineage.json",
        "model_card.md",
        "rows.json",
        "summary.json",
        "verdict.json",
    }
    with transaction(site.maker) as session:
        routing = current_routing(session, site.model)
        verdict = verdict_for(session, site.model, 1)
        assert [regime.number for regime in regimes(session, site.model)] == [0]
    assert routing is not None
    assert (routing.champion, routing.phase, routing.generation) == (1, "steady", 1)
    assert verdict is not None
    assert verdict.passed
    assert verdict.digest == answer["digest"]


def test_the_pipeline_shows_its_gates_and_its_version_in_prefect(site: Site) -> None:
    pipeline(site.model)

    query = {"artifacts": {"key": {"like_": site.model}}}
    answer = ask("POST", f"{site.prefect}/artifacts/filter", json=query, timeout=30.0)
    shown = {item["key"]: item for item in answer.json()}
    gates = json.loads(shown[f"gates-{site.model}"]["data"])
    assert gates[0]["gate"] == "accuracy"
    assert gates[0]["passed"] == "yes"
    assert "/versions/1" in shown[f"version-{site.model}"]["data"]
    assert f"/page/models/{site.model}" in shown[f"model-{site.model}"]["data"]


def test_the_pipeline_run_twice_makes_one_version_and_trains_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pipeline(site.model, key="monday")
    monkeypatch.setattr("flows.learning.train_afresh", never)

    again = pipeline(site.model, key="monday")

    assert again == first
    assert [item.version for item in site.versions.list_versions(site.model)] == [1]
    with transaction(site.maker) as session:
        routing = current_routing(session, site.model)
    assert routing is not None
    assert routing.generation == 1


def test_another_key_makes_another_version_which_has_to_earn_its_traffic(site: Site) -> None:
    pipeline(site.model)

    answer = pipeline(site.model, key="again")

    assert answer["version"] == 2
    assert answer["place"] == "challenger"
    assert site.aliases() == {"champion": 1, "challenger": 2}
    assert site.tags(2)["lifecycle.state"] == "shadow"


@pytest.mark.parametrize("site", [{"mode": "recommend"}], indirect=True)
def test_where_the_policy_only_recommends_a_passing_version_waits_for_a_person(site: Site) -> None:
    pipeline(site.model)

    assert pipeline(site.model, key="again")["place"] == "candidate"
    assert site.aliases() == {"champion": 1}


@pytest.mark.parametrize("step", ["register_candidate", "settle"])
def test_a_pipeline_killed_in_a_late_step_resumes_without_training_or_a_second_version(
    site: Site, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """What is thrown is no error that a task retries, as a kill is none."""
    with monkeypatch.context() as patched:
        patched.setattr(candidates, step, killed)
        with pytest.raises(Refused):
            pipeline(site.model)
    assert site.aliases() == {}
    monkeypatch.setattr("flows.learning.train_afresh", never)

    answer = pipeline(site.model)

    assert answer["place"] == "champion"
    assert [item.version for item in site.versions.list_versions(site.model)] == [1]
    assert site.aliases() == {"champion": 1}


def test_a_pipeline_killed_while_it_logged_its_run_leaves_that_run_killed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("registry.mlflow_api.MlflowApi.upload", killed)
        with pytest.raises(Refused):
            pipeline(site.model)

    pipeline(site.model)

    experiment = site.mlflow("experiments/get-by-name", experiment_name=site.model)["experiment"]
    answer = ask(
        "POST",
        f"{site.settings.mlflow_address}/api/2.0/mlflow/runs/search",
        json={"experiment_ids": [experiment["experiment_id"]]},
        timeout=30.0,
    )
    states = [run["info"]["status"] for run in answer.json()["runs"]]
    assert sorted(states) == ["FINISHED", "KILLED"]
    assert [item.version for item in site.versions.list_versions(site.model)] == [1]


@pytest.mark.parametrize("site", [{"gates": {"min_accuracy": 1.0}}], indirect=True)
def test_a_refused_first_version_is_kept_with_its_reason_and_answers_nothing(site: Site) -> None:
    answer = pipeline(site.model)

    assert not answer["passed"]
    assert answer["place"] == "rejected"
    assert site.aliases() == {}
    assert site.tags(1)["lifecycle.state"] == "rejected"
    assert "less than 1.000" in site.tags(1)["lifecycle.reason"]
    with transaction(site.maker) as session:
        assert current_routing(session, site.model) is None


def test_an_unknown_model_fails_the_flow_with_the_typed_error(site: Site) -> None:
    with pytest.raises(UnknownModel, match="known: " + site.model):
        pipeline("nobody")


def test_data_without_the_label_column_fails_the_flow_at_once(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n3,4\n")

    with pytest.raises(DataError, match="no column 'label'"):
        pipeline(site.model, data=str(path))


def never(*_: object) -> None:
    raise AssertionError("This was done before.")


def killed(*_: object) -> None:
    raise Refused("Killed here.")
