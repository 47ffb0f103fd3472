"""Gates on what the serving code itself measured of a candidate (`python -m serving.probe`)."""

from __future__ import annotations

from registry.gate_evidence import Evidence
from registry.verdicts import GateFigure


def golden(evidence: Evidence) -> GateFigure | None:
    """The serving code loads it and it answers its golden rows as when it was made."""
    measured = evidence.measured
    if measured is None:
        return None
    if measured.failure:
        return GateFigure("golden", 0.0, 1.0, False, measured.failure)
    reason = f"Loaded by the serving code; {measured.rows} golden rows answered alike."
    return GateFigure("golden", 1.0, 1.0, True, reason)


def latency(evidence: Evidence) -> GateFigure | None:
    """99 of 100 single rows are answered by the serving code within the policy's time."""
    measured, bound = evidence.measured, evidence.policy.max_latency_ms
    if measured is None or measured.failure or bound is None:
        return None
    figure = measured.latency_p99_ms
    passed = figure <= bound
    return GateFigure(
        "latency",
        figure,
        bound,
        passed,
        f"99 of 100 single rows within {figure:.3g} ms (half within"
        f" {measured.latency_p50_ms:.3g} ms); {'no more' if passed else 'more'} than {bound:g} ms.",
    )


def memory(evidence: Evidence) -> GateFigure | None:
    """What it adds to the resident memory of the serving process."""
    measured, bound = evidence.measured, evidence.policy.max_memory_mb
    if measured is None or measured.failure or bound is None:
        return None
    passed = measured.memory_mb <= bound
    return GateFigure(
        "memory",
        measured.memory_mb,
        bound,
        passed,
        f"Adds {measured.memory_mb:.1f} MiB to the gateway;"
        f" {'no more' if passed else 'more'} than {bound:g} MiB.",
    )
