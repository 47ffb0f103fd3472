"""After a change: learnt again, and once more, until the loss of before is reached.

The rule is `monitoring.recovery`, as in a backtest; what it decides by is in the database
(`registry.recoveries`), so whichever gateway holds the lease goes on. Here its decisions become
lines of the incident that the change opened, and that stays unresolved meanwhile.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from monitoring.recovery import Recovery
from registry.claims import RECOVERS, RESOLVES
from registry.held_labels import count_learnable
from registry.incident_records import ASIDE, change_of
from registry.incidents import (
    Incident,
    find_incident,
    inform,
    note,
    open_incidents,
    resolve,
)
from registry.labels import count_labelled
from registry.losses import mean_loss
from registry.recoveries import (
    AGAIN,
    RecoveryRecord,
    end_recovery,
    learnt_until,
    on_trial,
    open_recovery,
    progress,
    retrains_that_learnt,
    standing_recovery,
)
from registry.routing import Routing, current_routing
from serving.advice import recovery_step, retrain_command
from serving.lease import Acting
from serving.parts import Parts

OVER = "The incident that began it is over."
SCREENED_EVERY = timedelta(seconds=10)

logger = logging.getLogger(__name__)


class Recoverer:
    """Follows a change from its loss signal until it is well again.

    Args:
        parts: The gateway's.
        acting: Opens the transactions that write.
    """

    def __init__(self, parts: Parts, acting: Acting) -> None:
        self._parts = parts
        self._acting = acting
        self._waits_until: dict[str, datetime] = {}  # by model: enough labels, too few to learn
        self._opened: set[str] = set()  # incidents whose recovery is in the database

    def run(self, model: str, routing: Routing) -> None:
        """Begin, go on with or end what is being learnt; says each in the incident's story.

        Raises:
            Refused: the lease was lost.
            Unavailable: the database is away; the next look finds the same.
        """
        split = self._parts.fleet.get(model)
        if split is None or split.generation != routing.generation or split.champion.apart:
            return
        if self._parts.watches[model].loss_drift:
            self._open(model, routing)
        with self._parts.reading() as session:
            record = standing_recovery(session, model)
        if record is not None:
            self._go_on(record, routing)

    def due(self, model: str) -> Incident | None:
        """The incident that a retrain is due for by the rule, or None.

        Raises:
            Unavailable: the database is away.
        """
        policy, now = self._parts.policy(model), self._parts.clock()
        with self._parts.reading() as session:
            record = standing_recovery(session, model)
            if record is None or on_trial(session, record, now):
                return None
            recovery = progress(session, record, policy.monitor.tolerance_loss, now)
            if recovery is None or not self._has_come(session, record, recovery):
                return None
            champion = self._parts.fleet.serving(model).champion.version
            if self._is_well(session, record, recovery, champion):
                return None  # by labels that came since `run` looked, and says so next time
            return find_incident(session, record.incident_id)

    def _has_come(self, session: Session, record: RecoveryRecord, recovery: Recovery) -> bool:
        """Whether there are labels enough to learn from; what is held back teaches nothing."""
        model, rules = record.model, self._parts.policy(record.model).retrain
        if not recovery.due(count_labelled(session, model, record.change_at), rules.min_labels):
            return False
        if not rules.screen_labels:
            return True
        now = self._parts.clock()
        if now < self._waits_until.get(model, now):
            return False
        learnable = count_learnable(session, model, record.change_at)
        if recovery.due(learnable, rules.min_labels):
            return True
        self._waits_until[model] = now + SCREENED_EVERY  # each look reads all labels since
        return False

    def _open(self, model: str, routing: Routing) -> None:
        """Begin with the loss signal of a champion, once its incident is there."""
        healthy = self._parts.watches[model].healthy_loss
        with self._parts.reading() as session:
            incident = next(
                (
                    one
                    for one in open_incidents(session, model)
                    if one.version == routing.champion and one.kind not in ASIDE
                ),
                None,
            )
        if incident is None or healthy is None or incident.id in self._opened:
            return
        now, alerts = self._parts.clock(), self._parts.policy(model).alerts
        with self._acting() as session:
            earlier = standing_recovery(session, model)
            change = change_of(incident)
            open_recovery(session, model, incident.id, routing.champion, change, healthy, now)
            if earlier is not None and earlier.incident_id != incident.id:
                resolve(session, earlier.incident_id, AGAIN, now, alerts)
        self._opened.add(incident.id)

    def _go_on(self, record: RecoveryRecord, routing: Routing) -> None:
        model, now = record.model, self._parts.clock()
        policy = self._parts.policy(model)
        tolerance = policy.monitor.tolerance_loss
        with self._parts.reading() as session:
            present = current_routing(session, model)
            if present is None or present.generation != routing.generation:
                return  # the traffic has moved since: what was learnt goes with the next look
            incident = find_incident(session, record.incident_id)
            learnt = retrains_that_learnt(session, record)
            recovery = progress(session, record, tolerance, now)
            waits = on_trial(session, record, now)
            due = recovery is not None and self._has_come(session, record, recovery)
            well = self._is_well(session, record, recovery, routing.champion) if due else ""
        if incident is None or incident.state == "resolved":
            self._end(record, None, OVER, routing)
        elif routing.champion not in {record.version, *(one.version for one in learnt)}:
            text = (  # who moved the traffic has told of the incident
                f"No more retrains of it: version {routing.champion} answers by the word of "
                f"{routing.actor}, and is held to its own profile."
            )
            self._say(incident, text)
            self._end(record, None, text, routing)
        elif _is_unproven(incident, routing):
            return  # that its version answers is told first
        elif recovery is None:
            last = learnt[-1]
            loss = last.loss if routing.champion == last.version else last.champion_loss
            again = Recovery(0, record.healthy).well(loss, tolerance)
            said = "Well again" if again else "Refreshes gain no more: this is as good as it gets"
            measured = f"mean loss {loss:.3f} on the newest held-out rows"
            self._end(record, incident, f"{said}. {_measured(measured, record)}", routing)
        elif well:
            self._end(record, incident, well, routing)
        elif learnt and not waits:
            step = recovery_step(policy, recovery)
            self._say(incident, f"Version {routing.champion} answers: {step}")
        if recovery is not None and due and not waits and not well and policy.mode == "recommend":
            self._recommend(record, recovery)

    def _is_well(
        self, session: Session, record: RecoveryRecord, recovery: Recovery | None, champion: int
    ) -> str:
        """Whether what a retrain made does as well as before, by the labels since, in words."""
        policy, since = self._parts.policy(record.model), learnt_until(session, record)
        if recovery is None or since is None:
            return ""
        now = self._parts.clock()
        labels, mean = mean_loss(session, record.model, champion, since, now)
        if labels < policy.retrain.min_labels:
            return ""
        if not recovery.well(mean, policy.monitor.tolerance_loss):
            return ""
        measured = f"mean loss {mean:.3f} on {labels:,} labels since the retrain"
        return f"Well again. {_measured(measured, record)}"

    def _end(
        self, record: RecoveryRecord, incident: Incident | None, text: str, routing: Routing
    ) -> None:
        """No more retrains follow; the incident is over where what was learnt answers."""
        now, policy = self._parts.clock(), self._parts.policy(record.model)
        with self._acting() as session:
            end_recovery(session, record.id, text, now)
            if incident is not None and incident.id in routing.evidence.get(RESOLVES, []):
                note(session, incident.id, text, now)  # it is resolved once answers show it
            elif incident is not None and routing.champion != record.version:
                resolve(session, incident.id, text, now, policy.alerts)
            elif incident is not None:
                command = retrain_command(record.model, self._parts.settings.prefect_address)
                step = f"somebody has to look; to retrain once more: {command}"
                inform(session, incident.id, text, now, policy.alerts, next_step=step)
        logger.info("%s: %s", record.model, text)

    def _say(self, incident: Incident, text: str) -> None:
        """A line of the story, once, whichever gateway says it."""
        if any(event.text == text for event in incident.events):
            return
        with self._acting() as session:
            note(session, incident.id, text, self._parts.clock())

    def _recommend(self, record: RecoveryRecord, recovery: Recovery) -> None:
        """Where the policy leaves retrains to a person: that one is due, once for each."""
        policy, now = self._parts.policy(record.model), self._parts.clock()
        labels = recovery.next_at(policy.retrain.min_labels)
        text = f"{labels:,} labels have come since the change: a retrain is due."
        with self._acting() as session:
            incident = find_incident(session, record.incident_id)
            if incident is None or any(event.text == text for event in incident.events):
                return
            command = retrain_command(record.model, self._parts.settings.prefect_address)
            step = f"the retrain is left to you: {command}"
            inform(session, incident.id, text, now, policy.alerts, next_step=step)


def _is_unproven(incident: Incident, routing: Routing) -> bool:
    """Whether the routing has yet to be seen in the answers, and told of (`registry.claims`)."""
    waits = incident.state in ("open", "acknowledged")
    return waits and incident.id in routing.evidence.get(RECOVERS, [])


def _measured(measured: str, record: RecoveryRecord) -> str:
    return f"{measured[0].upper()}{measured[1:]}; before the change it was {record.healthy:.3f}."
