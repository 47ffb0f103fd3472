"""The door of each page: whose session it is, and what a form may do."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request

from homeostat.errors import Forbidden, InvalidRequest
from serving.access import Access, Caller
from serving.bodies import read_body
from serving.page.sessions import COOKIE, Sessions

LONGEST_FORM = 16 * 1024  # bytes
LONGEST_TEXT = 2000  # characters of a reason, as in the JSON routes


def sessions_of(request: Request) -> Sessions:
    """The application's."""
    found: Sessions = request.app.state.page_sessions
    return found


async def reader(request: Request) -> AsyncIterator[Caller]:
    """Let in who is signed in and may read; of a model, where the path has one.

    Raises:
        Unauthorized, UnknownModel, Forbidden, RateLimited: who is not let in.
    """
    access: Access = request.app.gateway.access
    caller = sessions_of(request).whose(request.cookies.get(COOKIE, ""))
    model = request.path_params.get("model")
    if model is None:
        access.need(caller, "read")
    else:
        access.require(caller, "read", model)
    caller.meter.enter(caller.name, time.monotonic())
    try:
        yield caller
    finally:
        caller.meter.leave()


Viewer = Annotated[Caller, Depends(reader)]


async def signed_form(request: Request) -> Mapping[str, str]:
    """The fields of a form of who is signed in, sent by this page.

    Raises:
        Forbidden: another site sent it, or it is of another session.
        InvalidRequest: no form.
        TooLarge: beyond what any form here has.
    """
    fields = await open_form(request)
    cookie = request.cookies.get(COOKIE, "")
    sessions_of(request).check_form(cookie, fields.get("form", ""))
    return fields


async def open_form(request: Request) -> Mapping[str, str]:
    """The fields of a form that needs no session yet, sent by this page.

    Raises:
        Forbidden, InvalidRequest, TooLarge: as `signed_form`.
    """
    check_origin(request.headers)
    body = await read_body(request.headers.raw, request.receive, LONGEST_FORM)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20))
    except ValueError:
        raise InvalidRequest("The body is no form.", remedy="Send it from the page.") from None


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse what a browser says that another site asked for.

    Raises:
        Forbidden: it says so.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    host = headers.get("host", "")
    if site not in ("same-origin", "none") or (origin and urlsplit(origin).netloc != host):
        raise Forbidden("Another site sent this.", remedy="Send it from the page itself.")


SignedForm = Annotated[Mapping[str, str], Depends(signed_form)]
OpenForm = Annotated[Mapping[str, str], Depends(open_form)]


def text_of(fields: Mapping[str, str], name: str) -> str:
    """A field that has to say something.

    Raises:
        InvalidRequest: it says nothing, or too much.
    """
    said = fields.get(name, "").strip()
    if not 0 < len(said) <= LONGEST_TEXT:
        raise InvalidRequest(
            f"The field '{name}' has {len(said)} characters.",
            remedy=f"Say it in 1 to {LONGEST_TEXT}.",
        )
    return said


def number_of(fields: Mapping[str, str], name: str) -> int:
    """A field that is a whole number.

    Raises:
        InvalidRequest: it is none.
    """
    said = fields.get(name, "")
    if not (said.isascii() and said.isdigit() and len(said) < 10):
        raise InvalidRequest(f"The field '{name}' is no number.", remedy="Open the page again.")
    return int(said)


def local(address: str) -> str:
    """An address on this page, whatever was asked for."""
    plain = address.isprintable() and "\\" not in address
    return address if plain and address[:1] == "/" and address[:2] != "//" else "/"
