"""An open page hears that something changed, and of nothing else, until nobody may hear."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from serving.page import live


class Pulses:
    """Says one state after another."""

    def __init__(self, *states: str) -> None:
        self._states: Iterator[str] = iter(states)
        self.left = len(states)

    def of(self, _: object) -> str:
        self.left -= 1
        return next(self._states)


def heard(pulses: Pulses) -> list[str]:
    async def listen() -> list[str]:
        told = live.changes(pulses, ["digits"], lambda: pulses.left > 0, pause=0.0)
        return [event async for event in told]

    return asyncio.run(listen())


def test_the_first_state_is_told_at_once_and_then_each_that_is_another() -> None:
    said = heard(Pulses("a", "a", "a", "b", "b", "a"))
    assert said == [f"event: state\ndata: {state}\n\n" for state in "aba"]


def test_it_ends_when_the_session_or_the_gateway_does() -> None:
    assert heard(Pulses()) == []


def test_silence_is_broken_now_and_then_for_the_proxies_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "QUIET_SECONDS", 0.0)
    said = heard(Pulses("a", "a", "b"))
    assert said == [
        "event: state\ndata: a\n\n",
        ": nothing new\n\n",
        "event: state\ndata: b\n\n",
    ]
