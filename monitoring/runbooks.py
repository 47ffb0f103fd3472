"""Which runbook an incident has: one page in docs/runbooks for each kind."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = "docs/runbooks"  # in the repository: what is told where no address is set
INSTALLED = "share/homeostat/runbooks"  # below the environment, where a wheel was installed

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
    places = (Path(__file__).resolve().parent.parent / FOLDER, Path(sys.prefix) / INSTALLED)
    found = next((path for place in places if (path := place / f"{name}.md").is_file()), None)
    return found.read_text() if found is not None else None


def runbook_address(name: str, base: str = "") -> str:
    """Where a runbook is to be read.

    Args:
        name: Of the runbook.
        base: Where the pages are published; empty: the path in the repository.
    """
    return f"{(base or FOLDER).rstrip('/')}/{name}.md"
