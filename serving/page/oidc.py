"""Signing in at the provider of the settings: out to it, and back with what it says.

Between the two a cookie of this browser holds an id, an end and where to go then, signed. State,
nonce and the verifier of PKCE are each derived of it by this installation's key, so any gateway of
the installation can finish what another one began, and nothing is kept but the cookie.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote, unquote, urlsplit

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from homeostat.errors import HomeostatError, SignInRefused
from homeostat.settings import Settings, is_loopback
from monitoring.outbound import Guard
from serving.handlers import NotFound
from serving.page.doors import local, sessions_of
from serving.page.people import person_of
from serving.page.provider import Provider, error_code
from serving.page.rendering import rendered
from serving.page.replies import HEADERS, page
from serving.page.sessions import COOKIE, Sessions

BEGIN = "/page/sign-in/oidc"
DONE = f"{BEGIN}/done"
PENDING = "homeostat-signing-in"
PENDING_SECONDS = 600  # that signing in at the provider may take
LONGEST_BACK = 1000  # letters of where to go then; browsers keep 4096 bytes of a cookie

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pending:
    """A sign-in that was begun: the cookie, and what is derived of it."""

    cookie: str
    back: str
    state: str
    nonce: str
    verifier: str


def begin(sessions: Sessions, back: str, clock: Callable[[], float] = time.time) -> Pending:
    """A new sign-in that leads to an address on this page."""
    where = quote(back if len(quote(back, safe="")) <= LONGEST_BACK else "/", safe="")
    said = f"{int(clock()) + PENDING_SECONDS}:{secrets.token_hex(16)}:{where}"
    return _pending(sessions, said)


def resume(
    sessions: Sessions, cookie: str, state: str, clock: Callable[[], float] = time.time
) -> Pending:
    """The sign-in that somebody comes back from.

    Raises:
        SignInRefused: none was begun in this browser, it took too long, or it is another one.
    """
    said, _, _ = cookie.rpartition(":")
    found = _pending(sessions, said)
    whole = hmac.compare_digest(cookie.encode(), found.cookie.encode())
    ours = hmac.compare_digest(state.encode(), found.state.encode())
    if not (whole and ours and clock() < int(said.partition(":")[0])):
        raise SignInRefused(
            "This is no answer to a sign-in that was begun in this browser within ten minutes.",
            remedy="Sign in again here; if another tab did meanwhile, that one counts.",
        )
    return found


def _pending(sessions: Sessions, said: str) -> Pending:
    state, nonce, verifier, signature = (
        sessions.sign(f"oidc-{purpose}", said) for purpose in ("state", "nonce", "verifier", "end")
    )
    back = unquote(said.rpartition(":")[2])
    return Pending(f"{said}:{signature}", back, state, nonce, verifier)


def provider_of(settings: Settings) -> Provider | None:
    """The provider of the settings, if they have one."""
    if not settings.oidc.issuer:
        return None
    guard = Guard(settings.alerting.allow_hosts, loopback=is_loopback(settings.host))
    return Provider(settings.oidc, f"{settings.page_address}{DONE}", guard)


def add_oidc(router: APIRouter, settings: Settings) -> None:
    """Out to the provider, and back."""
    provider = provider_of(settings)
    secure = urlsplit(settings.page_address).scheme == "https"

    @router.get(BEGIN)
    def out(request: Request, back: Annotated[str, Query(alias="next")] = "/") -> Response:
        """On to the provider."""
        if provider is None:
            raise _none()
        pending = begin(sessions_of(request), local(back))
        try:
            at = provider.address(pending.state, pending.nonce, pending.verifier)
        except HomeostatError as error:
            logger.warning("nobody can sign in at the provider: %s", error)
            raise
        answer = RedirectResponse(at, 303, HEADERS)
        # Lax: the browser comes back from another site, and has to bring it.
        answer.set_cookie(
            PENDING,
            pending.cookie,
            max_age=PENDING_SECONDS,
            path=BEGIN,
            httponly=True,
            samesite="lax",
            secure=secure,
        )
        return answer

    @router.get(DONE)
    def done(
        request: Request, state: str = "", code: str = "", error: str = "", iss: str = ""
    ) -> Response:
        """Back from the provider."""
        if provider is None:
            raise _none()
        sessions = sessions_of(request)
        try:
            pending = resume(sessions, request.cookies.get(PENDING, ""), state)
            if iss not in ("", settings.oidc.issuer):  # RFC 9207
                raise SignInRefused(
                    "Another provider than the one of the settings sent you back.",
                    remedy="Sign in again, here.",
                )
            if error or not code:
                raise SignInRefused(
                    f"The provider did not let you in ({error_code(error) or 'no code'}).",
                    remedy="Sign in again, and agree there; or ask who administers the provider.",
                )
            claims = provider.claims(code, pending.nonce, pending.verifier)
            person = person_of(claims, settings.oidc)
            cookie, _ = sessions.begin_as(person)
        except HomeostatError as refused:
            logger.warning("a sign-in by the provider failed: %s", refused)
            raise
        logger.info("'%s' signed in by the provider", person.name)
        # No redirect: the browser keeps a strict cookie from what another site began.
        answer = page(rendered("onward.html.j2", next=pending.back))
        answer.delete_cookie(PENDING, path=BEGIN, httponly=True, samesite="lax", secure=secure)
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=int(settings.oidc.session_hours * 3600),
            httponly=True,
            samesite="strict",
            secure=secure,
        )
        return answer


def _none() -> NotFound:
    return NotFound(
        "Nobody signs in by OpenID Connect here.",
        remedy="Sign in with a token, or set oidc.issuer: see docs/access.md.",
    )
