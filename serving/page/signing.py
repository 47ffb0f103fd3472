"""The routes before the door: signing in and out, and the files that pages are made of."""

from __future__ import annotations

import logging
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from homeostat.errors import HomeostatError, Unauthorized
from homeostat.settings import Settings
from registry.ended_sessions import end_session
from serving.handlers import NotFound
from serving.page.doors import OpenForm, SignedForm, local, sessions_of
from serving.page.oidc import BEGIN, add_oidc
from serving.page.rendering import rendered
from serving.page.replies import ASSETS, HEADERS, asset, page
from serving.page.sessions import COOKIE, HOURS
from serving.problems import status_of

SIGN_IN = "/page/sign-in"

logger = logging.getLogger(__name__)


def add_doors(router: APIRouter, settings: Settings) -> None:
    """Signing in and out, and the files that pages are made of."""
    elsewhere = f"{settings.page_address}{BEGIN}" if settings.oidc.issuer else ""
    shown = partial(rendered, "sign_in.html.j2", elsewhere=elsewhere, label=settings.oidc.label)
    add_oidc(router, settings)

    @router.get(SIGN_IN)
    def sign_in(back: Annotated[str, Query(alias="next")] = "/") -> Response:
        """Ask for a token, or lead to where else one signs in."""
        return page(shown(next=local(back), refused=""))

    @router.post(SIGN_IN)
    async def signed_in(request: Request, fields: OpenForm) -> Response:
        """Begin a session."""
        back = local(fields.get("next", "/"))
        try:
            cookie, _ = sessions_of(request).begin(fields.get("token", ""))
        except HomeostatError as error:
            unknown = isinstance(error, Unauthorized)
            refused = "That token does not work here." if unknown else str(error)
            text = shown(next=back, refused=refused)
            return page(text, status_of(error.code))
        answer = RedirectResponse(back, 303, HEADERS)
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=HOURS * 3600,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    @router.post("/page/sign-out")
    async def sign_out(request: Request, _: SignedForm) -> Response:
        """End the session of this browser, and of whoever copied its cookie."""
        await run_in_threadpool(_end, request)
        answer = RedirectResponse(SIGN_IN, 303, HEADERS)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    @router.get("/page/static/{name}")
    def static(name: str) -> Response:
        """A style, a script, an icon."""
        if name not in ASSETS:
            raise NotFound("There is no such file.", remedy="Open the page at /.")
        return asset(name)


def _end(request: Request) -> None:
    parts = request.app.gateway.parts
    try:
        key, until = sessions_of(request).end(request.cookies.get(COOKIE, ""))
        with parts.writing() as session:
            end_session(session, key, until, parts.clock())
    except HomeostatError as error:  # over already; or the other gateways are not told of it
        logger.warning("a session was signed out here alone: %s", error)
