"""JSON and text as both databases can keep them."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def canonical(value: object) -> str:
    """JSON with one spelling, for equality and hashes: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: a float that JSON has no word for.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def to_json(value: object) -> str:
    """JSON to store; a caller's half characters and huge numbers are kept, not refused.

    One such row must not stop the batch that it is in.
    """
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(value)


def from_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever was stored
    """What `to_json` stored."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return json.loads(text)


def storable(text: str) -> str:
    """Text without what a database column cannot hold: NUL and half characters."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
