"""The verdict on what is open about a champion, as labels come: recorded with its incident."""

from __future__ import annotations

from datetime import datetime, timedelta

from monitoring.signals import Signal
from monitoring.verdicts import Measured, Ruling, rule
from registry.incident_records import ASIDE, Incident, change_of
from registry.incidents import open_incidents, record_ruling
from registry.losses import mean_loss
from registry.routing import Routing
from serving.lease import Acting
from serving.parts import Parts

EVERY = timedelta(seconds=10)
WHOLE = timedelta(minutes=10)  # without a sign of a break, after which a feed counts as mended


class Judge:
    """Keeps the verdict of open incidents at what is known.

    Args:
        parts: The gateway's.
        acting: Opens the transactions that write.
    """

    def __init__(self, parts: Parts, acting: Acting) -> None:
        self._parts, self._acting = parts, acting
        self._due: dict[str, datetime] = {}
        self._broken: dict[str, datetime] = {}  # by incident: when a break was last seen

    def run(self, model: str, routing: Routing) -> None:
        """Judge what is open about the champion, every few seconds.

        Raises:
            Refused: the lease was lost.
            Unavailable: the database is away; the next look finds the same.
        """
        now = self._parts.clock()
        if now < self._due.get(model, now):
            return
        self._due[model] = now + EVERY
        watch = self._parts.watches[model]
        back = watch.rollback_signal()
        signals = [*watch.champion_signals(), *([back] if back else [])]
        with self._parts.reading() as session:
            about = [
                one
                for one in open_incidents(session, model)
                if one.version == routing.champion and one.kind not in ASIDE
            ]
        for incident in about if signals else []:
            self._judge(model, incident, signals, now)

    def _judge(self, model: str, incident: Incident, signals: list[Signal], now: datetime) -> None:
        delay = self._parts.policy(model).monitor.label_delay_seconds or 0.0
        mature = now - timedelta(seconds=delay)
        mature = min(mature, self._parts.watches[model].judged_until or mature)
        with self._parts.reading() as session:
            labels, mean = mean_loss(session, model, incident.version, change_of(incident), mature)
        bound = self._parts.watches[model].loss_bound
        estimate = self._parts.watches[model].estimate(change_of(incident))
        ruling = rule(signals, None if bound is None else Measured(labels, mean, bound), estimate)
        if self._holds(incident, ruling, now):
            return
        with self._acting() as session:
            record_ruling(session, incident.id, ruling, now)

    def _holds(self, incident: Incident, ruling: Ruling, now: datetime) -> bool:
        """Whether a broken feed was seen too lately to call what is left of it harmless.

        It is read from the last few rows, where a break that half of them have comes and goes.
        """
        if ruling.verdict == "data-break":
            self._broken[incident.id] = now
            return False
        before = incident.details.get("verdict", {}).get("verdict")
        if before != "data-break" or ruling.verdict not in ("harmless-drift", "immature"):
            return False
        return now - self._broken.setdefault(incident.id, now) < WHOLE
