"""The dead man's switch: no traffic, no labels and a monitor that stopped are signals too.

Whoever holds the lease looks, at what all gateways left in the database. So a gateway that goes on
answering while its monitor has stopped is seen by the one that acts, be it another or itself. Each
silence is one incident, which ends by itself when what was missed comes again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from homeostat.policy import MonitorPolicy
from monitoring.signals import Signal, triage
from monitoring.silence import (
    HABIT_SPAN,
    STRETCHES,
    Span,
    allowed_silence,
    is_silent,
    is_unwatched,
)
from registry.flow import (
    answer_spans,
    first_answer_after,
    label_spans,
    last_answer,
    last_label,
    logged_and_counted,
)
from registry.gateways import GatewayInfo
from registry.incident_records import SILENCE
from registry.incident_signals import subject_of
from registry.incidents import Incident, open_incidents, resolve
from registry.release_history import find_release
from registry.routing import current_routing
from serving.lease import Acting
from serving.parts import Parts
from serving.telling import Teller

PREDICTIONS, LABELS, MONITOR = "predictions", "labels", "monitor"  # what is missed
SEVERITIES = {PREDICTIONS: "page", LABELS: "ticket", MONITOR: "page"}
NEXT = {
    PREDICTIONS: "see whether callers still reach a gateway; nothing moves by itself.",
    LABELS: "see what sends the labels; until they come, nobody knows whether accuracy holds.",
    MONITOR: "see the gateways' logs and homeostat status; drift and failures go unseen meanwhile.",
}
BACK = {
    PREDICTIONS: "Predictions come again.",
    LABELS: "Labels come again.",
    MONITOR: "What is answered is counted again.",
}
EVERY = timedelta(seconds=5)
LEARN_EVERY = timedelta(hours=1)
LATE = timedelta(seconds=30)  # counts that come later than this are missed

logger = logging.getLogger(__name__)


class Deadman:
    """Looks for what does not come.

    Args:
        parts: The gateway's.
        teller: Opens incidents.
        acting: Opens the transactions that write.
        gateways: Those that are known.
    """

    def __init__(
        self,
        parts: Parts,
        teller: Teller,
        acting: Acting,
        gateways: Callable[[], Iterable[GatewayInfo]],
    ) -> None:
        self._parts, self._teller, self._acting = parts, teller, acting
        self._gateways = gateways
        self._due: dict[str, datetime] = {}
        self._habits: dict[str, tuple[datetime, dict[str, list[Span]]]] = {}

    def run(self, model: str) -> None:
        """Look at one model, every few seconds.

        Raises:
            Refused: the lease was lost.
            Unavailable: the database is away; the next look finds the same.
        """
        now = self._parts.clock()
        if now < self._due.get(model, now):
            return
        self._due[model] = now + EVERY
        live = [one.started_at for one in self._gateways() if one.is_live(now)]
        if not live:
            return
        with self._parts.reading() as session:
            routing = current_routing(session, model)
            if routing is None:
                return
            told = {
                subject_of(one.details): one
                for one in open_incidents(session, model)
                if one.kind == SILENCE
            }
            release = find_release(session, model, routing.champion)
            began = max(min(live), release.from_at) if release else now
            found = self._look(session, model, min(live), began, told, now)
        for subject, reason in found.items():
            if reason and subject not in told:
                self._open(model, routing.champion, subject, reason)
            elif not reason and subject in told:
                with self._acting() as session:
                    alerts = self._parts.policy(model).alerts
                    resolve(session, told[subject].id, BACK[subject], now, alerts)

    def _look(
        self,
        session: Session,
        model: str,
        up_since: datetime,
        began: datetime,
        told: dict[str, Incident],
        now: datetime,
    ) -> dict[str, str]:
        """Why each thing is missed, empty where it is not; what cannot be told is left out."""
        rules = self._parts.policy(model).monitor
        habits = self._habit(session, model, now)
        answered, labelled = last_answer(session, model), last_label(session, model)
        unlabelled = first_answer_after(session, model, labelled)
        opened = {subject: one.opened_at for subject, one in told.items()}
        found = {PREDICTIONS: "", LABELS: ""}
        allowed = allowed_silence(rules.silent_predictions_seconds, habits[PREDICTIONS])
        since = up_since if answered else began
        if is_silent(answered, since, allowed, now, opened.get(PREDICTIONS)):
            found[PREDICTIONS] = f"No prediction has been asked for since {_spell(answered)}."
            del found[LABELS]  # they end with the traffic: that is one thing to look at, not two
            return found
        allowed = allowed_silence(rules.silent_labels_seconds, habits[LABELS])
        since = max(up_since, unlabelled) if unlabelled else now
        if is_silent(labelled, since, allowed, now, opened.get(LABELS)):
            found[LABELS] = f"Predictions go on, and no label has come since {_spell(labelled)}."
        unwatched = _unwatched(session, model, rules, now)
        if unwatched is not None:
            found[MONITOR] = (
                f"Predictions are answered and logged that no monitor has counted for "
                f"{rules.unwatched_seconds:g} s or more."
                if unwatched
                else ""
            )
        return found

    def _habit(self, session: Session, model: str, now: datetime) -> dict[str, list[Span]]:
        """When the streams were busy, read once an hour, where their owner states no number."""
        at, known = self._habits.get(model, (now, {}))
        if known and now - at < LEARN_EVERY:
            return known
        rules, since = self._parts.policy(model).monitor, now - HABIT_SPAN
        known = {PREDICTIONS: [], LABELS: []}
        if rules.silent_predictions_seconds is None:
            known[PREDICTIONS] = answer_spans(session, model, since)
        if rules.silent_labels_seconds is None:
            known[LABELS] = label_spans(session, model, since)
        self._habits[model] = (now, known)
        return known

    def _open(self, model: str, version: int, subject: str, reason: str) -> None:
        signal = Signal(
            kind="silence",
            detector="dead-man",
            evidence=1.0,
            threshold=1.0,
            rows=0,
            since=0,
            details={"subject": subject, "reason": reason, "severity": SEVERITIES[subject]},
        )
        self._teller.open(model, version, signal, triage(signal), next_step=NEXT[subject])
        logger.warning("%s: %s", model, reason)


def _unwatched(session: Session, model: str, rules: MonitorPolicy, now: datetime) -> bool | None:
    if not rules.unwatched_seconds:
        return False
    step = timedelta(seconds=rules.unwatched_seconds / STRETCHES)
    start = now - LATE - STRETCHES * step
    edges = [start + place * step for place in range(STRETCHES + 1)]
    return is_unwatched(logged_and_counted(session, model, edges))


def _spell(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "it serves"
