"""One incident: what broke, what was done, what comes next, and how to undo it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitoring.runbooks import runbook_address, runbook_of
from registry.explanations import SignalNote, signal_notes
from registry.incidents import Incident, find_incident, unknown_incident
from registry.release_history import Release, find_release
from registry.retrains import retrain_history, retrain_running
from registry.routing import Routing, current_routing
from registry.trials import trial_of
from serving.gateway import Gateway
from serving.page.model import places_of, prefect_page
from serving.page.plan import SILENT, next_of_incident, next_of_model
from serving.page.reports import Report, reports_of


@dataclass(frozen=True)
class IncidentView:
    """All that an incident's page tells at once; what moved in the rows is looked for later.

    Args:
        now: When it was gathered.
        incident: With its story.
        signals: What crossed its threshold.
        verdict: What it comes to, as the loop sees it; None: nothing yet.
        release: How the version that it is about came to answer; None: it never did.
        routing: Of its model, in force.
        steps: What comes next: of the incident, and of its model.
        undo: The command that takes back what was done; empty: nothing was.
        runbook: Where it is to be read.
        runbook_name: Of which kind.
        reports: Of its model, the newest first.
        runs: Its retrains: the flow run, and its address in Prefect's page.
        places: What addresses in its story may lead to: MLflow's and Prefect's pages.
    """

    now: datetime
    incident: Incident
    signals: tuple[SignalNote, ...]
    verdict: dict[str, Any] | None
    release: Release | None
    routing: Routing | None
    steps: tuple[str, ...]
    undo: str
    runbook: str
    runbook_name: str
    reports: tuple[Report, ...]
    runs: tuple[tuple[str, str], ...]
    places: tuple[str, ...]


def incident_view(gateway: Gateway, incident_id: str, sees: Callable[[str], bool]) -> IncidentView:
    """Gather an incident; one of a model that they do not see is as one unknown.

    Raises:
        InputError: there is no such incident for them.
        Unavailable: the database is away.
    """
    with gateway.parts.reading() as session:
        found = find_incident(session, incident_id)
        if found is None or not sees(found.model) or found.model not in gateway.watches:
            raise unknown_incident(incident_id)
        signals = signal_notes(session, found.id)
        routing = current_routing(session, found.model)
        release = find_release(session, found.model, found.version)
        steps = [next_of_incident(gateway, found, signals, routing)]
        if found.state != "resolved":
            retrain, now = retrain_running(session, found.model), gateway.parts.clock()
            trial = trial_of(session, routing, now) if routing else None
            steps += next_of_model(gateway, routing, found.model, retrain, trial)
        runs = [
            one.flow_run_id
            for one in retrain_history(session, found.model)
            if one.incident_id == found.id and one.flow_run_id
        ]
    name = runbook_of(found.kind, found.details)
    return IncidentView(
        now=gateway.parts.clock(),
        incident=found,
        signals=signals,
        verdict=found.details.get("verdict"),
        release=release,
        routing=routing,
        steps=tuple(step for step in steps if step and step != SILENT) or (SILENT,),
        runs=tuple((run, prefect_page(gateway.settings, run)) for run in runs),
        places=places_of(gateway.settings),
        undo=found.undo,
        runbook=runbook_address(name, gateway.settings.alerting.runbooks_url),
        runbook_name=name,
        reports=reports_of(gateway.settings, found.model),
    )
