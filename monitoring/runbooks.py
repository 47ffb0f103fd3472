"""Which runbook an incident has: one page in docs/runbooks for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeostat.shipped import shipped

FOLDER = "docs/runbooks"  # in the repository: what is told where no address is set

# Of a kind whose incidents have more than one cause, `kind-cause` where such a page is listed.
RUNBOOKS = frozenset(
    {
        "input-drift",
        "data-break",
        "loss",
        "worse-than-standby",
        "hard-failure",
        "registry",
        "registry-artifact",
        "registry-copy",
        "registry-log",
        "registry-mlflow",
        "registry-model",
        "registry-pointer",
        "registry-process",
        "registry-rollout",
        "registry-traffic",
        "registry-version",
        "silence",
        "silence-labels",
        "silence-monitor",
        "silence-predictions",
        "alerts-wait",  # these two are of Prometheus' rules: docs/ops/homeostat.rules.yml
        "gateway-down",
    }
)


def runbook_of(kind: str, details: Mapping[str, Any]) -> str:
    """The name of the runbook of an incident.

    Args:
        kind: Of its gravest signal.
        details: Of the incident: `subject`, else `detector`, names the cause; a `verdict` of
            `data-break` has a page of its own.

    Returns:
        A name of `RUNBOOKS`; for a kind that has none, `registry`.
    """
    if dict(details.get("verdict") or {}).get("verdict") == "data-break":
        return "data-break"
    named = f"{kind}-{details.get('subject') or details.get('detector')}"
    return next((name for name in (named, kind) if name in RUNBOOKS), "registry")


def runbook_text(name: str) -> str | None:
    """A runbook's Markdown, of the repository or as it was installed; None where there is neither.

    Args:
        name: Of `RUNBOOKS`.

    Raises:
        KeyError: there is none of that name.
    """
    if name not in RUNBOOKS:
        raise KeyError(name)
    path = shipped(FOLDER, f"{name}.md") / f"{name}.md"
    return path.read_text() if path.is_file() else None


def runbook_address(name: str, base: str = "") -> str:
    """Where a runbook is to be read.

    Args:
        name: Of the runbook.
        base: Where the pages are published; empty: the path in the repository.
    """
    return f"{(base or FOLDER).rstrip('/')}/{name}.md"
