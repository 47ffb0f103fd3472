"""The deployments: which flows Prefect can start here, when, and by which module path.

Prefect's runner starts each flow run as a process of its own and imports the flow by its module
path (`flows.retrain.retrain`), never by file: a file path is loaded a second time, as a module
of another name. The flow modules import torch and MLflow inside their tasks, so that this
process, which only waits, starts quickly and stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.runner import Runner
from prefect.schedules import Cron, Schedule
from prefect.types.entrypoint import EntrypointType

from flows.pipeline import pipeline
from flows.report import report
from flows.retrain import retrain
from flows.rollback import rollback
from homeostat.policy import Policy
from homeostat.settings import Settings

# How often the runner asks for due flow runs: half of it is what an incident waits on average.
POLL_SECONDS = 0.5

# Flow runs at a time on this host, each with one torch thread; others wait in Prefect's queue.
# Prefect's own concurrency limits keep the slot of a worker that died; the lock of one retrain
# for each model is in the lifecycle database, where it frees itself.
MAX_RUNS = 2


@dataclass(frozen=True)
class Deployment:
    """One flow as it is served: `name` is both the flow's and the deployment's."""

    flow: Flow[Any, Any]
    schedules: tuple[Schedule, ...] = ()

    @property
    def name(self) -> str:
        """The deployment's name; Prefect's full name is `name/name`."""
        return self.flow.name

    @property
    def entrypoint(self) -> str:
        """The module path that Prefect imports in the process of a flow run."""
        return f"{self.flow.fn.__module__}.{self.flow.fn.__name__}"


def deployments(models: Mapping[str, Policy]) -> tuple[Deployment, ...]:
    """The four deployments, with a pipeline schedule for each model whose policy has one."""
    schedules = tuple(
        Cron(policy.schedule, parameters={"model": name}, slug=f"pipeline-{name}")
        for name, policy in sorted(models.items())
        if policy.schedule
    )
    return (
        Deployment(pipeline, schedules),
        Deployment(retrain),
        Deployment(rollback),
        Deployment(report),
    )


async def register(runner: Runner, models: Mapping[str, Policy]) -> dict[str, UUID]:
    """Tell Prefect's server of every deployment; a second time changes nothing.

    Returns:
        The id of each deployment by its name.
    """
    return {
        each.name: await runner.aadd_flow(
            each.flow,
            name=each.name,
            schedules=list(each.schedules),
            entrypoint_type=EntrypointType.MODULE_PATH,
            tags=["homeostat"],
        )
        for each in deployments(models)
    }


async def serve(settings: Settings) -> None:
    """Register the deployments and run what is due, until the process is told to stop."""
    # Schedules outlive a restart: they belong to the server, not to this process, and pausing
    # them on the way out would need a server that may be stopping too.
    runner = Runner(
        name="homeostat", query_seconds=POLL_SECONDS, limit=MAX_RUNS, pause_on_shutdown=False
    )
    ids = await register(runner, settings.models)
    print(f"Serving {', '.join(f'{name}/{name}' for name in ids)}.", flush=True)
    await runner.start()
