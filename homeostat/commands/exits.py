"""The exit codes: one table, documented in docs/commands.md and docs/errors.md."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

OK = 0
UNEXPECTED = 1
USAGE = 2
INPUT = 3
REFUSED = 4
UNAVAILABLE = 5
SETTINGS = 6
REMAINS = 7

MEANINGS: Mapping[int, str] = MappingProxyType(
    {
        OK: "done",
        UNEXPECTED: "something nobody foresaw, or a demo act that failed",
        USAGE: "a command or an option that is not one",
        INPUT: "what was given cannot be used: rows, labels, data, names, a learner",
        REFUSED: "the policy, the state or the token forbids it",
        UNAVAILABLE: "a part is away",
        SETTINGS: "settings that cannot be meant, or a part that could not be started",
        REMAINS: "rows that were to be forgotten are left, or a place could not be searched",
    }
)

# By the stable code of the error, as over HTTP.
BY_ERROR: Mapping[str, int] = MappingProxyType(
    {
        "internal": UNEXPECTED,
        "act-failed": UNEXPECTED,
        "invalid-input": INPUT,
        "invalid-row": INPUT,
        "invalid-label": INPUT,
        "invalid-request": INPUT,
        "too-large": INPUT,
        "head-too-large": INPUT,
        "too-slow": INPUT,
        "unsupported-media": INPUT,
        "invalid-data": INPUT,
        "unknown-model": INPUT,
        "unknown-version": INPUT,
        "unknown-prediction": INPUT,
        "not-found": INPUT,
        "method-not-allowed": INPUT,
        "learner-failed": INPUT,
        "nothing-served": INPUT,
        "conflicting-label": REFUSED,
        "unauthorized": REFUSED,
        "forbidden": REFUSED,
        "sign-in-refused": REFUSED,
        "rate-limited": UNAVAILABLE,
        "overloaded": UNAVAILABLE,
        "artifact-refused": REFUSED,
        "artifact-suspect": REFUSED,
        "wrong-encoder": REFUSED,
        "ledger-broken": REFUSED,
        "refused": REFUSED,
        "stale-generation": REFUSED,
        "gate-refused": REFUSED,
        "no-target": REFUSED,
        "no-copy": REFUSED,
        "nothing-to-restore": REFUSED,
        "unavailable": UNAVAILABLE,
        "not-proven": UNAVAILABLE,
        "delivery-failed": UNAVAILABLE,
        "mlflow-refused": UNAVAILABLE,
        "invalid-settings": SETTINGS,
        "cannot-start": SETTINGS,
    }
)


def exit_code(code: str) -> int:
    """The exit code of an error's code."""
    return BY_ERROR.get(code, UNEXPECTED)
