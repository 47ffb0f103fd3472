"""Flow runs that a dead runner left behind: taken up again, or told to be over.

Prefect keeps such a run as running for ever (prefect#16746), and with it a retrain's lock. One
process serves the deployments of an installation, so whatever is under way when it starts is
nobody's any more. The work of a flow has a key and goes on from where it was; a rollback has
none, and a second one would be another rollback.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Crashed, Scheduled

from homeostat.errors import StartError

log = logging.getLogger(__name__)

ONCE_ONLY = {"rollback"}
MAX_STARTS = 3  # of a flow run: one that takes its runner down each time must not do it for ever


def claim(state_dir: Path) -> int:
    """Be the one process that serves this installation's deployments, until it ends.

    Returns:
        An open file; the claim ends with it, and with the process.

    Raises:
        StartError: another process serves them.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    path = state_dir / "flows.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StartError(
            f"Another process serves the flows of {state_dir}.",
            remedy="Stop it first (`homeostat down`), or use another state_dir.",
        ) from None
    return descriptor


async def take_up(deployments: Mapping[str, UUID]) -> list[str]:
    """Take up what is under way and nobody's, of deployments given by name.

    Returns:
        What was done, a line for each flow run.
    """
    names = {identity: name for name, identity in deployments.items()}
    under_way = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=list(names)),
        state=FlowRunFilterState(
            type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
        ),
    )
    done = []
    async with get_client() as client:
        for run in await client.read_flow_runs(flow_run_filter=under_way):
            name = names[run.deployment_id] if run.deployment_id else ""
            done.append(await _take_up(client, run, name))
            log.warning("%s", done[-1])
    return done


async def _take_up(client: PrefectClient, run: FlowRun, name: str) -> str:
    if name in ONCE_ONLY or run.run_count >= MAX_STARTS:
        over: State[None] = Crashed(message="The process that ran it is gone.")
        await client.set_flow_run_state(run.id, over, force=True)
        return f"{name} {run.name} was cut off and is over."
    again: State[None] = Scheduled(
        message="The process that ran it is gone; it goes on from its work key."
    )
    await client.set_flow_run_state(run.id, again, force=True)
    return f"{name} {run.name} was cut off and goes on."
