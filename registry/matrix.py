"""The matrix of a model's versions: what each is, costs and is worth, from MLflow and the database.

No figure stands in it that no run measured: what was never measured is None. Nothing here asks
the gateway, so the matrix is there while that is down.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from registry.lineage_record import Cost
from registry.lineage_records import Kept, lineages
from registry.permits import quarantined
from registry.routing import Routing, current_routing
from registry.verdicts import Verdict, verdict_for
from registry.version_info import NUMBER_TAG, VersionInfo

ROLES = ("champion", "challenger", "standby")
_ACCURACY = re.compile(r"regime_(\d+)_accuracy")
_CHAMPIONS = re.compile(r"regime_(\d+)_champion_accuracy")


@dataclass(frozen=True)
class Standing:
    """One version's row.

    Args:
        version: Its number in MLflow.
        number: Major.minor.patch; empty where none was given.
        digest: Of its files; empty for one that was registered without.
        role: What it does now: `champion`, `challenger`, `standby`, or empty.
        state: What became of it, as its tags in MLflow say.
        reason: Why.
        verdict: Of its gates; None where they never judged it.
        barred: Why it is in quarantine; empty: it is not.
        weights: Count of its parameters.
        size_bytes: Of its files.
        latency_p50_ms: Of one row, the median, as the serving code was measured.
        latency_p99_ms: The same, 99 of 100 are quicker.
        throughput_rows_s: Rows a second.
        memory_bytes: Resident memory that it adds.
        accuracy: 1 - mean loss on each regime's held-out rows, by its number.
        created_at: When it was registered.
        cost: What its training took; None where no lineage says.
    """

    version: int
    number: str
    digest: str
    role: str = ""
    state: str = ""
    reason: str = ""
    verdict: Verdict | None = None
    barred: str = ""
    weights: int | None = None
    size_bytes: int | None = None
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    throughput_rows_s: float | None = None
    memory_bytes: int | None = None
    accuracy: Mapping[int, float] = field(default_factory=dict)
    created_at: datetime | None = None
    cost: Cost | None = None


def matrix(
    session: Session,
    model: str,
    listed: Sequence[VersionInfo],
    metrics: Mapping[int, Mapping[str, float]],
) -> list[Standing]:
    """A row for each version, oldest first.

    Args:
        session: Of the lifecycle database.
        model: The registered model's name.
        listed: Its versions as MLflow lists them.
        metrics: Of each version's run, by version; none where its run is gone.
    """
    kept = {each.version: each for each in lineages(session, model)}
    roles = _roles(current_routing(session, model))
    accuracy = _accuracies(kept, metrics)
    rows = []
    for info in listed:
        mine, figures = kept.get(info.version), metrics.get(info.version, {})
        barred = quarantined(session, model, info.digest) if info.digest else None
        rows.append(
            Standing(
                version=info.version,
                number=str(mine.number) if mine else info.tags.get(NUMBER_TAG, ""),
                digest=info.digest,
                role=roles.get(info.version, ""),
                state=info.tags.get("lifecycle.state", ""),
                reason=info.tags.get("lifecycle.reason", ""),
                verdict=verdict_for(session, model, info.version),
                barred=barred.reason if barred else "",
                weights=mine.record.weights if mine else _whole(figures.get("parameters")),
                size_bytes=_whole(figures.get("size_bytes")) or _size(mine),
                latency_p50_ms=figures.get("latency_p50_ms"),
                latency_p99_ms=figures.get("latency_p99_ms"),
                throughput_rows_s=figures.get("throughput_rows_s"),
                # The probe counts in units of 1,048,576 bytes.
                memory_bytes=_whole(figures.get("memory_mb"), 1024 * 1024),
                accuracy=accuracy.get(info.version, {}),
                created_at=info.created_at,
                cost=mine.record.cost if mine else None,
            )
        )
    return rows


def _roles(routing: Routing | None) -> dict[int, str]:
    found = {getattr(routing, role): role for role in reversed(ROLES)} if routing else {}
    return {version: role for version, role in found.items() if version is not None}


def _accuracies(
    kept: Mapping[int | None, Kept], metrics: Mapping[int, Mapping[str, float]]
) -> dict[int, dict[int, float]]:
    """By version and regime; also where a later version was judged beside it on the same rows."""
    found: dict[int, dict[int, float]] = {version: {} for version in metrics}
    for version, figures in sorted(metrics.items()):
        for name, value in figures.items():
            if hit := _ACCURACY.fullmatch(name):
                found[version][int(hit[1])] = value
    for version, figures in sorted(metrics.items()):
        beside = kept[version].record.champion if version in kept else None
        if beside is None:
            continue
        for name, value in figures.items():
            if hit := _CHAMPIONS.fullmatch(name):
                found.setdefault(beside.version, {}).setdefault(int(hit[1]), value)
    return {version: dict(sorted(each.items())) for version, each in found.items()}


def _size(kept: Kept | None) -> int | None:
    return sum(file.bytes for file in kept.record.files.values()) if kept else None


def _whole(value: float | None, unit: int = 1) -> int | None:
    return None if value is None else round(value * unit)
