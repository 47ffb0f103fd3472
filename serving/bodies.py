"""Bodies of requests: read within a limit, parsed into typed values."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeVar

import msgspec

from homeostat.errors import InvalidRequest, TooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

Parsed = TypeVar("Parsed")


class BodyTooLarge(TooLarge):
    """A body that was refused before it was read to its end."""


class ClientGone(Exception):
    """The caller went away before the request was whole; nobody is there to be answered."""


async def read_body(headers: Iterable[tuple[bytes, bytes]], receive: Receive, limit: int) -> bytes:
    """The body of a request, refused as soon as it is known to be beyond the limit.

    Raises:
        BodyTooLarge: by its Content-Length, before anything is read, or while it streams.
        ClientGone: the caller disconnected.
    """
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(int(value), limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if len(body) > limit:
        raise _too_large(len(body), limit)
    if not message.get("more_body", False):
        return body
    parts, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(size, limit)
    return b"".join(parts)


def parse(body: bytes, kind: type[Parsed]) -> Parsed:
    """A body as a typed value.

    Raises:
        InvalidRequest: not JSON, not of that shape, or with a key given twice; the message
            names the place.
    """
    try:
        parsed = msgspec.json.decode(body, type=kind)
        json.loads(body, object_pairs_hook=_once)  # msgspec takes the last, others the first
        return parsed
    except (msgspec.MsgspecError, ValueError) as error:
        cause = str(error)
    except RecursionError:
        cause = "its values are nested too deep"
    raise InvalidRequest(
        f"The body is not what this route takes: {cause}.",
        remedy="See the route in /openapi.json.",
    )


def _once(pairs: list[tuple[str, object]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice[:80]}' is given twice")


def _too_large(size: int, limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body has {size} bytes or more; at most {limit} are taken.",
        remedy="Send fewer rows at once, or raise max_body_bytes in the settings.",
        limit=limit,
    )
