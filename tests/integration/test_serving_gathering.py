"""What several gateways count of one stream is the evidence of one gateway that saw it all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from homeostat.errors import Unavailable
from homeostat.policy import MonitorPolicy, Policy
from monitoring.inputs import InputDetector
from registry import transaction
from registry.gateways import known_gateways
from registry.input_counts import window_of
from serving.answers import Answered
from serving.gateway import Gateway
from serving.gathering import SETTLE

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

SECONDS = 9
KILLED_AT = 3  # seconds after the start
POLICY = Policy(monitor=MonitorPolicy(budget_predictions=10**6))


@dataclass
class Stream:
    """A seeded stream: (second, offset in it, rows), whose inputs change after two thirds."""

    batches: list[tuple[int, float, NDArray[np.float64]]] = field(default_factory=list)

    @classmethod
    def of(cls, seed: int) -> Stream:
        rng = np.random.default_rng(seed)
        made = cls()
        for second in range(SECONDS):
            for offset in np.sort(rng.random(rng.integers(5, 25))):
                rows = rng.integers(0, 17, size=(int(rng.integers(1, 9)), 64)).astype(float)
                if second >= SECONDS * 2 // 3:
                    rows[:, :8] = np.minimum(rows[:, :8] + 6, 16)
                made.batches.append((second, float(offset), rows))
        return made


@dataclass
class Simulation:
    """Gateways without threads, on a clock that the simulation moves."""

    station: Station
    clock: HandClock
    gateways: list[Gateway]

    def answer(self, gateway: Gateway, rows: NDArray[np.float64]) -> None:
        split = gateway.fleet.serving("digits")
        x = split.champion.encode(rows.tolist())
        done = Answered([], observed=x, outputs=split.champion.predict(x))
        gateway.watches["digits"].observe(split, done)

    def run(
        self, stream: Stream, choose: Callable[[int, float], Gateway | None]
    ) -> dict[int, list[NDArray[np.float64]]]:
        """Have each batch answered by whom `choose` says; the rows answered, by window."""
        start = self.clock.now
        seen: dict[int, list[NDArray[np.float64]]] = {}
        for second in range(SECONDS):
            for _, offset, rows in (one for one in stream.batches if one[0] == second):
                self.clock.now = start
                self.clock.advance(second + offset)
                gateway = choose(second, offset)
                if gateway is not None:
                    self.answer(gateway, rows)
                    seen.setdefault(window_of(self.clock.now), []).append(rows)
            self.clock.now = start
            self.clock.advance(second + 1)
            self.turn()
        for _ in range(2):
            self.clock.advance(1)
            self.turn()
        return seen

    def turn(self) -> None:
        for gateway in self.gateways:
            gateway.gathering.turn()

    def states(self) -> list[str]:
        return [one.watches["digits"].states()[1, "input-drift"] for one in self.gateways]

    def one_that_saw_all(self, seen: dict[int, list[NDArray[np.float64]]]) -> InputDetector:
        loaded = self.gateways[0].fleet.serving("digits").champion
        rules = POLICY.monitor
        detector = InputDetector(loaded.profile, rules.budget_predictions, rules.tolerance_inputs)
        for window in sorted(seen):
            rows = np.concatenate(seen[window])
            x = loaded.encode(rows.tolist())
            outputs = loaded.predict(x)
            learner = loaded.learner
            counts = loaded.profile.counts(
                learner.observe(x), learner.predicted(outputs), learner.confidence(outputs)
            )
            detector.update_counts(counts, len(rows))
        return detector


@pytest.fixture
def simulate(
    station: Callable[..., Station], hand_clock: HandClock, database_url: str
) -> Callable[[int], Simulation]:
    def make(count: int) -> Simulation:
        here = station(POLICY, database_url)
        here.serve(1, hand_clock.now)
        made = Simulation(
            here, hand_clock, [Gateway(here.settings, hand_clock) for _ in range(count)]
        )
        for gateway in made.gateways:
            gateway.parts.follow("digits")
            gateway.keeper.restore("digits")
        made.turn()
        return made

    return make


def test_a_gateway_that_begins_again_knows_what_came_in_lately(
    simulate: Callable[[int], Simulation],
) -> None:
    made = simulate(1)
    made.run(Stream.of(5), lambda *_: made.gateways[0])
    before = made.gateways[0]
    before.lease.hold()
    before.keeper.save()
    again = Gateway(made.station.settings, made.clock)
    again.parts.follow("digits")
    again.keeper.restore("digits")
    again.gathering.turn()
    old, new = (one.watches["digits"] for one in (before, again))
    assert new.states() == old.states()
    assert old.estimate() is not None
    assert new.estimate() == old.estimate()
    again.stop()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_split_of_a_stream_is_the_evidence_of_one_gateway(
    simulate: Callable[[int], Simulation], count: int
) -> None:
    made = simulate(count)
    rng = np.random.default_rng(count)
    seen = made.run(Stream.of(5), lambda *_: made.gateways[rng.integers(count)])
    expected = made.one_that_saw_all(seen)
    assert expected.drift_detected
    assert expected.rows == sum(len(rows) for own in seen.values() for rows in own)
    assert made.states() == [expected.to_json()] * count
    # One that comes later knows as much, from what the first one saved and from what came since.
    first = made.gateways[0]
    first.lease.hold()
    first.keeper.save()
    made.answer(first, np.zeros((40, 64)))
    made.clock.advance(2)
    made.turn()
    made.turn()
    late = Gateway(made.station.settings, made.clock)
    late.parts.follow("digits")
    late.keeper.restore("digits")
    late.gathering.turn()
    assert late.watches["digits"].states() == first.watches["digits"].states()


def test_a_killed_gateway_takes_with_it_what_it_did_not_bring_and_nothing_counts_twice(
    simulate: Callable[[int], Simulation], caplog: pytest.LogCaptureFixture
) -> None:
    made = simulate(3)
    rng = np.random.default_rng(9)
    killed = made.gateways[2]
    lost = 0

    def choose(second: int, offset: float) -> Gateway | None:
        nonlocal lost
        moment = second + offset
        if moment > KILLED_AT and killed in made.gateways:
            made.gateways.remove(killed)  # kill -9: it never sends again
        chosen = [*made.gateways[:2], killed][rng.integers(3 if moment < KILLED_AT else 2)]
        if chosen is killed and moment >= KILLED_AT - SETTLE.total_seconds():
            lost += 1
            made.answer(killed, np.zeros((3, 64)))  # answered, and never brought
            return None
        return chosen

    seen = made.run(Stream.of(6), choose)
    expected = made.one_that_saw_all(seen)
    assert lost
    # Windows that were kept waiting for the dead one come late, and each of them comes once.
    detectors = [InputDetector.from_json(state) for state in made.states()]
    assert [one.rows for one in detectors] == [expected.rows] * 2
    assert made.states()[0] == made.states()[1] == expected.to_json()
    assert caplog.text.count("is gone: nothing came since") == 1
    with transaction(made.gateways[0].parts.reader) as session:
        states = sorted(one.state for one in known_gateways(session))
    assert states == ["gone", "live", "live"]


def test_a_message_that_was_kept_although_the_connection_broke_counts_once(
    simulate: Callable[[int], Simulation],
) -> None:
    made = simulate(2)
    gateway, other = made.gateways
    made.answer(gateway, np.ones((20, 64)))
    made.clock.advance(1)

    def break_after(_: Session) -> None:
        raise OperationalError("COMMIT", {}, Exception("the connection broke"))

    event.listen(gateway.parts.maker, "after_commit", break_after)
    with pytest.raises(Unavailable):
        gateway.gathering.send()
    event.remove(gateway.parts.maker, "after_commit", break_after)
    made.turn()  # adds up what was kept, and removes it
    made.clock.advance(1)
    made.turn()
    made.turn()
    for one in (gateway, other):
        detector = InputDetector.from_json(one.watches["digits"].states()[1, "input-drift"])
        assert detector.rows == 20


def test_a_gateway_that_was_away_too_long_takes_evidence_up_where_another_saved_it(
    simulate: Callable[[int], Simulation],
) -> None:
    made = simulate(2)
    first, away = made.gateways
    first.lease.hold()
    for _ in range(3):
        made.answer(first, np.ones((20, 64)))
        made.clock.advance(400)
        first.gathering.turn()
        first.lease.hold()
        first.keeper.save()  # forgets what is old, and seen
    away.gathering.turn()
    away.keeper.restore("digits")
    away.gathering.turn()
    assert away.watches["digits"].states() == first.watches["digits"].states()
    detector = InputDetector.from_json(away.watches["digits"].states()[1, "input-drift"])
    assert detector.rows == 60
