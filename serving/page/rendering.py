"""Templates, and the words and figures in them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

DETECTORS = {
    "input-drift": "inputs changed",
    "loss": "accuracy fell",
    "worse-than-standby": "worse than standby",
}
_ADDRESS = re.compile(r"(https?://[^\s\"<>]+)")
_AGES = ((86_400 * 2, 86_400, "d"), (7200, 3600, "h"), (120, 60, "min"), (0, 1, "s"))


def rendered(template: str, **values: object) -> str:
    """The text of a page, or of a part of one."""
    return _ENVIRONMENT.get_template(template).render(**values)


def ago(at: datetime, now: datetime) -> str:
    """How long ago, in one unit: `3 h`."""
    seconds = max(0.0, (now - at).total_seconds())
    _, unit, name = next(each for each in _AGES if seconds >= each[0])
    return f"{seconds // unit:.0f}\N{NO-BREAK SPACE}{name}"


def clock(at: datetime, now: datetime) -> str:
    """A moment in UTC, with its day where that is another one."""
    here = at.astimezone(UTC)
    return f"{here:%H:%M:%S}" if here.date() == now.date() else f"{here:%d %b %H:%M}"


def full(at: datetime) -> str:
    """A moment, whole."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def percent(share: float | None, digits: int = 1) -> str:
    """A share as people read it."""
    return "–" if share is None else f"{share * 100:.{digits}f}\N{NO-BREAK SPACE}%"


def power(log_value: float) -> Markup:
    """An e-value whose logarithm may be in the hundreds."""
    exponent = log_value / math.log(10)
    if abs(exponent) < 3:
        return escape(f"{math.exp(log_value):.2g}")
    return Markup("10<sup>{}</sup>").format(f"{exponent:.1f}")


def times(log_value: float) -> str:
    """The same where only text can be: a power of ten."""
    return f"10 to the {log_value / math.log(10):.1f}"


def whole(number: int) -> str:
    """A count with its thousands apart."""
    return f"{number:,}"


def named(detector: str) -> str:
    """A detector by what it would show."""
    return DETECTORS.get(detector, detector.replace("-", " "))


def linked(text: str, places: Sequence[str]) -> Markup:
    """A text whose addresses lead there, as far as they are within the places that are ours."""
    parts = [
        Markup('<a href="{0}">{0}</a>').format(part) if part.startswith(tuple(places)) else part
        for part in _ADDRESS.split(text)
    ]
    return Markup().join(parts)


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("serving.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "ago": ago,
        "clock": clock,
        "full": full,
        "linked": linked,
        "named": named,
        "percent": percent,
        "power": power,
        "times": times,
        "whole": whole,
    }
    return made


_ENVIRONMENT = _environment()
