"""The flows against a real MLflow, a real Prefect server and a real database."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import candidates
from flows.pipeline import pipeline
from flows.report import report
from flows.retrain import retrain
from flows.rollback import rollback
from homeostat.errors import DataError, Refused, UnknownModel
from homeostat.settings import Settings, get_settings
from models import read_dataset
from registry import (
    Incident,
    LabelItem,
    MlflowVersions,
    PredictionRecord,
    connect,
    current_routing,
    find_incident,
    log_predictions,
    parents,
    promote,
    raise_signal,
    record_labels,
    regimes,
    retrain_history,
    retrain_running,
    sessions,
    transaction,
    upgrade,
    verdict_for,
)

DEADLINE = 120.0  # seconds: a busy machine
TABLES = {"epochs": 10, "retrain": {"cool_down_seconds": 0.0}}


class Site:
    """One test's installation: its settings, its database, its MLflow."""

    def __init__(self, settings: Settings, prefect: str) -> None:
        self.settings = settings
        self.prefect = prefect
        self.versions = MlflowVersions(settings.mlflow_address, timeout=30.0)
        self.maker = sessions(connect(settings.database))
        (self.model,) = settings.models

    def aliases(self) -> dict[str, int]:
        return self.versions.aliases(self.model)

    def tags(self, version: int) -> dict[str, str]:
        return self.versions.version_tags(self.model, version)

    def mlflow(self, route: str, **query: str) -> dict[str, Any]:
        address = f"{self.settings.mlflow_address}/api/2.0/mlflow/{route}"
        answer = httpx.get(address, params=query, timeout=30.0, trust_env=False)
        answer.raise_for_status()
        return dict(answer.json())

    def log_digits(self, count: int, slant: float, at: datetime, start: int = 0) -> None:
        """Log answered and labelled digits, their rows pushed sideways by `slant`."""
        digits = read_dataset("builtin:digits", "label")
        chosen = range(start, start + count)
        records = [
            PredictionRecord(
                id=str(uuid.uuid4()),
                model=self.model,
                version=1,
                generation=1,
                arm="champion",
                entity="",
                at=at + timedelta(milliseconds=10 * order),
                row=slanted(digits.rows[index], slant),
                output=np.zeros(10, dtype=np.float32),
                answer={"prediction": 0, "confidence": 1.0},
            )
            for order, index in enumerate(chosen)
        ]
        labels = [
            LabelItem(record.id, digits.labels[index])
            for record, index in zip(records, chosen, strict=True)
        ]
        with transaction(self.maker) as session:
            log_predictions(session, records)
            record_labels(session, labels, at + timedelta(minutes=1))

    def open_incident(self, since: datetime) -> Incident:
        from monitoring import Signal, Triage

        signal = Signal("loss", "loss", 20.0, 11.5, 400, 100, {"since_at": since.isoformat()})
        with transaction(self.maker) as session:
            return raise_signal(
                session, self.model, 1, signal, Triage("page", "retrain", "it fell"), since, ""
            )


def slanted(row: list[float], slant: float) -> list[float]:
    """An 8x8 image with each line pushed sideways, the more the farther from the middle."""
    image = np.zeros((8, 8))
    for line, values in enumerate(np.array(row).reshape(8, 8)):
        shift = round((3.5 - line) * slant)
        for column in range(8):
            if 0 <= column - shift < 8:
                image[line, column] = values[column - shift]
    return [float(value) for value in image.reshape(-1)]


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server on a free port of the loopback: its API's address."""
    folder = tmp_path_factory.mktemp("prefect")
    port = free_port()
    quiet = {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    address = f"http://127.0.0.1:{port}/api"
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=log, stderr=log, env=os.environ | quiet
        )
        try:
            wait_for(lambda: _answers(f"{address}/health"), "Prefect's server")
            yield address
        finally:
            stop(process)


