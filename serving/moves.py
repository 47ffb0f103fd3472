"""Changes of the routing: load first, then write by compare-and-swap, then swap in memory.

Every function here ends with the gateway serving by what it wrote, or raises with nothing
changed. What a move was the answer to is told once answers show it (`serving.proof`); MLflow's
aliases and tags follow then as well (`serving.reconcile`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from homeostat.errors import GateRefused, NoTarget
from registry.claims import MITIGATES, RESOLVES, UNDO, answered, claim
from registry.promotion import (
    Decision,
    decide,
    grant_override,
    promote,
    quarantine,
    release_quarantine,
    rollback,
)
from registry.routing import Phase, Routing, current_routing, expect, write_routing
from serving.advice import promote_command
from serving.lease import Acting
from serving.parts import Parts
from serving.runtime import Loaded, check_recent
from serving.settling import settles
from serving.targets import BEGINNING, find_target, go_back

API_ACTOR = "API"
MLFLOW_ACTOR = "unknown (MLflow)"  # MLflow does not say who moved an alias
ROLLOUT_ACTOR = "rollout"

logger = logging.getLogger(__name__)


class Moves:
    """All moves of traffic but the guard's own.

    Args:
        parts: The gateway's.
        acting: Opens the transactions that write: the lease's for what the controller decides;
            plain ones for what a person asks, who may ask any gateway.
    """

    def __init__(self, parts: Parts, acting: Acting | None = None) -> None:
        self._parts = parts
        self._acting = acting or parts.writing

    def prepare(self, model: str, version: int) -> Loaded:
        """Load, verify and warm a version, and check it on its golden and on recent rows.

        Raises:
            HomeostatError: why it cannot serve.
        """
        loaded = self._parts.library.load(model, version)
        split = self._parts.fleet.get(model)
        champion = split.champion if split else None
        check_recent(loaded, self._parts.watches[model].recent_rows, champion)
        return loaded

    def judge(self, model: str, version: int, digest: str) -> Decision:
        """Whether gates, overrides and quarantine let a version take traffic.

        Args:
            model: The model's name.
            version: Its number.
            digest: That it was registered with, and that its files will be checked against.
        """
        parts = self._parts
        with parts.reading() as session:
            return decide(session, parts.policy(model), model, version, digest, parts.clock())

    def request(
        self,
        model: str,
        version: int,
        actor: str,
        reason: str,
        *,
        override: bool = False,
        expires_hours: float = 24.0,
        expected: int | None = None,
    ) -> Routing:
        """Make a version champion because a person asked through the API.

        With `override` the gates are set aside until it expires, and a quarantine is lifted: this
        is how a rollback is undone. With `expected` it is done only while that generation serves.

        Raises:
            StaleGeneration: another generation than `expected` serves.
            HomeostatError: it cannot serve, or may not.
        """
        parts = self._parts
        policy = parts.policy(model)
        loaded = self.prepare(model, version)
        now = parts.clock()
        with self._acting() as session:
            if expected is not None:
                expect(session, model, expected)
            if override:
                until = now + timedelta(hours=expires_hours)
                grant_override(session, model, version, actor, reason, until, now)
                release_quarantine(
                    session,
                    model,
                    loaded.digest,
                    now,
                    actor=actor,
                    reason=reason,
                    version=version,
                )
            decision = decide(session, policy, model, version, loaded.digest, now)
            if decision.action == "restore":
                raise GateRefused(
                    f"Version {version} of '{model}' may not take traffic. {decision.reason}",
                    remedy="Mend the version, or promote it with an override, a reason and an end.",
                    model=model,
                    version=version,
                )
            before = current_routing(session, model)
            routing = promote(
                session,
                model,
                version,
                actor=actor,
                reason=reason,
                evidence={
                    "decision": decision.reason,
                    **settles(session, policy, model, version, now),
                },
                now=now,
                digest=loaded.digest,
                expected=expected,
            )
            if before is not None and before.generation == routing.generation:  # as it was
                settle = {RESOLVES: answered(session, model)}
                told = replace(routing, actor=actor, reason=reason, evidence=settle)
                claim(session, told, policy.alerts, now)
        self._serve(routing, loaded)
        return routing

    def accept(
        self, loaded: Loaded, before: Routing | None, decision: Decision, actor: str, reason: str
    ) -> Routing:
        """Make a judged version champion.

        Raises:
            StaleGeneration: somebody moved the routing since `before`.
        """
        return self._promote(loaded, before, actor, reason, {"decision": decision.reason})

    def finish_trial(
        self,
        loaded: Loaded,
        before: Routing,
        reason: str,
        figures: Mapping[str, Any],
        actor: str = ROLLOUT_ACTOR,
    ) -> Routing:
        """Make the challenger champion: it has earned it, or a person skips the rest.

        Raises:
            StaleGeneration: somebody moved the routing since `before`.
        """
        return self._promote(loaded, before, actor, reason, figures)

    def start_trial(self, loaded: Loaded, before: Routing, actor: str, reason: str) -> Routing:
        """Let a judged version answer everything unseen.

        Raises:
            StaleGeneration: somebody moved the routing since `before`.
        """
        return self._trial(loaded, before, "shadow", actor, reason, {})

    def start_canary(
        self,
        loaded: Loaded,
        before: Routing,
        reason: str,
        figures: Mapping[str, Any],
        actor: str = ROLLOUT_ACTOR,
        share: float | None = None,
    ) -> Routing:
        """Let the challenger answer its share of callers: the policy's, or another one.

        Raises:
            StaleGeneration: somebody moved the routing since `before`.
        """
        return self._trial(loaded, before, "canary", actor, reason, figures, share)

    def abort_trial(
        self, before: Routing, actor: str, reason: str, figures: Mapping[str, Any], *, bar: bool
    ) -> Routing:
        """End a trial with the champion as it was.

        Args:
            before: The routing with the trial.
            actor: Who ends it.
            reason: Why.
            figures: Behind it.
            bar: Whether the challenger's artifact goes into quarantine.

        Raises:
            StaleGeneration: somebody moved the routing since `before`.
        """
        parts, model = self._parts, before.model
        now = parts.clock()
        split = parts.fleet.get(model)
        with self._acting() as session:
            routing = write_routing(
                session,
                model,
                before.generation,
                champion=before.champion,
                challenger=None,
                standby=before.standby,
                phase="steady",
                canary_share=0.0,
                actor=actor,
                reason=reason,
                evidence=figures,
                at=now,
            )
            if bar and split is not None and split.challenger is not None:
                barred = split.challenger
                quarantine(
                    session,
                    model,
                    barred.digest,
                    reason,
                    now,
                    actor=actor,
                    version=barred.version,
                )
        parts.obey(routing)
        parts.wake.set()
        return routing

    def roll_back(
        self, model: str, actor: str, reason: str, expected: int | None = None
    ) -> Routing:
        """Give traffic back to the standby because a person asked.

        Where there is none that may answer, to the newest version that does well on the newest
        labelled rows (`serving.targets`).

        Raises:
            NoTarget: there is none of these.
            StaleGeneration: another generation than `expected` serves.
        """
        parts = self._parts
        now = parts.clock()
        try:
            with self._acting() as session:
                before = current_routing(session, model)
                evidence: dict[str, Any] = {}
                if before is not None:
                    evidence[MITIGATES] = answered(session, model, before.champion)
                    evidence[UNDO] = promote_command(model, before.champion)
                routing = rollback(session, model, actor, reason, evidence, now, expected)
        except NoTarget as error:
            target = find_target(parts, model, BEGINNING, better=False)
            if target is None:
                raise NoTarget(
                    f"{error.message} None of its last versions was shown to do well on the newest"
                    " labelled rows.",
                    remedy=error.remedy,
                    model=model,
                ) from error
            return go_back(
                parts, self._acting, target, actor, f"{reason} {target.said()}", expected
            )
        parts.obey(routing)
        parts.metrics.rollbacks.labels(model).inc()
        parts.wake.set()
        return routing

    def _promote(
        self,
        loaded: Loaded,
        before: Routing | None,
        actor: str,
        reason: str,
        figures: Mapping[str, Any],
    ) -> Routing:
        parts, model = self._parts, loaded.model
        now = parts.clock()
        with self._acting() as session:
            routing = promote(
                session,
                model,
                loaded.version,
                actor=actor,
                reason=reason,
                evidence={
                    **figures,
                    **settles(session, parts.policy(model), model, loaded.version, now),
                },
                now=now,
                digest=loaded.digest,
                expected=before.generation if before else 0,
            )
        self._serve(routing, loaded)
        return routing

    def _trial(
        self,
        loaded: Loaded,
        before: Routing,
        phase: Phase,
        actor: str,
        reason: str,
        figures: Mapping[str, Any],
        share: float | None = None,
    ) -> Routing:
        parts, model = self._parts, loaded.model
        given = parts.policy(model).rollout.canary_share if share is None else share
        with self._acting() as session:
            routing = write_routing(
                session,
                model,
                before.generation,
                champion=before.champion,
                challenger=loaded.version,
                standby=before.standby if before.standby != loaded.version else None,
                phase=phase,
                canary_share=given if phase == "canary" else 0.0,
                actor=actor,
                reason=reason,
                evidence=figures,
                at=parts.clock(),
                digests={loaded.version: loaded.digest},
            )
        self._serve(routing, loaded)
        return routing

    def _serve(self, routing: Routing, loaded: Loaded) -> None:
        self._parts.obey(routing, {loaded.version: loaded.digest})
        self._parts.wake.set()
