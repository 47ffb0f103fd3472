"""Choosing a version by the matrix: the bounds that each broke, and what decided among the rest.

Among those within every bound the order is: the highest accuracy, then the lowest latency, then
the least memory, then the smallest files, then the newest. A version that its gates refused or
never judged, or whose artifact is in quarantine, is never chosen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from homeostat.errors import InputError
from registry.matrix import Standing

MILLISECONDS: Mapping[str, float] = MappingProxyType({"us": 1e-3, "ms": 1.0, "s": 1e3})
BYTES: Mapping[str, float] = MappingProxyType(
    {
        "kB": 1e3,
        "MB": 1e6,
        "GB": 1e9,
        "KiB": 1024.0,
        "MiB": 1024.0**2,
        "GiB": 1024.0**3,
    }
)
SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_QUANTITY = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*([A-Za-z%]*)")


@dataclass(frozen=True)
class Bounds:
    """What a version has to keep; None: any will do.

    Args:
        latency_ms: Its p99, at most.
        memory_bytes: At most.
        accuracy: On the regime, at least.
        regime: Which one; None: the newest that any version was judged on.
    """

    latency_ms: float | None = None
    memory_bytes: float | None = None
    accuracy: float | None = None
    regime: int | None = None


@dataclass(frozen=True)
class Choice:
    """What is recommended and why.

    Args:
        chosen: The version, or None where none is within every bound.
        regime: On which accuracy was compared; None where no version was judged on any.
        decided: What decided among those within every bound, in a sentence.
        fitting: The versions within every bound, the best first.
        broken: Why each of the others is not among them.
    """

    chosen: Standing | None
    regime: int | None
    decided: str
    fitting: tuple[Standing, ...]
    broken: Mapping[int, tuple[str, ...]]


@dataclass(frozen=True)
class _Criterion:
    """One thing to be better at: `measure` is the smaller the better, None the worst."""

    words: str
    measure: Callable[[Standing], float | None]
    shown: Callable[[float], str]

    def of(self, one: Standing) -> float:
        value = self.measure(one)
        return math.inf if value is None else value

    def say(self, one: Standing) -> str:
        value = self.measure(one)
        return "one that was never measured" if value is None else self.shown(value)


def choose(standings: Sequence[Standing], bounds: Bounds) -> Choice:
    """Choose among versions.

    Raises:
        InputError: no version was judged on the regime that was asked for.
    """
    regime = _regime(standings, bounds)
    broken = {one.version: tuple(_faults(one, bounds, regime)) for one in standings}
    criteria = _criteria(regime)
    fitting = sorted(
        (one for one in standings if not broken[one.version]),
        key=lambda one: [criterion.of(one) for criterion in criteria],
    )
    return Choice(
        chosen=fitting[0] if fitting else None,
        regime=regime,
        decided=_decided(fitting, criteria),
        fitting=tuple(fitting),
        broken={version: faults for version, faults in broken.items() if faults},
    )


def latency(text: str) -> float:
    """Milliseconds of a text such as `20ms`, `0.5 s` or `800us`.

    Raises:
        InputError: it is not such a text.
    """
    return _quantity(text, MILLISECONDS, "a latency", "20ms")


def memory(text: str) -> float:
    """Bytes of a text such as `500MB` or `1.5 GiB`.

    Raises:
        InputError: it is not such a text.
    """
    return _quantity(text, BYTES, "a size of memory", "500MB")


def share(text: str) -> float:
    """A share from 0 to 1 of a text such as `0.9` or `90%`.

    Raises:
        InputError: it is not such a text.
    """
    found = _QUANTITY.fullmatch(text.strip())
    value = float(found[1]) / (100.0 if found[2] else 1.0) if found else math.nan
    if found is None or found[2] not in ("", "%") or not 0.0 <= value <= 1.0:
        raise InputError(
            f"'{text[:40]}' is not an accuracy.", remedy="Write a share from 0 to 1: 0.9 or 90%."
        )
    return value


def _quantity(text: str, units: Mapping[str, float], what: str, example: str) -> float:
    found = _QUANTITY.fullmatch(text.strip())
    if found is None or found[2] not in units or float(found[1]) <= 0.0:
        raise InputError(
            f"'{text[:40]}' is not {what}.",
            remedy=f"Write a number above 0 with a unit ({', '.join(units)}): {example}.",
        )
    return float(found[1]) * units[found[2]]


def _regime(standings: Sequence[Standing], bounds: Bounds) -> int | None:
    known = {number for one in standings for number in one.accuracy}
    if bounds.regime is None:
        return max(known, default=None)
    if bounds.regime not in known:
        raise InputError(
            f"No version was judged on regime {bounds.regime}.",
            remedy=f"Known: {', '.join(map(str, sorted(known))) or 'none'}.",
            regime=bounds.regime,
        )
    return bounds.regime


def _faults(one: Standing, bounds: Bounds, regime: int | None) -> list[str]:
    faults = []
    if one.barred:
        faults.append(f"in quarantine: {one.barred.rstrip('.')}")
    if one.verdict is None:
        faults.append("its gates never judged it")
    elif not one.verdict.passed:
        faults.append("its gates refused it")
    faults += _above(one.latency_p99_ms, bounds.latency_ms, "latency p99", _milliseconds)
    faults += _above(one.memory_bytes, bounds.memory_bytes, "memory", _size)
    if bounds.accuracy is not None:
        reached = None if regime is None else one.accuracy.get(regime)
        if reached is None:
            faults.append(f"never judged on regime {regime if regime is not None else 0}")
        elif reached < bounds.accuracy:
            faults.append(
                f"accuracy {reached:.4f} on regime {regime}, less than {bounds.accuracy:g}"
            )
    return faults


def _above(
    value: float | None, bound: float | None, name: str, shown: Callable[[float], str]
) -> list[str]:
    if bound is None:
        return []
    if value is None:
        return [f"{name} never measured"]
    return [f"{name} {shown(value)}, more than {shown(bound)}"] if value > bound else []


def _criteria(regime: int | None) -> tuple[_Criterion, ...]:
    def loss(one: Standing) -> float | None:
        reached = None if regime is None else one.accuracy.get(regime)
        return None if reached is None else 1.0 - reached

    return (
        _Criterion(
            f"the highest accuracy on regime {regime}", loss, lambda value: f"{1.0 - value:.4f}"
        ),
        _Criterion("the lowest latency p99", lambda one: one.latency_p99_ms, _milliseconds),
        _Criterion("the least memory", lambda one: one.memory_bytes, _size),
        _Criterion("the smallest files", lambda one: one.size_bytes, _size),
        _Criterion("the newest", lambda one: -one.version, lambda value: f"version {-value:g}"),
    )


def _decided(fitting: Sequence[Standing], criteria: Sequence[_Criterion]) -> str:
    if not fitting:
        return "No version is within every bound."
    if len(fitting) == 1:
        return "It is the only version within every bound."
    best, second = fitting[0], fitting[1]
    criterion = next(each for each in criteria if each.of(best) != each.of(second))
    return (
        f"Of {len(fitting)} within every bound it has {criterion.words}: {criterion.say(best)}"
        f" against {criterion.say(second)} of version {second.version}."
    )


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms"


def _size(value: float) -> str:
    unit, name = next((each for each in SIZES if value >= each[0]), (1.0, "B"))
    return f"{value / unit:.3g} {name}"
