"""The routes of labels that are held back: seen by readers, decided on by who promotes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from registry.held_labels import decide, held_labels
from serving import requests
from serving.admitting import Promoter, Reader, at_admin_port, body_reader
from serving.gateway import Gateway


def routes(gateway: Gateway) -> APIRouter:
    """The routes; what a model learns from is decided by who may promote its versions."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(at_admin_port)])
    body_of = body_reader(gateway.settings.max_body_bytes)

    @router.get("/models/{model}/held-labels")
    def held(model: str, _: Reader) -> dict[str, Any]:
        """The labels that no retrain learns from before somebody has looked, and decided ones."""
        with gateway.parts.reading() as session:
            found = held_labels(session, model)
        return {
            "model": model,
            "held": [{**asdict(each), "first": each.first.isoformat()} for each in found],
        }

    @router.post(
        "/models/{model}/held-labels", openapi_extra=requests.takes(requests.HeldLabelsBody)
    )
    async def decided(model: str, request: Request, caller: Promoter) -> dict[str, Any]:
        """Let labels that are held back be learnt from, or never."""
        body = await body_of(request, requests.HeldLabelsBody)
        actor = caller.acts_as(body.actor)

        def act() -> dict[str, Any]:
            with gateway.parts.writing() as session:
                count = decide(
                    session,
                    model,
                    body.decision,
                    source=body.source,
                    ids=body.ids,
                    actor=actor,
                    reason=body.reason,
                    now=gateway.parts.clock(),
                )
            return {"model": model, "decision": body.decision, "labels": count, "actor": actor}

        return await run_in_threadpool(act)

    return router
