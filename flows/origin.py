"""Which work a candidate comes from, whichever flow does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flows.learning import Champion


@dataclass(frozen=True)
class Origin:
    """Which work made a candidate.

    Args:
        flow: `pipeline` or `retrain`.
        model: The registered model's name.
        key: Of the work.
        made_by: In a sentence, for people: from what, why.
        at: When.
        source: Of its data: `log`, `builtin:NAME`, or the path of a file.
        span: When the oldest and the newest of its rows were predicted; None where it is no log.
        facts: Plain JSON worth keeping with the run: the data, the incident, the time span.
        parent: The version that its weights go on from (`continual_of`), or None.
        regime_key: The incident (or the retrain, where there is none) that opened the regime
            it learnt; empty for the policy's own data set.
    """

    flow: str
    model: str
    key: str
    made_by: str
    at: datetime
    source: str
    span: tuple[datetime, datetime] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    parent: Champion | None = None
    regime_key: str = ""
