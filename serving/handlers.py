"""Every error of a route as a problem document."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from homeostat.errors import HomeostatError, InputError, InvalidRequest
from serving.bodies import BodyTooLarge, ClientGone
from serving.predicting import MethodNotAllowed
from serving.problems import MEDIA_TYPE, headers_of, internal, problem, status_of

OIP_PREFIX = "/v2"

logger = logging.getLogger(__name__)


class NotFound(InputError):
    """There is nothing at this address."""

    code = "not-found"


def install(app: FastAPI) -> None:
    """Let an application answer every error in the one shape."""
    app.add_exception_handler(HomeostatError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(ClientGone, _answer_nobody)
    app.add_exception_handler(Exception, _answer_unforeseen)


def _respond(request: Request, error: HomeostatError) -> JSONResponse:
    headers = headers_of(error)
    if isinstance(error, BodyTooLarge):
        headers["connection"] = "close"
    status, document = status_of(error.code), problem(error)
    if request.url.path.startswith(OIP_PREFIX):  # its clients read one field, and no problems
        return JSONResponse({"error": str(error)} | document, status, headers)
    return JSONResponse(document, status, headers, media_type=MEDIA_TYPE)


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HomeostatError)
    if status_of(error.code) == 500:
        logger.error("%s", error, exc_info=error)
    return _respond(request, error)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        text = f"{request.method} is not taken at {request.url.path}."
        other = MethodNotAllowed(text, remedy=f"Send {allow}.", allow=allow)
        return _respond(request, other)
    if error.status_code == 404:
        return _respond(
            request,
            NotFound(f"There is nothing at {request.url.path}.", remedy="See /openapi.json."),
        )
    return _respond(request, InvalidRequest(str(error.detail)))


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return _respond(
        request, InvalidRequest(f"{place}: {first['msg']}.", remedy="See /openapi.json.")
    )


async def _answer_nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=400)


async def _answer_unforeseen(request: Request, error: Exception) -> Response:
    return _respond(request, internal(error))
