"""The loads of the serving benchmark, what was measured under each, and the table of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.client import Turn, ask_closed, ask_open

MOST_CONNECTIONS = 64
LINE = "{:<16} {:>9} {:>9} {:>9} {:>8} {:>11} {:>11}"
Found = dict[str, dict["Load", list["Figures"]]]


@dataclass(frozen=True)
class Load:
    """How a server is asked: by so many connections in a closed loop, or so often in an open."""

    connections: int
    rate: float | None = None

    @property
    def title(self) -> str:
        """In words."""
        if self.rate is not None:
            return f"Open loop: {self.rate:,.0f} requests/s fall due, latency from then"
        many = "connections, each" if self.connections > 1 else "connection,"
        return f"Closed loop: {self.connections} keep-alive {many} asking again once answered"

    def ask(self, port: int, requests: list[bytes], seconds: float) -> Turn:
        """One turn of it."""
        if self.rate is not None:
            return ask_open(port, requests, self.connections, self.rate, seconds)
        return ask_closed(port, requests, self.connections, seconds)


@dataclass(frozen=True)
class Figures:
    """Of one turn, or the medians of some: per second, milliseconds, CPU microseconds each."""

    rate: float
    p50: float
    p99: float
    cpu: float
    unanswered: float
    refused: float

    @classmethod
    def of(cls, turn: Turn, cpu: float) -> Figures:
        """Of one turn that took a server so many CPU seconds."""
        answers = len(turn.latencies)
        p50, p99 = turn.latency(0.5), turn.latency(0.99)
        late, refused = turn.unanswered / answers, turn.refused / (answers + turn.refused)
        return cls(turn.rate, p50, p99, 1e6 * cpu / answers, late, refused)

    @classmethod
    def medians(cls, turns: list[Figures]) -> Figures:
        """Each figure's own median."""
        names = cls.__dataclass_fields__
        return cls(**{name: statistics.median(getattr(t, name) for t in turns) for name in names})


def print_tables(found: Found, loads: Iterable[Load], titles: dict[str, str], us: str) -> None:
    """A table for each load; the last columns compare `us` with each side."""
    for load in loads:
        print(f"\n{load.title}")
        print(LINE.format("", "req/s", "p50 ms", "p99 ms", "CPU us", "our req/s x", "our p99 x"))
        ours = Figures.medians(found[us][load]) if us in found else None
        for name, turns in found.items():
            one = Figures.medians(turns[load])
            print_line(titles[name], one, ours)


def print_line(title: str, one: Figures, ours: Figures | None) -> None:
    """One side under one load."""
    ratios = (f"{ours.rate / one.rate:.2f}", f"{ours.p99 / one.p99:.2f}") if ours else ("", "")
    shown = (f"{one.rate:,.0f}", f"{one.p50:.2f}", f"{one.p99:.2f}", f"{one.cpu:.0f}")
    late = f"  {one.unanswered:.1%} unanswered" if one.unanswered else ""
    late += f"  {one.refused:.1%} refused" if one.refused else ""
    print(LINE.format(title, *shown, *ratios) + late)
