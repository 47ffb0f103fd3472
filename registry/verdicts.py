"""Verdicts: all gates' outcome on one artifact, as JSON with a hash, kept for each version.

A verdict is bound to the digest of the artifact that was judged: on another artifact it says
nothing. Its hash is that of its canonical JSON, so an approval names exactly what was approved.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from homeostat.errors import ArtifactError
from registry.json_text import canonical
from registry.tables import VerdictRow

SCHEMA = 2
MAX_TAGS = 50
_NO_KEY = re.compile(r"[^/\w.\- ]")  # what MLflow takes in no tag's key


@dataclass(frozen=True)
class GateFigure:
    """One gate: the figure, the bound it was held to, and why it passed or not.

    `details` is plain JSON behind the figure: what each slice lost, for one.
    """

    name: str
    figure: float
    bound: float
    passed: bool
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """All gates' outcome for the artifact of that digest, and for no other.

    Args:
        passed: Every gate passed.
        figures: Of each gate.
        digest: Of the artifact that was judged.
        error_rate: Of the paired tests; see `registry.gates` for what it bounds.
        policy: The gates' policy that it was judged by, as plain JSON.
        at: When.
    """

    passed: bool
    figures: tuple[GateFigure, ...]
    digest: str
    error_rate: float = 0.0
    policy: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as it is stored and shown."""
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "digest": self.digest,
            "error_rate": self.error_rate,
            "policy": dict(self.policy),
            "at": self.at.isoformat() if self.at else None,
            "figures": [asdict(figure) for figure in self.figures],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        """What `to_json` gave."""
        return cls(
            bool(value["passed"]),
            tuple(GateFigure(**figure) for figure in value["figures"]),
            str(value["digest"]),
            float(value["error_rate"]),
            dict(value["policy"]),
            datetime.fromisoformat(value["at"]) if value["at"] else None,
        )

    @property
    def hash(self) -> str:
        """SHA-256 of its canonical JSON: what an approval names."""
        return _hash(canonical(self.to_json()))

    @property
    def reason(self) -> str:
        """Why it failed, gate by gate; or that every gate passed."""
        refused = [f"{gate.name}: {gate.reason}" for gate in self.figures if not gate.passed]
        return " ".join(refused) or "Every gate passed."


def verdict_tags(verdict: Verdict) -> dict[str, str]:
    """What MLflow's page says of a verdict: its outcome, and each gate's figure and bound."""
    tags = {"lifecycle.verdict": "passed" if verdict.passed else "refused"}
    for gate in verdict.figures[:MAX_TAGS]:
        outcome = "passed" if gate.passed else "REFUSED"
        key = _NO_KEY.sub("_", f"gate.{gate.name}")
        tags[key] = f"{outcome}: {gate.figure:.4g} (bound {gate.bound:.4g})"
    return tags


def record_verdict(
    session: Session, model: str, version: int, verdict: Verdict, at: datetime
) -> None:
    """Keep what the gates said of a version; the newest counts."""
    document = canonical(verdict.to_json())
    session.add(
        VerdictRow(
            model=model,
            version=version,
            digest=verdict.digest,
            passed=verdict.passed,
            document=document,
            hash=_hash(document),
            at=at,
        )
    )
    session.flush()


def verdict_for(session: Session, model: str, version: int) -> Verdict | None:
    """The newest verdict on a version, or None where it was never judged.

    Raises:
        ArtifactError: what the database holds is not what was recorded.
    """
    query = (
        select(VerdictRow)
        .where(VerdictRow.model == model, VerdictRow.version == version)
        .order_by(VerdictRow.id.desc())
        .limit(1)
    )
    row = session.scalar(query)
    if row is None:
        return None
    verdict = Verdict.from_json(json.loads(row.document))
    told = (row.hash, row.digest, row.passed)
    if told != (_hash(row.document), verdict.digest, verdict.passed):
        raise ArtifactError(
            f"The verdict on version {version} of '{model}' was changed after it was recorded.",
            remedy="Do not trust this database; judge the version again.",
            model=model,
            version=version,
        )
    return verdict


def _hash(document: str) -> str:
    return hashlib.sha256(document.encode()).hexdigest()
