"""What moved in the rows behind an incident: looked for in a process of its own, and kept.

It reads thousands of rows and takes seconds of a core, which callers of predictions would wait
for: so it is done outside of the gateway, at low priority, one at a time, once for each state that
an incident is in. It is what `homeostat explain` tells, with pictures.
"""

from __future__ import annotations

import asyncio
import json
import sys

from homeostat.errors import Unavailable
from registry.incidents import Incident
from serving.gateway import Gateway

SECONDS = 120.0  # that a look may take
KEPT = 64  # looks
WAITING = 16  # looks, at most

State = tuple[str, str, int]


class Looks:
    """Looks at the rows behind incidents, and what they found.

    Who asks for what is looked for already waits for the same look, on no thread.

    Args:
        gateway: Whose incidents.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._turn = asyncio.Semaphore(1)
        self._under_way: dict[State, asyncio.Task[str]] = {}
        self._kept: dict[State, str] = {}

    def known(self, incident: Incident) -> str | None:
        """What was found, as HTML, if it was looked for since the incident last changed."""
        return self._kept.get(_state(incident))

    async def look(self, incident: Incident) -> str:
        """What there is to find, as HTML.

        Raises:
            Unavailable: the look failed, took too long, or too many wait.
        """
        state = _state(incident)
        if (found := self._kept.get(state)) is not None:
            return found
        task = self._under_way.get(state)
        if task is None:
            if len(self._under_way) >= WAITING:
                raise Unavailable("Too many incidents are looked at.", remedy="Ask again later.")
            task = asyncio.create_task(self._ask(incident))
            self._under_way[state] = task
            task.add_done_callback(lambda _: self._under_way.pop(state))
        return await asyncio.shield(task)  # who goes away ends it for nobody else

    async def _ask(self, incident: Incident) -> str:
        settings = self._gateway.settings
        asked = {
            "incident": incident.id,
            "database": settings.database,
            "versions": str((settings.state_dir / "versions").resolve()),
            "mlflow": settings.mlflow_address,
            "policy": settings.policy(incident.model).model_dump(mode="json"),
        }
        async with self._turn:
            try:
                found = await _in_a_process(json.dumps(asked).encode())
            except (OSError, TimeoutError, RuntimeError) as error:
                raise Unavailable(
                    f"The rows could not be looked at: {error or 'it took too long'}.",
                    remedy=f"Ask on the command line: homeostat explain {incident.id}",
                ) from error
        while len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[_state(incident)] = found
        return found


async def _in_a_process(asked: bytes) -> str:
    """What `main` writes when it reads this.

    Raises:
        OSError, TimeoutError, RuntimeError: it could not begin, took too long, or failed.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "serving.page.looking", stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        found, said = await asyncio.wait_for(process.communicate(asked), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(*last)
    return found.decode()


def _state(incident: Incident) -> State:
    return incident.id, incident.state, len(incident.events)
