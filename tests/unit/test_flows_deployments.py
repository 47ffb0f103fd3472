from __future__ import annotations

import os
from typing import Any

import pytest
from prefect.client.schemas.objects import State, StateType, TaskRun
from prefect.schedules import Schedule
from prefect.tasks import Task

from flows import steps
from flows.deployments import deployments
from flows.environment import prepare
from flows.showing import worth_a_retry
from homeostat.errors import ArtifactError, DataError, Unavailable
from homeostat.policy import Policy
from homeostat.settings import Settings


def test_every_flow_is_deployed_under_its_own_name_by_its_module_path() -> None:
    found = {each.name: each.entrypoint for each in deployments({"digits": Policy()})}

    assert found == {
        "pipeline": "flows.pipeline.pipeline",
        "retrain": "flows.retrain.retrain",
        "rollback": "flows.rollback.rollback",
        "report": "flows.report.report",
        "digest": "flows.digest.digest",
    }


def test_each_model_has_the_schedules_of_its_own_policy() -> None:
    models = {
        "b": Policy(schedule="0 3 * * *"),
        "a": Policy(schedule="0 4 * * 1", report_schedule="0 6 * * *"),
        "by-hand": Policy(digest_schedule=""),
    }

    pipeline, *others, report, digest = deployments(models)

    assert [(each.cron, each.parameters) for each in pipeline.schedules] == [
        ("0 4 * * 1", {"model": "a"}),
        ("0 3 * * *", {"model": "b"}),
    ]
    assert all(isinstance(each, Schedule) for each in pipeline.schedules)
    assert not any(each.schedules for each in others)
    assert [(each.cron, each.parameters) for each in report.schedules] == [
        ("0 6 * * *", {"model": "a"})
    ]
    assert [(each.cron, each.parameters) for each in digest.schedules] == [
        ("0 7 * * 1", {"model": name}) for name in ("a", "b")
    ]


def test_prefect_and_mlflow_are_pointed_at_the_servers_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = {"PREFECT_API_URL": "http://elsewhere/api"}
    monkeypatch.setattr(os, "environ", environment)

    prepare(Settings(prefect_url="http://here:4200/api"))

    assert environment["PREFECT_API_URL"] == "http://here:4200/api"
    assert environment["DO_NOT_TRACK"] == "1"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (Unavailable("MLflow is away."), True),
        (OSError("broken pipe"), True),
        (DataError("No label."), False),
        (ArtifactError("Changed."), False),
    ],
)
def test_a_task_is_retried_for_what_time_can_mend_only(error: Exception, again: bool) -> None:
    state = State(type=StateType.FAILED, data=error)
    run = TaskRun.model_construct(task_key="register", dynamic_key="0")

    assert worth_a_retry(steps.register, run, state) is again


def test_tasks_that_call_a_server_wait_between_their_retries() -> None:
    served: list[Task[..., Any]] = [
        steps.find_work,
        steps.log_run,
        steps.register,
        steps.promote,
        steps.publish,
    ]

    assert all(task.retries == 3 for task in served)
    assert all(task.retry_delay_seconds == [1.0, 3.0, 10.0] for task in served)
