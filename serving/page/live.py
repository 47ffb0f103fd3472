"""What a page that is open waits for: that something it shows has changed.

The events say only that, so nothing is told here that a page would not: who hears one asks again
for what is shown.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from fastapi.concurrency import run_in_threadpool

from homeostat.errors import HomeostatError
from registry.incident_records import newest_event
from registry.retrains import retrain_running
from registry.routing import current_routing
from serving.gateway import Gateway

LOOK_SECONDS = 1.0
QUIET_SECONDS = 15.0  # between signs of life where nothing changes: proxies close what is silent
STEPS = 20  # of evidence up to its alarm: less is no change worth a look


class Pulse:
    """Knows whether anything changed, by one look a second for all who wait.

    Args:
        gateway: Whose models.
        clock: Seconds, from whenever.
    """

    def __init__(self, gateway: Gateway, clock: Callable[[], float] = time.monotonic) -> None:
        self._gateway, self._clock = gateway, clock
        self._lock = threading.Lock()
        self._states: dict[str, tuple[float, str]] = {}

    def of(self, names: Sequence[str]) -> str:
        """What stands for all that pages show of some models; another text: it changed."""
        whole = "\n".join(self._of(name) for name in names)
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    def _of(self, name: str) -> str:
        with self._lock:
            now = self._clock()
            seen, state = self._states.get(name, (float("-inf"), ""))
            if now - seen >= LOOK_SECONDS:
                state = self._look(name)
                self._states[name] = now, state
            return state

    def _look(self, name: str) -> str:
        watch = self._gateway.watches[name]
        said: list[object] = [
            (one.detector, int(STEPS * one.value / one.threshold)) for one in watch.samples()
        ]
        said.append(int(watch.losses_seen()[0] ** 0.5))  # the more there are, the less one adds
        try:
            with self._gateway.parts.reading() as session:
                routing = current_routing(session, name)
                retrain = retrain_running(session, name)
                said.append(routing.generation if routing else 0)
                said.append((retrain.id, retrain.state) if retrain else None)
                said.append(newest_event(session, name))  # resolved incidents get news as well
        except HomeostatError as error:
            said.append(error.code)
        return repr(said)


class Beats(Protocol):
    """What `changes` asks."""

    def of(self, names: Sequence[str], /) -> str:
        """What stands for all that is shown of some models."""
        ...


async def changes(
    pulse: Beats, names: Sequence[str], goes_on: Callable[[], bool], pause: float = LOOK_SECONDS
) -> AsyncIterator[str]:
    """Server-sent events: one at once, and one at each change, while it goes on.

    Args:
        pulse: Knows of changes.
        names: Of the models that are shown.
        goes_on: Whether anybody may still hear of them.
        pause: Seconds between two looks.
    """
    told, quiet = "", 0.0
    while goes_on():
        state = await run_in_threadpool(pulse.of, names)
        if state != told:
            yield f"event: state\ndata: {state}\n\n"
            told, quiet = state, 0.0
        elif quiet >= QUIET_SECONDS:
            yield ": nothing new\n\n"
            quiet = 0.0
        await asyncio.sleep(pause)
        quiet += pause
