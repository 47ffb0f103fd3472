"""What signals lead to: incidents, and a retrain once there is enough to learn from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

import httpx

from homeostat.addresses import has_certificate
from homeostat.errors import HomeostatError, Unavailable
from monitoring.signals import Signal, Triage, triage
from registry.incidents import Incident, inform, note
from registry.retrains import (
    VAIN_KEPT,
    Retrain,
    finish_retrain,
    in_vain,
    request_retrain,
    retrain_history,
    retrain_running,
    start_retrain,
)
from registry.routing import Routing
from serving.advice import adopted_step, next_step, retrain_command
from serving.guard import Guard
from serving.lease import Acting
from serving.parts import Parts
from serving.recovering import Recoverer
from serving.telling import Teller

DEPLOYMENT = "retrain/retrain"
TIMEOUT_SECONDS = 5.0
LONGEST_BACK_OFF = timedelta(seconds=60)
DEAD_STATES = frozenset({"FAILED", "CRASHED", "CANCELLED"})

logger = logging.getLogger(__name__)


class Prefect:
    """The few calls of Prefect's REST API that the gateway needs.

    Args:
        address: Of the API, ending in /api.
    """

    def __init__(self, address: str) -> None:
        self._client = httpx.Client(
            base_url=address,
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            verify=has_certificate(address),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def create_run(self, deployment: str, parameters: Mapping[str, object], key: str) -> str:
        """Ask for a flow run; the same key gives the same run.

        Returns:
            The id of the flow run.

        Raises:
            Unavailable: Prefect is away, or knows no such deployment.
        """
        found = self._call("GET", f"/deployments/name/{deployment}")
        body = {"parameters": parameters, "idempotency_key": key}
        run = self._call("POST", f"/deployments/{found['id']}/create_flow_run", body)
        return str(run["id"])

    def state(self, run_id: str) -> str:
        """The state of a flow run in Prefect's words: RUNNING, COMPLETED, FAILED, ...

        Raises:
            Unavailable: Prefect is away, or knows no such run.
        """
        return str(self._call("GET", f"/flow_runs/{run_id}").get("state_type") or "PENDING")

    def _call(self, method: str, path: str, body: object = None) -> dict[str, object]:
        try:
            answer = self._client.request(method, path, json=body)
            answer.raise_for_status()
            found: dict[str, object] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(
                f"Prefect does not answer {method} {path}: {error}.",
                remedy="See that it runs, and that our deployments are served.",
            ) from error
        return found


class Responder:
    """Acts on signals by the policy.

    Args:
        parts: The gateway's.
        guard: Knows where a rollback is wanted and cannot be.
        teller: Opens incidents.
        acting: Opens the transactions that write.
        prefect: Where retrains run.
        recoverer: Knows what is still to be learnt.
    """

    def __init__(
        self,
        parts: Parts,
        guard: Guard,
        teller: Teller,
        acting: Acting,
        prefect: Prefect,
        recoverer: Recoverer,
    ) -> None:
        self._parts = parts
        self._recoverer = recoverer
        self._guard = guard
        self._teller = teller
        self._acting = acting
        self._prefect = prefect
        self._told: set[tuple[str, int, str, str]] = set()
        self._waits: dict[str, tuple[datetime, timedelta]] = {}

    def signals(self, model: str, routing: Routing) -> None:
        """Open an incident for what the champion's detectors say, once each and at each severity.

        Inputs that moved are a ticket; that the feed is broken may show only rows later, and pages.

        Also for a rollback that is due, where the policy or a missing standby keeps the guard
        from it.

        Raises:
            Refused: the lease was lost.
            Unavailable: the database is away; the signal stands and is told later.
        """
        split = self._parts.fleet.get(model)
        if split is None or split.generation != routing.generation:
            return
        policy, address = self._parts.policy(model), self._parts.settings.prefect_address
        present = self._present(model)
        blocked = self._guard.blocked.get(model, "")
        back = self._parts.watches[model].rollback_signal()
        if back is not None and (policy.mode != "act" or blocked):
            present.append(back)
        for signal in present:
            verdict = self._triage(model, signal)
            key = (model, routing.champion, signal.kind, verdict.severity)
            if key in self._told:
                continue
            step = next_step(model, policy, signal, verdict, address, blocked)
            if split.champion.apart and verdict.action == "retrain":
                step = adopted_step(model)
            self._teller.open(model, routing.champion, signal, verdict, next_step=step)
            self._told.add(key)
            logger.warning("%s:%d: %s", model, routing.champion, signal.kind)
        if not present:
            # Another champion, or the same one promoted again: its signals are news.
            self._told = {one for one in self._told if one[0] != model}

    def retrain(self, model: str, routing: Routing) -> None:
        """Ask Prefect for a retrain, when one is due by the rule (`serving.recovering`).

        Raises:
            Unavailable: the database is away.
        """
        policy, now = self._parts.policy(model), self._parts.clock()
        split = self._parts.fleet.get(model)
        if split is None or split.champion.apart:  # what was adopted cannot be trained
            return
        self._watch_run(model)
        if policy.mode != "act" or routing.challenger is not None or not self._due(model, now):
            return
        signals = {signal.kind: signal for signal in self._present(model)}
        drift = signals.get("input-drift")
        if drift is not None and self._triage(model, drift).action == "page":
            return  # a broken feed is not to be learnt from
        incident = self._recoverer.due(model)
        if incident is None:
            return
        if self._is_broken(model, routing, incident, now):
            return
        with self._acting() as session:
            ended = [
                one
                for one in retrain_history(session, model)
                if one.incident_id == incident.id and one.ended_at is not None
            ]
            key = f"{incident.id}/{len(ended) + 1}"
            retrain = request_retrain(session, model, incident.id, key, policy.retrain, now)
        if retrain is not None and not retrain.flow_run_id:
            self._start(model, incident, retrain)

    def _is_broken(self, model: str, routing: Routing, incident: Incident, now: datetime) -> bool:
        """Whether so many retrains were in vain that the next one is for a person; told once."""
        policy = self._parts.policy(model)
        with self._parts.reading() as session:
            vain = in_vain(session, model, routing.champion, now)
        if len(vain) < policy.retrain.max_in_vain:
            return False
        until = min(one.ended_at for one in vain if one.ended_at) + VAIN_KEPT
        text = (
            f"No retrain starts by itself before {until:%Y-%m-%d %H:%M} UTC: the last {len(vain)}"
            f" were in vain. The newest: {vain[0].outcome}"
        )
        if not any(event.text == text for event in incident.events):
            command = retrain_command(model, self._parts.settings.prefect_address)
            step = f"somebody has to look; to retrain by hand, and go on by itself then: {command}"
            with self._acting() as session:
                inform(session, incident.id, text, now, policy.alerts, next_step=step)
        return True

    def _start(self, model: str, incident: Incident, retrain: Retrain) -> None:
        parameters = {"model": model, "incident_id": incident.id, "key": retrain.key}
        now = self._parts.clock()
        try:
            run = self._prefect.create_run(DEPLOYMENT, parameters, retrain.key)
        except Unavailable as error:
            self._parts.metrics.part_up.labels("prefect").set(0)
            _, wait = self._waits.get(model, (now, timedelta(seconds=0.5)))
            wait = min(wait * 2, LONGEST_BACK_OFF)
            if model not in self._waits:
                self._note(incident, f"The retrain waits for Prefect. {error.message}")
            self._waits[model] = (now + wait, wait)
            return
        self._parts.metrics.part_up.labels("prefect").set(1)
        self._waits.pop(model, None)
        with self._acting() as session:
            start_retrain(session, retrain.key, run)
        self._note(incident, f"A retrain runs in Prefect as {run}.")
        logger.info("%s: retrain %s runs as %s", model, retrain.key, run)

    def _watch_run(self, model: str) -> None:
        """End the retrain whose flow run died without a word, so that the next may run."""
        with self._parts.reading() as session:
            running = retrain_running(session, model)
        if running is None or not running.flow_run_id:
            return
        try:
            state = self._prefect.state(running.flow_run_id)
        except Unavailable:
            self._parts.metrics.part_up.labels("prefect").set(0)
            return
        self._parts.metrics.part_up.labels("prefect").set(1)
        if state not in DEAD_STATES:
            return
        with self._acting() as session:
            finish_retrain(session, running.key, state.lower(), self._parts.clock())
            if running.incident_id:
                text = f"The retrain {running.flow_run_id} ended as {state.lower()}."
                note(session, running.incident_id, text, self._parts.clock())

    def _due(self, model: str, now: datetime) -> bool:
        wait = self._waits.get(model)
        return wait is None or now >= wait[0]

    def _present(self, model: str) -> list[Signal]:
        return self._parts.watches[model].champion_signals()

    def _triage(self, model: str, signal: Signal) -> Triage:
        split = self._parts.fleet.get(model)
        return triage(
            signal,
            mode=self._parts.policy(model).mode,
            has_standby=split is not None
            and split.standby is not None
            and model not in self._guard.blocked,
        )

    def _note(self, incident: Incident, text: str) -> None:
        try:
            with self._acting() as session:
                note(session, incident.id, text, self._parts.clock())
        except HomeostatError as error:
            logger.warning("a note on %s was lost: %s", incident.key, error)
