"""What came back as another model is barred and told once, standby or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from homeostat.clock import utc_now
from monitoring import Signal, Triage
from serving import suspects
from serving.suspects import Suspects


class Teller:
    def __init__(self) -> None:
        self.told: list[tuple[int, str, str]] = []

    def open(
        self, model: str, version: int, signal: Signal, verdict: Triage, *, next_step: str
    ) -> None:
        del model, signal
        self.told.append((version, verdict.severity, f"{verdict.reason} {next_step}"))


def test_a_champion_with_no_standby_that_changed_is_barred_and_paged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    barred: list[tuple[str, int]] = []

    def quarantine(
        _: object, __: str, digest: str, *___: object, version: int, **____: object
    ) -> None:
        barred.append((digest, version))

    @contextmanager
    def acting() -> Iterator[object]:
        yield None

    monkeypatch.setattr(suspects, "quarantine", quarantine)
    sound = SimpleNamespace(model="m", version=1, digest="a", fault="")
    changed = SimpleNamespace(model="m", version=2, digest="b", fault="It answers otherwise.")
    parts = SimpleNamespace(
        library=SimpleNamespace(suspects=lambda _: []),
        fleet=SimpleNamespace(get=lambda _: SimpleNamespace(versions=(changed, sound))),
        clock=utc_now,
    )
    teller = Teller()
    actor = Suspects(cast(Any, parts), cast(Any, teller), cast(Any, acting))
    actor.run("m")
    actor.run("m")
    assert barred == [("b", 2)]
    ((version, severity, text),) = teller.told
    assert (version, severity) == (2, "page")
    assert "It answers otherwise." in text
    assert "--override" in text
