"""The deployments: which flows Prefect can start here, when, and by which module path.

Prefect's runner starts each flow run as a process of its own and imports the flow by its module
path (`flows.retrain.retrain`), never by file: a file path is loaded a second time, as a module
of another name. The flow modules import torch and MLflow inside their tasks, so that this
process, which only waits, starts quickly and stays small.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.events import DeploymentEventTrigger
from prefect.runner import Runner
from prefect.schedules import Cron, Schedule
from prefect.types.entrypoint import EntrypointType

from flows.digest import digest
from flows.left_behind import claim, take_up
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

OUR_SCHEDULES = "homeostat-"  # how the slugs of schedules begin that come from the settings

# The automation that reports on each incident, where one of the policy's `alerts` is Prefect.
OPENED = DeploymentEventTrigger(
    name="homeostat: a report of each new incident",
    expect={"homeostat.incident.open"},
    match={"prefect.resource.id": "homeostat.model.*"},
    match_related={"prefect.resource.role": "incident"},
    parameters={
        "model": "{{ event.payload.model }}",
        "incident": "{{ event.payload.incident }}",
    },
)


class OrderlyRunner(Runner):
    """Prefect's runner, but SIGTERM ends it in order, with the flow runs that it started.

    Prefect's own handler calls `sys.exit` in the middle of the event loop.
    """

    end: Callable[[], object]

    def handle_sigterm(self, *_args: object, **_kwargs: object) -> None:
        """Cancel `start`, which stops the flow runs on its way out."""
        self.end()


@dataclass(frozen=True)
class Deployment:
    """One flow as it is served: `name` is both the flow's and the deployment's."""

    flow: Flow[Any, Any]
    schedules: tuple[Schedule, ...] = ()
    triggers: tuple[DeploymentEventTrigger, ...] = ()

    @property
    def name(self) -> str:
        """The deployment's name; Prefect's full name is `name/name`."""
        return self.flow.name

    @property
    def entrypoint(self) -> str:
        """The module path that Prefect imports in the process of a flow run."""
        return f"{self.flow.fn.__module__}.{self.flow.fn.__name__}"


def deployments(models: Mapping[str, Policy]) -> tuple[Deployment, ...]:
    """The deployments; all but those of retrain and rollback have schedules by the policies."""
    return (
        Deployment(pipeline, _crons({name: one.schedule for name, one in models.items()})),
        Deployment(retrain),
        Deployment(rollback),
        Deployment(
            report, _crons({name: one.report_schedule for name, one in models.items()}), (OPENED,)
        ),
        Deployment(digest, _crons({name: one.digest_schedule for name, one in models.items()})),
    )


def _crons(by_model: Mapping[str, str]) -> tuple[Schedule, ...]:
    return tuple(
        Cron(cron, parameters={"model": name}, slug=f"{OUR_SCHEDULES}{name}")
        for name, cron in sorted(by_model.items())
        if cron
    )


async def register(runner: Runner, models: Mapping[str, Policy]) -> dict[str, UUID]:
    """Tell Prefect's server of every deployment; a second time changes nothing.

    Returns:
        The id of each deployment by its name.
    """
    ids = {}
    for each in deployments(models):
        deployment = await each.flow.ato_deployment(
            each.name,
            schedules=list(each.schedules),
            triggers=list(each.triggers),
            entrypoint_type=EntrypointType.MODULE_PATH,
            tags=["homeostat"],
        )
        # Not `add_flow`: its flow runs get the function as a pickle, not by its module path.
        ids[each.name] = await runner.aadd_deployment(deployment)
        await _drop_schedules(ids[each.name], {one.slug for one in each.schedules})
    return ids


async def _drop_schedules(deployment: UUID, wanted: set[str | None]) -> None:
    """Delete our schedules that the settings have no more; Prefect only adds and changes."""
    async with get_client() as client:
        for schedule in await client.read_deployment_schedules(deployment):
            ours = (schedule.slug or "").startswith(OUR_SCHEDULES)
            if ours and schedule.slug not in wanted:  # others are somebody's own, made in Prefect
                await client.delete_deployment_schedule(deployment, schedule.id)


async def serve(settings: Settings) -> None:
    """Register the deployments and run what is due, until SIGTERM or SIGINT.

    Raises:
        StartError: another process serves them.
    """
    lock = claim(settings.state_dir)
    # Schedules outlive a restart: they belong to the server, not to this process, and pausing
    # them on the way out would need a server that may be stopping too.
    runner = OrderlyRunner(
        name="homeostat", query_seconds=POLL_SECONDS, limit=MAX_RUNS, pause_on_shutdown=False
    )
    try:
        ids = await register(runner, settings.models)
        await take_up(ids)
        print(f"Serving {', '.join(f'{name}/{name}' for name in ids)}.", flush=True)
        await _run_until_told(runner)
    finally:
        os.close(lock)


async def _run_until_told(runner: OrderlyRunner) -> None:
    running = asyncio.create_task(runner.start())
    loop = asyncio.get_running_loop()
    runner.end = functools.partial(loop.call_soon_threadsafe, running.cancel)
    loop.add_signal_handler(signal.SIGINT, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
