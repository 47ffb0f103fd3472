"""Hours of the week, as a person writes them: `Mon-Fri 08:00-18:00`, `22:00-06:00`, `Sat,Sun`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"^(\d\d):(\d\d)-(\d\d):(\d\d)$")


@dataclass(frozen=True)
class Hours:
    """Stretches of the week by the clock of one place.

    Args:
        days: Weekdays on which a stretch begins, Monday is 0.
        begins: When on such a day.
        ends: When; not after `begins`: on the next day.
        zone: The place.
    """

    days: frozenset[int]
    begins: time
    ends: time
    zone: ZoneInfo

    def next_at(self, moment: datetime) -> datetime:
        """The moment itself where it is within the hours, else when they begin next, in UTC."""
        here = moment.astimezone(self.zone)
        for ahead in range(-1, 8):
            day = here.date() + timedelta(days=ahead)
            if day.weekday() not in self.days:
                continue
            over = day + timedelta(days=1) if self.ends <= self.begins else day
            began = datetime.combine(day, self.begins, self.zone)
            if moment < datetime.combine(over, self.ends, self.zone):
                return max(moment, began.astimezone(UTC))
        raise AssertionError("a week has each of its days")


def parse_hours(text: str, zone: str = "UTC") -> Hours:
    """Read hours: days, a stretch of the clock, or both.

    Args:
        text: `Mon-Fri 08:00-18:00`; `Sat,Sun` is the whole of these days.
        zone: A name of the IANA's, such as `Europe/Berlin`.

    Raises:
        ValueError: that is not what it says.
    """
    days, clock = frozenset(range(7)), "00:00-00:00"
    words = text.split()
    if words and not _CLOCK.match(words[0]):
        days = _days(words.pop(0))
    if words:
        clock = words.pop(0)
    found = _CLOCK.match(clock)
    if found is None or words or not text.strip():
        raise ValueError(f"'{text}' is not hours such as 'Mon-Fri 08:00-18:00'")
    hour, minute, last_hour, last_minute = map(int, found.groups())
    try:
        place = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"'{zone}' is not a time zone such as 'Europe/Berlin'") from None
    ends = time(0) if last_hour == 24 and last_minute == 0 else time(last_hour, last_minute)
    return Hours(days, time(hour, minute), ends, place)


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"'{part}' is not a day such as Mon, or days such as Mon-Fri")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found.update(n % 7 for n in range(begin, end + 1 if end >= begin else end + 8))
    return frozenset(found)