@pytest.fixture
def site(
    mlflow_url: str,
    prefect_api: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Site]:
    """An installation of this test alone, with a model that no other test has."""
    model = f"digits-{uuid.uuid4().hex[:8]}"
    policy = TABLES | getattr(request, "param", {})
    environment = {
        "HOMEOSTAT_STATE_DIR": str(tmp_path / "state"),
        "HOMEOSTAT_MLFLOW_URL": mlflow_url,
        "HOMEOSTAT_PREFECT_URL": prefect_api,
        "HOMEOSTAT_MODELS": json.dumps({model: policy}),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    settings = get_settings()
    upgrade(settings.database)
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        yield Site(settings, prefect_api)
    get_settings.cache_clear()


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
    files = site.mlflow("artifacts/list", run_id=version.run_id)["files"]
    assert {item["path"] for item in files} == {
        "model",
        "replay",
        "model_card.md",
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
    answer = httpx.post(f"{site.prefect}/artifacts/filter", json=query, timeout=30.0)
    shown = {item["key"]: item for item in answer.json()}
    gates = json.loads(shown[f"gates-{site.model}"]["data"])
    assert gates[0]["gate"] == "accuracy"
    assert gates[0]["passed"] == "yes"
    assert "/versions/1" in shown[f"version-{site.model}"]["data"]


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
        patched.setattr("flows.runs.Runs._upload", killed)
        with pytest.raises(Refused):
            pipeline(site.model)

    pipeline(site.model)

    experiment = site.mlflow("experiments/get-by-name", experiment_name=site.model)["experiment"]
    answer = httpx.post(
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


def test_fine_tuning_forgets_and_is_refused_while_replay_keeps_and_is_tried(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline(site.model)
    changed = datetime(2026, 11, 1, 12, tzinfo=UTC)
    site.log_digits(400, 0.0, changed - timedelta(hours=1))
    site.log_digits(400, 0.7, changed, start=700)
    incident = site.open_incident(changed)
    use_strategy(site, monkeypatch, "fine-tune")

    forgetful = retrain(site.model, incident.id, "first")

    assert not forgetful["passed"]
    assert forgetful["place"] == "rejected"
    assert "regime-0" in forgetful["reason"]
    assert site.aliases() == {"champion": 1}
    assert site.tags(2)["lifecycle.state"] == "rejected"

    use_strategy(site, monkeypatch, "replay")
    answer = retrain(site.model, incident.id, "second")

    assert answer["passed"], answer["reason"]
    assert site.aliases() == {"champion": 1, "challenger": 3}
    with transaction(site.maker) as session:
        (edge,) = parents(session, answer["digest"])
        history = retrain_history(session, site.model)
        told = find_incident(session, incident.id)
        numbers = [(item.number, item.incident_id) for item in regimes(session, site.model)]
    assert edge.kind == "continual_of"
    assert edge.parent == site.versions.digest(site.model, 1)
    assert edge.recipe["rows"] == 400
    assert [item.outcome.split(":")[0] for item in history] == ["rejected", "challenger"]
    assert all(item.ended_at is not None for item in history)
    assert told is not None
    assert "challenger: version 3" in told.events[-1].text
    assert numbers == [(0, ""), (1, incident.id)]


def test_a_retrain_tells_its_run_what_it_came_from_and_what_it_cost(site: Site) -> None:
    pipeline(site.model)
    changed = datetime(2026, 11, 1, 12, tzinfo=UTC)
    site.log_digits(400, 0.7, changed)

    answer = retrain(site.model)

    run = site.mlflow("runs/get", run_id=answer["run_id"])["run"]
    params = {item["key"]: item["value"] for item in run["data"]["params"]}
    metrics = {item["key"]: item["value"] for item in run["data"]["metrics"]}
    tags = {item["key"]: item["value"] for item in run["data"]["tags"]}
    assert tags["mlflow.parentRunId"] == site.versions.version(site.model, 1).run_id
    assert params["parent_version"] == "1"
    assert params["rows"] == "300"  # without an incident: the policy's newest rows
    assert params["rows_to"] == (changed + timedelta(milliseconds=3990)).isoformat()
    assert metrics["gain"] > 0.2
    assert metrics["forgetting"] < 0.03
    assert metrics["regime_1_accuracy"] > metrics["regime_1_champion_accuracy"]


def test_a_version_made_by_a_retrain_is_the_parent_of_the_next(site: Site) -> None:
    pipeline(site.model)
    changed = datetime(2026, 11, 1, 12, tzinfo=UTC)
    site.log_digits(400, 0.7, changed)
    second = retrain(site.model)
    with transaction(site.maker) as session:
        promote(session, site.model, 2, actor="test", reason="it won", evidence={}, now=changed)
    site.log_digits(400, -0.7, changed + timedelta(hours=1), start=400)

    third = retrain(site.model)

    with transaction(site.maker) as session:
        (edge,) = parents(session, third["digest"])
        verdict = verdict_for(session, site.model, third["version"])
    assert edge.parent == second["digest"]
    assert verdict is not None
    gates = [gate.name for gate in verdict.figures]
    assert gates == ["accuracy", "newest-regime", "regime-0", "regime-1"]

    fresh = pipeline(site.model, key="afresh")  # it learns the memory of all regimes too

    with transaction(site.maker) as session:
        verdict = verdict_for(session, site.model, fresh["version"])
    assert verdict is not None
    assert [gate.name for gate in verdict.figures] == ["accuracy", "newest-regime", "regime-0"]


def test_a_retrain_without_rows_fails_and_frees_the_lock(site: Site) -> None:
    pipeline(site.model)

    with pytest.raises(DataError, match="0 labelled rows"):
        retrain(site.model, key="hopeless")

    with transaction(site.maker) as session:
        assert retrain_running(session, site.model) is None
        (ended,) = retrain_history(session, site.model)
    assert ended.outcome.startswith("failed: The log has 0 labelled rows")
    with pytest.raises(Refused, match="this request has ended"):
        retrain(site.model, key="hopeless")


def test_a_rollback_moves_routing_aliases_and_tags_together(site: Site) -> None:
    pipeline(site.model)
    pipeline(site.model, key="second")
    with transaction(site.maker) as session:
        promote(session, site.model, 2, actor="t", reason="won", evidence={}, now=datetime.now(UTC))

    answer = rollback(site.model, "It answers nonsense.")

    assert (answer["champion"], answer["withdrawn"]) == (1, 2)
    assert site.aliases() == {"champion": 1}
    assert site.tags(2)["lifecycle.state"] == "rolled_back"
    assert site.tags(2)["lifecycle.reason"] == "It answers nonsense."
    assert site.tags(1)["lifecycle.state"] == "serving"
    with pytest.raises(Refused, match="no standby"):
        rollback(site.model, "Once more.")


def test_a_report_is_written_and_kept_in_mlflow(site: Site) -> None:
    pipeline(site.model)
    site.log_digits(300, 0.0, datetime.now(UTC) - timedelta(hours=2))
    site.log_digits(100, 0.7, datetime.now(UTC) - timedelta(hours=1), start=400)

    answer = report(site.model, hours=3.0)

    assert Path(answer["page"]).read_text().startswith("<!")
    assert Path(answer["picture"]).read_bytes().startswith(b"\x89PNG")
    assert "400" in Path(answer["drift"]).read_text()[:200_000]
    kept = site.mlflow("artifacts/list", run_id=answer["run_id"], path="report")["files"]
    assert sorted(item["path"] for item in kept) == [
        "report/drift.html",
        "report/timeline.html",
        "report/timeline.png",
    ]


@pytest.mark.parametrize("site", [{"schedule": "0 3 * * *"}], indirect=True)
def test_served_flows_run_by_module_path_on_their_schedule_and_tell_typed_errors(
    site: Site, tmp_path: Path
) -> None:
    with served(tmp_path):
        wait_for(lambda: deployment(site, "report") is not None, "the deployments")
        found = deployment(site, "pipeline")
        assert found is not None
        assert found["entrypoint"] == "flows.pipeline.pipeline"
        (schedule,) = found["schedules"]
        assert schedule["parameters"] == {"model": site.model}
        assert schedule["schedule"]["cron"] == "0 3 * * *"

        done = start(site, "pipeline", {"model": site.model})
        wrong = start(site, "rollback", {"model": "nobody", "reason": "none"})
        wait_for(lambda: state(site, done) == "COMPLETED", "the pipeline")
        wait_for(lambda: state(site, wrong) == "FAILED", "the refusal")

        assert site.aliases() == {"champion": 1}
        assert "UnknownModel: There is no model 'nobody' here" in message(site, wrong)
        second = subprocess.run([sys.executable, "-m", "flows"], capture_output=True, text=True)
        assert "Another process serves the flows" in second.stderr


@pytest.mark.parametrize(
    "site",
    [{"retrain": {"cool_down_seconds": 0.0, "epochs": 1_000_000, "seconds": 120.0}}],
    indirect=True,
)
def test_a_killed_retrain_frees_its_lock_and_one_whose_runner_died_goes_on(
    site: Site, tmp_path: Path
) -> None:
    pipeline(site.model)
    site.log_digits(300, 0.7, datetime(2026, 11, 1, tzinfo=UTC))
    with served(tmp_path) as runner:
        wait_for(lambda: deployment(site, "report") is not None, "the deployments")
        first = start(site, "retrain", {"model": site.model, "key": "first"})
        wait_for(lambda: running_by(site) == first, "the first retrain")
        kill(flow_processes(runner))
        wait_for(lambda: state(site, first) == "CRASHED", "the crash")
        wait_for(lambda: running_by(site) == "", "the lock")

        second = start(site, "retrain", {"model": site.model, "key": "second"})
        wait_for(lambda: running_by(site) == second, "the second retrain")
        kill([runner, *flow_processes(runner)])
    assert state(site, second) == "RUNNING"

    with served(tmp_path) as runner:
        wait_for(lambda: len(flow_processes(runner)) == 1, "the second retrain, again")
        wait_for(lambda: int(flow_run(site, second)["run_count"]) == 2, "its second start")
        assert running_by(site) == second


@contextmanager
def served(folder: Path) -> Iterator[psutil.Process]:
    """`python -m flows`, started in another folder than the checkout."""
    with (folder / "flows.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows"], cwd=folder, stdout=log, stderr=log
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            stop(process)


def flow_processes(runner: psutil.Process) -> list[psutil.Process]:
    return [
        child
        for child in runner.children(recursive=True)
        if "prefect.engine" in " ".join(child.cmdline())
    ]


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=10)


def deployment(site: Site, name: str) -> dict[str, Any] | None:
    answer = httpx.get(f"{site.prefect}/deployments/name/{name}/{name}", timeout=30.0)
    return dict(answer.json()) if answer.is_success else None


def start(site: Site, name: str, parameters: dict[str, str]) -> str:
    found = deployment(site, name)
    assert found is not None
    address = f"{site.prefect}/deployments/{found['id']}/create_flow_run"
    body = {"parameters": parameters, "idempotency_key": uuid.uuid4().hex}
    answers: list[httpx.Response] = []

    def asked() -> bool:  # a busy server answers 503 while its own database is locked
        answers.append(httpx.post(address, json=body, timeout=30.0))
        return answers[-1].status_code != 503

    wait_for(asked, "an answer to the request")
    answers[-1].raise_for_status()
    return str(answers[-1].json()["id"])


def flow_run(site: Site, flow_run_id: str) -> dict[str, Any]:
    return dict(httpx.get(f"{site.prefect}/flow_runs/{flow_run_id}", timeout=30.0).json())


def state(site: Site, flow_run_id: str) -> str:
    return str(flow_run(site, flow_run_id)["state_type"])


def message(site: Site, flow_run_id: str) -> str:
    return str(flow_run(site, flow_run_id)["state"]["message"])


def running_by(site: Site) -> str:
    """The flow run that holds the model's retrain; empty where nobody does."""
    with transaction(site.maker) as session:
        running = retrain_running(session, site.model)
    return running.flow_run_id if running is not None else ""


def use_strategy(site: Site, monkeypatch: pytest.MonkeyPatch, strategy: str) -> None:
    rules = {"cool_down_seconds": 0.0, "strategy": strategy}
    monkeypatch.setenv("HOMEOSTAT_MODELS", json.dumps({site.model: TABLES | {"retrain": rules}}))
    get_settings.cache_clear()


def never(*_: object) -> None:
    raise AssertionError("This was done before.")


def killed(*_: object) -> None:
    raise Refused("Killed here.")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {DEADLINE} s"
        time.sleep(0.1)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours and what it started."""
    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    _, alive = psutil.wait_procs(family, timeout=5)
    for child in alive:
        child.kill()


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=2.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False
