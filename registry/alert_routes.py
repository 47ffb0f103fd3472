"""Which addresses hear of an incident, and from when on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from homeostat.hours import parse_hours
from homeostat.policy import AlertRoute, Receiver
from registry.incident_records import SEVERITIES, Severity


def recipients(
    receivers: Sequence[Receiver], severity: Severity, at: datetime, told: Collection[str] = ()
) -> Mapping[str, datetime]:
    """Who hears of an alert.

    Who has heard of an incident hears of it to its end.

    Args:
        receivers: The policy's `alerts`.
        severity: The incident's, now.
        at: When the alert arises.
        told: Addresses that have heard of the incident.

    Returns:
        By address, from when on it may be called.
    """
    found: dict[str, datetime] = {}
    for one in receivers:
        route = AlertRoute(to=one) if isinstance(one, str) else one
        heard = SEVERITIES.index(severity) >= SEVERITIES.index(route.severity)
        if not heard and route.to not in told:
            continue
        moment = parse_hours(route.hours, route.zone).next_at(at) if route.hours else at
        found[route.to] = min(moment, found.get(route.to, moment))
    return found
