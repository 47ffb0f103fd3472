"""The routes by which people steer a trial."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from serving import requests, views
from serving.admitting import OnCall, Promoter, at_admin_port, body_reader
from serving.gateway import Gateway
from serving.steering import Wanted, steer
from serving.trial_view import trial_view


def routes(gateway: Gateway) -> APIRouter:
    """The routes: who promotes begins a trial and skips its steps, on-call holds and ends it."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(at_admin_port)])
    body_of = body_reader(gateway.settings.max_body_bytes)

    def act(action: str, wanted: Wanted) -> dict[str, Any]:
        routing = steer(gateway.parts, gateway.steering, action, wanted)
        if action not in ("pause", "resume"):
            gateway.prover.wait(routing)
        return views.routing(routing) | {"trial": trial_view(gateway, wanted.model)}

    @router.post(
        "/models/{model}/rollout/start", openapi_extra=requests.takes(requests.StartTrialBody)
    )
    async def start(model: str, request: Request, caller: Promoter) -> dict[str, Any]:
        """Try a version against the champion, if its gates allow it: first in shadow."""
        body = await body_of(request, requests.StartTrialBody)
        wanted = _wanted(model, body, caller.acts_as(body.actor), body.version)
        return await run_in_threadpool(act, "start", wanted)

    @router.post("/models/{model}/rollout/skip", openapi_extra=requests.takes(requests.TrialBody))
    async def skip(model: str, request: Request, caller: Promoter) -> dict[str, Any]:
        """Take a trial's next step without the test's word: into canary, or to all traffic."""
        body = await body_of(request, requests.TrialBody)
        wanted = _wanted(model, body, caller.acts_as(body.actor))
        return await run_in_threadpool(act, "skip", wanted)

    @router.post(
        "/models/{model}/rollout/{action}", openapi_extra=requests.takes(requests.TrialBody)
    )
    async def steered(
        model: str,
        action: Literal["pause", "resume", "abort"],
        request: Request,
        caller: OnCall,
    ) -> dict[str, Any]:
        """Pause a trial, let it go on, or end it with the champion as it was."""
        body = await body_of(request, requests.TrialBody)
        wanted = _wanted(model, body, caller.acts_as(body.actor))
        return await run_in_threadpool(act, action, wanted)

    return router


def _wanted(model: str, body: requests.TrialBody, actor: str, version: int = 0) -> Wanted:
    return Wanted(model, actor, body.reason, body.expected_generation, version)
