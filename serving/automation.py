"""What a person does to automation itself: pause it, let it act again, free what it barred.

Any gateway may be asked; the others know within `poll_seconds`. Who rolls back asks the database
in the transaction that does it, so no pause is overtaken.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from homeostat.errors import Refused
from registry.pauses import Pause, pause_automation, resume_automation
from registry.permits import Barred, barred, quarantined, release_quarantine
from registry.release_history import known_digest
from serving import requests, views
from serving.admitting import Administrator, OnCall, Reader, at_admin_port, body_reader
from serving.gateway import Gateway
from serving.parts import Parts
from serving.steering import tell_story

SAYS = {"pause": "paused all automation", "resume": "let automation act again"}


def pause(parts: Parts, model: str, actor: str, reason: str, hours: float | None = None) -> Pause:
    """Let nothing move by itself, for some hours or until somebody ends it.

    Raises:
        Unavailable: the database is away; nothing was changed.
    """
    now = parts.clock()
    until = None if hours is None else now + timedelta(hours=hours)
    with parts.writing() as session:
        made = pause_automation(session, model, actor, reason, now, until)
    parts.know_pause(model, made)
    end = f" until {until:%Y-%m-%d %H:%M} UTC" if until is not None else ""
    tell_story(parts, model, f"{actor} {SAYS['pause']}{end}: {reason}")
    return made


def resume(parts: Parts, model: str, actor: str, reason: str) -> None:
    """Let automation act again: what is due is done at the next look.

    Raises:
        Refused: it is not paused.
        Unavailable: the database is away; nothing was changed.
    """
    with parts.writing() as session:
        resume_automation(session, model, actor, reason, parts.clock())
    parts.know_pause(model, None)
    tell_story(parts, model, f"{actor} {SAYS['resume']}: {reason}")
    parts.wake.set()


def free(parts: Parts, model: str, version: int, actor: str, reason: str) -> str:
    """Let a version out of quarantine, without giving it any traffic; answers its digest.

    Its gates are asked as ever when somebody promotes or tries it.

    Raises:
        Refused: it is in none.
        Unavailable: the database is away; nothing was changed.
    """
    now = parts.clock()
    with parts.writing() as session:
        digest = known_digest(session, model, version)
        if not digest or quarantined(session, model, digest) is None:
            raise not_barred(model, version)
        release_quarantine(session, model, digest, now, actor=actor, reason=reason, version=version)
    tell_story(parts, model, f"{actor} let version {version} out of quarantine: {reason}")
    parts.wake.set()  # a way back may be open again
    return digest


def not_barred(model: str, version: int) -> Refused:
    """The refusal of who frees what is not barred."""
    return Refused(
        f"Version {version} of '{model}' is in no quarantine.",
        remedy=f"See `homeostat quarantine list {model}`.",
        model=model,
        version=version,
    )


def routes(gateway: Gateway) -> APIRouter:
    """The routes: on-call pauses and resumes, an administrator frees what was barred."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(at_admin_port)])
    body_of = body_reader(gateway.settings.max_body_bytes)
    parts = gateway.parts

    @router.post(
        "/models/{model}/automation/{action}", openapi_extra=requests.takes(requests.AutomationBody)
    )
    async def automation(
        model: str, action: Literal["pause", "resume"], request: Request, caller: OnCall
    ) -> dict[str, Any]:
        """Pause all automation of a model, for some `hours` or without end, or let it act again."""
        body = await body_of(request, requests.AutomationBody)
        actor = caller.acts_as(body.actor)

        def act() -> dict[str, Any]:
            if action == "pause":
                made = pause(parts, model, actor, body.reason, body.hours)
                return {"model": model, "pause": views.pause_view(made)}
            resume(parts, model, actor, body.reason)
            return {"model": model, "pause": None}

        return await run_in_threadpool(act)

    @router.get("/models/{model}/quarantine")
    def listed(model: str, _: Reader) -> dict[str, Any]:
        """What may not answer, and why."""
        with parts.reading() as session:
            return {"quarantine": [_barred(one) for one in barred(session, model)]}

    @router.post(
        "/models/{model}/quarantine/release", openapi_extra=requests.takes(requests.ReleaseBody)
    )
    async def release(model: str, request: Request, caller: Administrator) -> dict[str, Any]:
        """Let a version out of quarantine, without giving it traffic."""
        body = await body_of(request, requests.ReleaseBody)
        actor = caller.acts_as(body.actor)
        digest = await run_in_threadpool(free, parts, model, body.version, actor, body.reason)
        return {"model": model, "version": body.version, "digest": digest}

    return router


def _barred(one: Barred) -> dict[str, Any]:
    return {
        "version": one.version,
        "digest": one.digest,
        "reason": one.reason,
        "by": one.actor,
        "at": one.at.isoformat(),
    }
