"""What is asked of a model by name: promote, roll back, override, approve, restore, acknowledge.

Each route needs a verb, and the ledger names the token's holder. These are the routes that are on
a port of their own where the gateway listens beyond its machine.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import AwareDatetime

from registry.promotion import grant_override
from serving import requests, views
from serving.admitting import (
    Administrator,
    OnCall,
    Promoter,
    Reader,
    at_admin_port,
    body_reader,
)
from serving.approving import approve_version
from serving.gateway import Gateway

LONGEST_PAGE = 1_000  # routings in one answer


def routes(gateway: Gateway) -> APIRouter:
    """The routes that act, and those that show what only who acts has to see."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(at_admin_port)])
    body_of = body_reader(gateway.settings.max_body_bytes)

    @router.get("/models/{model}/history")
    def history(
        model: str,
        _: Reader,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = 100,
        before: Annotated[int | None, Query(ge=1, le=requests.LARGEST)] = None,
    ) -> dict[str, Any]:
        """The newest routings of a model, or those before a generation, and their releases."""
        return views.history(gateway, model, limit, before)

    @router.get("/models/{model}/labels")
    def labels(model: str, _: Reader, as_of: AwareDatetime | None = None) -> dict[str, Any]:
        """How late a model's labels come, and what they say (or said at a time), with bias."""
        return views.labels(gateway, model, as_of)

    @router.get("/incidents")
    def incidents(caller: Reader, model: str | None = None, every: bool = False) -> dict[str, Any]:
        """Open incidents; with `every` resolved ones too."""
        if model is not None:
            gateway.access.require(caller, "read", model)
        names = None if model is None and caller.models is None else gateway.access.visible(caller)
        return views.incidents(gateway, names if model is None else (model,), every=every)

    @router.post(
        "/incidents/{incident}/acknowledge",
        openapi_extra=requests.takes(requests.AcknowledgeBody),
    )
    async def acknowledged(incident: str, request: Request, caller: OnCall) -> dict[str, Any]:
        """Somebody has seen an incident."""
        body = await body_of(request, requests.AcknowledgeBody)
        actor = caller.acts_as(body.actor)
        return await run_in_threadpool(views.acknowledged, gateway, incident, actor, caller.sees)

    @router.post("/models/{model}/promote", openapi_extra=requests.takes(requests.PromoteBody))
    async def promote(model: str, request: Request, caller: Promoter) -> dict[str, Any]:
        """Make a version champion at once, if gates or an override (verb admin) allow it."""
        body = await body_of(request, requests.PromoteBody)
        actor = caller.acts_as(body.actor)
        if body.override:  # past the gates and past other people's approval
            gateway.access.require(caller, "admin", model)

        def act() -> dict[str, Any]:
            routing = gateway.moves.request(
                model,
                body.version,
                actor,
                body.reason,
                override=body.override,
                expires_hours=body.expires_hours,
                expected=body.expected_generation,
            )
            gateway.prover.wait(routing)
            return views.routing(routing)

        return await run_in_threadpool(act)

    @router.post("/models/{model}/rollback", openapi_extra=requests.takes(requests.RollbackBody))
    async def rollback(model: str, request: Request, caller: OnCall) -> dict[str, Any]:
        """Give the traffic back to the standby."""
        body = await body_of(request, requests.RollbackBody)
        actor = caller.acts_as(body.actor)

        def act() -> dict[str, Any]:
            routing = gateway.moves.roll_back(model, actor, body.reason, body.expected_generation)
            gateway.prover.wait(routing)
            return views.routing(routing)

        return await run_in_threadpool(act)

    @router.post("/models/{model}/restore", openapi_extra=requests.takes(requests.RestoreBody))
    async def restored(model: str, request: Request, caller: Administrator) -> dict[str, Any]:
        """Register what MLflow lost again from the pinned copies, with the same digests."""
        body = await body_of(request, requests.RestoreBody)
        actor = caller.acts_as(body.actor)
        return await run_in_threadpool(gateway.restore, model, body.version, actor, body.reason)

    @router.get("/models/{model}/pins")
    def pins(model: str, _: Reader, verify: bool = False) -> dict[str, Any]:
        """The pinned copies of the versions with a role; with `verify` checked byte by byte now."""
        return views.pins(gateway, model, verify=verify)

    @router.post("/models/{model}/overrides", openapi_extra=requests.takes(requests.OverrideBody))
    async def overrides(model: str, request: Request, caller: Administrator) -> dict[str, Any]:
        """Let a version pass the gates for a while; its alias may then be moved in MLflow."""
        body = await body_of(request, requests.OverrideBody)
        actor = caller.acts_as(body.actor)

        def act() -> dict[str, Any]:
            now = gateway.parts.clock()
            until = now + timedelta(hours=body.expires_hours)
            with gateway.parts.writing() as session:
                grant_override(session, model, body.version, actor, body.reason, until, now)
            return {
                "model": model,
                "version": body.version,
                "actor": actor,
                "reason": body.reason,
                "expires_at": until.isoformat(),
            }

        return await run_in_threadpool(act)

    @router.post("/models/{model}/approvals", openapi_extra=requests.takes(requests.ApprovalBody))
    async def approvals(model: str, request: Request, caller: Promoter) -> dict[str, Any]:
        """Approve the verdict that stands on a version, as one of the people whom policy asks."""
        body = await body_of(request, requests.ApprovalBody)
        return await run_in_threadpool(approve_version, gateway, model, body, caller)

    return router
