"""Errors over HTTP: one status table, one shape (RFC 9457 problem details).

The type of a problem is `urn:homeostat:<code>`; codes are those of `homeostat.errors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from homeostat.errors import HomeostatError

MEDIA_TYPE = "application/problem+json"

# The status of each code; what is not here is our own failure.
STATUS: Mapping[str, int] = {
    "invalid-input": 422,
    "invalid-row": 422,
    "invalid-label": 422,
    "invalid-request": 400,
    "too-large": 413,
    "head-too-large": 431,
    "too-slow": 408,
    "unsupported-media": 415,
    "invalid-data": 422,
    "unknown-model": 404,
    "unknown-version": 404,
    "unknown-prediction": 404,
    "not-found": 404,
    "method-not-allowed": 405,
    "nothing-served": 404,
    "conflicting-label": 409,
    "unauthorized": 401,
    "forbidden": 403,
    "sign-in-refused": 401,
    "rate-limited": 429,
    "overloaded": 429,
    "learner-failed": 500,
    "artifact-refused": 409,
    "artifact-suspect": 409,
    "wrong-encoder": 409,
    "ledger-broken": 409,
    "refused": 409,
    "stale-generation": 409,
    "gate-refused": 409,
    "no-target": 409,
    "no-copy": 409,
    "nothing-to-restore": 409,
    "not-proven": 503,
    "unavailable": 503,
    "delivery-failed": 502,
    "mlflow-refused": 502,
}

RETRY_AFTER_SECONDS = 1

_TITLES: Mapping[str, str] = {
    "invalid-input": "The input cannot be used",
    "invalid-row": "A row cannot be used",
    "invalid-label": "A label cannot be used",
    "invalid-request": "The request is not what this route takes",
    "too-large": "The request is beyond a limit",
    "head-too-large": "The head of the request is beyond a limit",
    "too-slow": "The request did not come in time",
    "unsupported-media": "This kind of content is not known here",
    "unknown-model": "There is no such model",
    "unknown-version": "There is no such version",
    "unknown-prediction": "There is no such prediction",
    "not-found": "There is nothing at this address",
    "method-not-allowed": "This address does not take that method",
    "conflicting-label": "A label contradicts an earlier one",
    "unauthorized": "A valid token is needed",
    "forbidden": "That is not allowed",
    "sign-in-refused": "You are not signed in",
    "rate-limited": "Too many requests",
    "overloaded": "More is asked than can be answered",
    "learner-failed": "The model's own code failed",
    "artifact-refused": "A stored version cannot be used",
    "artifact-suspect": "A stored version is not what was registered",
    "wrong-encoder": "The frozen encoder of a version is not here, or is another",
    "nothing-served": "Nothing served then",
    "ledger-broken": "A line of the ledger is not what was written",
    "refused": "The policy or the state forbids it",
    "stale-generation": "Somebody else moved the routing first",
    "gate-refused": "The version has no passing verdict",
    "no-target": "There is nothing to roll back to",
    "no-copy": "There is no whole copy here",
    "nothing-to-restore": "MLflow has it, whole",
    "not-proven": "The traffic does not follow the routing",
    "unavailable": "A part is away",
    "delivery-failed": "An alert did not arrive",
    "mlflow-refused": "MLflow refused",
    "internal": "The gateway failed",
}


def status_of(code: str) -> int:
    """The HTTP status of an error code."""
    return STATUS.get(code, 500)


def problem(error: HomeostatError) -> dict[str, Any]:
    """An error as a problem document, its own fields included."""
    document = {name: _plain(value) for name, value in error.fields.items()}
    document |= {
        "type": f"urn:homeostat:{error.code}",
        "code": error.code,
        "title": _TITLES.get(error.code, "The request failed"),
        "status": status_of(error.code),
        "detail": error.message,
        "remedy": error.remedy,
    }
    return document


def headers_of(error: HomeostatError) -> dict[str, str]:
    """What the status of an error asks for besides its body."""
    status = status_of(error.code)
    if status == 401:
        return {"www-authenticate": "Bearer"}
    if status == 405:
        return {"allow": str(error.fields.get("allow", ""))}
    if status in (429, 503):
        return {"retry-after": str(error.fields.get("retry_after", RETRY_AFTER_SECONDS))}
    return {}


def encode_problem(error: HomeostatError) -> bytes:
    """The body of an error's answer."""
    return msgspec.json.encode(problem(error))


def internal(error: Exception) -> HomeostatError:
    """An error of ours that nobody foresaw: typed, and without internals for the caller.

    The text of the cause goes to the log of the gateway, never over HTTP.
    """
    wrapped = HomeostatError(
        f"The gateway failed with {type(error).__name__}; its log has the cause.",
        remedy="Look into the gateway's log, and report it if it is a bug.",
    )
    wrapped.__cause__ = error
    return wrapped


def _plain(value: object) -> object:
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)
