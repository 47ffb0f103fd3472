"""Who hears of an incident, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from homeostat.hours import parse_hours
from homeostat.policy import AlertRoute, Policy
from registry.alert_routes import recipients

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
NIGHT, NOON = MONDAY + timedelta(hours=3), MONDAY + timedelta(hours=12)
CHAT, MAIL, PAGER = "slack://chat", "mailto://mail", "pagerduty://key"


@pytest.mark.parametrize(
    ("hours", "at", "when"),
    [
        ("Mon-Fri 08:00-18:00", "2026-11-23 08:00", "2026-11-23 08:00"),
        ("Mon-Fri 08:00-18:00", "2026-11-23 17:59", "2026-11-23 17:59"),
        ("Mon-Fri 08:00-18:00", "2026-11-23 18:00", "2026-11-24 08:00"),
        ("Mon-Fri 08:00-18:00", "2026-11-27 19:00", "2026-11-30 08:00"),
        ("08:00-18:00", "2026-11-28 03:00", "2026-11-28 08:00"),
        ("22:00-06:00", "2026-11-23 05:59", "2026-11-23 05:59"),
        ("22:00-06:00", "2026-11-23 12:00", "2026-11-23 22:00"),
        ("Fri 22:00-06:00", "2026-11-28 01:00", "2026-11-28 01:00"),
        ("Sat,Sun", "2026-11-29 23:59", "2026-11-29 23:59"),
        ("Sat,Sun", "2026-11-30 00:00", "2026-12-05 00:00"),
        ("Fri-Mon 00:00-24:00", "2026-11-24 00:00", "2026-11-27 00:00"),
    ],
)
def test_hours_say_when_one_may_be_called(hours: str, at: str, when: str) -> None:
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    assert parse_hours(hours).next_at(moment) == datetime.fromisoformat(when).replace(tzinfo=UTC)


def test_hours_are_by_the_clock_of_their_place_in_summer_too() -> None:
    berlin = parse_hours("08:00-18:00", "Europe/Berlin")
    for day, hour in (("2026-01-15", 7), ("2026-07-15", 6)):
        night = datetime.fromisoformat(f"{day} 01:00").replace(tzinfo=UTC)
        assert berlin.next_at(night) == night.replace(hour=hour)


@pytest.mark.parametrize(
    ("hours", "zone", "wrong"),
    [
        ("office hours", "UTC", "'office' is not a day"),
        ("Mon-Fri 8-18", "UTC", "is not hours such as"),
        ("Mon 08:00-18:00 Tue", "UTC", "is not hours such as"),
        ("Mon 08:00-28:00", "UTC", "hour must be in"),
        ("Mon", "Europe/Atlantis", "'Europe/Atlantis' is not a time zone"),
    ],
)
def test_hours_that_are_none_are_refused_in_the_settings(hours: str, zone: str, wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong):
        AlertRoute(to=MAIL, hours=hours, zone=zone)


ROUTES = Policy.model_validate(
    {
        "alerts": [
            CHAT,
            {"to": MAIL, "hours": "Mon-Fri 08:00-18:00"},
            {"to": PAGER, "severity": "page"},
        ]
    }
).alerts


def test_a_ticket_wakes_nobody() -> None:
    assert recipients(ROUTES, "ticket", NIGHT) == {CHAT: NIGHT, MAIL: NIGHT.replace(hour=8)}
    assert recipients(ROUTES, "ticket", NOON) == {CHAT: NOON, MAIL: NOON}


def test_a_page_goes_to_all_and_to_some_only_in_the_morning() -> None:
    assert recipients(ROUTES, "page", NIGHT) == {
        CHAT: NIGHT,
        MAIL: NIGHT.replace(hour=8),
        PAGER: NIGHT,
    }


def test_who_heard_of_an_incident_hears_of_it_to_its_end() -> None:
    assert PAGER in recipients(ROUTES, "ticket", NOON, told={PAGER})


def test_an_address_of_two_routes_hears_at_the_first_hour_of_both() -> None:
    routes = (AlertRoute(to=MAIL, hours="10:00-11:00"), AlertRoute(to=MAIL, hours="09:00-10:00"))
    assert recipients(routes, "page", NIGHT) == {MAIL: NIGHT.replace(hour=9)}
