"""The door of each route: the caller whom a token names, if they may do what the route does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from homeostat.settings import Settings, is_loopback
from serving.access import Access, Caller
from serving.bodies import parse, read_body
from serving.handlers import NotFound

Body = TypeVar("Body")
_bearer = HTTPBearer(auto_error=False, description="A token; see docs/access.md.")


@contextlib.contextmanager
def let_in(request: Request, *verbs: str) -> Iterator[Caller]:
    """Let in who has one of these verbs, for the model of the path where it has one.

    The application has the gateway's `Access` as its `gateway.access`.

    Raises:
        Unauthorized, UnknownModel, Forbidden, RateLimited: who is not let in.
    """
    access: Access = request.app.gateway.access
    header = request.headers.get("authorization")
    caller = access.check(header.encode("latin-1") if header is not None else None)
    verb = next((verb for verb in verbs if verb in caller.verbs), verbs[0])
    model = request.path_params.get("model")
    if model is None:
        access.need(caller, verb)
    else:
        access.require(caller, verb, model)
    caller.meter.enter(caller.name, time.monotonic())
    try:
        yield caller
    finally:
        caller.meter.leave()


def needs(*verbs: str) -> Callable[..., AsyncIterator[Caller]]:
    """A dependency that lets in who has one of these verbs."""

    async def door(
        request: Request,
        _: Annotated[object, Depends(_bearer)],  # only for the OpenAPI document
    ) -> AsyncIterator[Caller]:
        with let_in(request, *verbs) as caller:
            yield caller

    return door


async def at_admin_port(request: Request) -> None:
    """Let in who came by the port of the routes that act, where they have one of their own.

    Raises:
        NotFound: by another port; there is no such route there.
    """
    port = request.app.gateway.settings.admin_port
    if port and _port_of(request) != port:
        raise NotFound(
            f"There is nothing at {request.url.path} by this port.",
            remedy="Routes that act are at gateway_admin_host and gateway_admin_port.",
        )


async def scraper(request: Request) -> None:
    """Let in who may see figures: anybody on this machine's own address, else a reader.

    Raises:
        Unauthorized: the port is open to other machines, and the request has no valid token.
        Forbidden: its token does not have the verb `read`.
    """
    settings: Settings = request.app.gateway.settings
    by_admin = settings.admin_port and _port_of(request) == settings.admin_port
    if not is_loopback(settings.gateway_admin_host if by_admin else settings.host):
        access: Access = request.app.gateway.access
        header = request.headers.get("authorization")
        caller = access.check(header.encode("latin-1") if header is not None else None)
        access.need(caller, "read")


def _port_of(request: Request) -> int | None:
    """The port that the connection came in by."""
    server = request.scope.get("server")
    return server[1] if server else None


Knower = Annotated[Caller, Depends(needs("read", "predict"))]
Reader = Annotated[Caller, Depends(needs("read"))]
Predicting = Annotated[Caller, Depends(needs("predict"))]
Labeller = Annotated[Caller, Depends(needs("label"))]
Promoter = Annotated[Caller, Depends(needs("promote"))]
OnCall = Annotated[Caller, Depends(needs("rollback"))]
Administrator = Annotated[Caller, Depends(needs("admin"))]


def body_reader(limit: int) -> Callable[[Request, type[Body]], Awaitable[Body]]:
    """A reader of typed bodies of at most `limit` bytes."""

    async def body_of(request: Request, kind: type[Body]) -> Body:
        return parse(await read_body(request.headers.raw, request.receive, limit), kind)

    return body_of
