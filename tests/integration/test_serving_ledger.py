"""The ledger beside real traffic: what served at a moment, and moves that name a generation."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from homeostat.clock import utc_now
from homeostat.policy import Policy
from registry import (
    connect,
    current_routing,
    lines_of,
    served_at,
    sessions,
    transaction,
    verify_ledger,
    write_routing,
)
from registry.log import predictions_within
from serving.app import create_app

if TYPE_CHECKING:
    from tests.integration.conftest import Station

AUTH = {"Authorization": "Bearer the-token"}
ROW = [1.0] * 64
ROUNDS = 3
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Stream:
    """Callers that never pause; what each was answered is kept by prediction id."""

    def __init__(self, client: TestClient, callers: int) -> None:
        self.answers: dict[str, tuple[int, int]] = {}
        self.failures: list[object] = []
        self._client = client
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(callers)]

    def __enter__(self) -> Stream:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, generation: int) -> None:
        """Until somebody was answered by a generation."""
        deadline = threading.Event()
        for _ in range(600):
            if any(one == generation for _, one in list(self.answers.values())):
                return
            deadline.wait(0.05)
        raise AssertionError(f"nobody was answered by generation {generation}")

    def _call(self, caller: int) -> None:
        for number in itertools.count():
            if self._stop.is_set():
                return
            body = {"rows": [ROW, ROW], "entity": f"{caller}/{number}"}
            answer = self._client.post("/v1/models/digits/predict", json=body)
            if answer.status_code != 200:
                self.failures.append(answer.text)
                continue
            version = int(answer.headers["x-homeostat-version"])
            generation = int(answer.headers["x-homeostat-generation"])
            for one in answer.json()["predictions"]:
                self.answers[one["id"]] = (version, generation)


@pytest.fixture
def here(station: Callable[..., Station]) -> Station:
    """A station that serves version 1 and decides nothing by itself."""
    made = station(Policy(mode="observe"))
    made.serve(1)
    return made


@pytest.fixture
def gateway(here: Station) -> Iterator[TestClient]:
    with TestClient(create_app(here.settings), headers=AUTH) as client:
        yield client


def test_served_at_agrees_with_every_prediction_of_a_stream(here: Station) -> None:
    """Promotions, canaries and rollbacks under traffic: no answer is outside of what it says.

    Half of the moves are another process's: the gateway takes them up by its poll, and answers by
    the routing before until then.
    """
    app = create_app(here.settings)
    with TestClient(app, headers=AUTH) as gateway, Stream(gateway, callers=3) as stream:
        for _ in range(ROUNDS):
            stream.wait_for(_promote(gateway, 2))
            stream.wait_for(_canary(here, 3))
            stream.wait_for(_promote(gateway, 3))
            stream.wait_for(_roll_back(gateway))
            stream.wait_for(_canary(here, 3, share=0.0, phase="shadow"))
            stream.wait_for(_promote(gateway, 1))
    assert stream.failures == []
    maker = sessions(connect(here.settings.database), read_only=True)
    handed_over = 0
    with transaction(maker) as session:
        logged = list(predictions_within(session, "digits", LONG_AGO, utc_now()))
        assert {one.id: (one.version, one.generation) for one in logged} == stream.answers
        for moment in {one.at for one in logged}:
            parts = served_at(session, "digits", moment)
            allowed = {(one.generation, one.version, one.role) for one in parts if one.share > 0}
            digests = {one.version: one.digest for one in parts}
            for one in (one for one in logged if one.at == moment):
                assert (one.generation, one.version, one.arm) in allowed
                assert one.generation <= parts[0].generation  # never by what is not yet written
                assert digests[one.version] == here.digests[one.version]
                handed_over += one.generation < parts[0].generation
        assert verify_ledger(session, "digits").intact
    arms = {(one.version, one.arm) for one in logged}
    assert arms == {
        (1, "champion"),
        (2, "champion"),
        (3, "champion"),
        (3, "challenger"),
    }
    assert 0 < handed_over < len(logged) / 2


def test_a_move_that_expects_another_generation_is_told_who_won(
    here: Station, gateway: TestClient
) -> None:
    body: dict[str, Any] = {"version": 2, "reason": "mine", "override": True, "actor": "ann"}
    first = gateway.post("/v1/models/digits/promote", json=body | {"expected_generation": 1})
    assert (first.status_code, first.json()["generation"]) == (200, 2)
    late = body | {"version": 3, "expected_generation": 1, "actor": "bob"}
    for path, lost in (
        ("promote", late),
        ("promote", late | {"version": 2}),
        ("rollback", {"reason": "mine", "expected_generation": 1}),
        ("rollback", {"reason": "mine", "expected_generation": 9}),
    ):
        answer = gateway.post(f"/v1/models/digits/{path}", json=lost)
        told = answer.json()
        assert (answer.status_code, told["code"]) == (409, "stale-generation"), told
        assert (told["winner"], told["generation"]) == ("ann", 2)
        assert "ann" in told["detail"]
    back = {"reason": "mine", "expected_generation": 2, "actor": "bob"}
    assert gateway.post("/v1/models/digits/rollback", json=back).status_code == 200
    # Nothing is left to go back to, and still the loser learns who was first.
    told = gateway.post("/v1/models/digits/rollback", json=back).json()
    assert (told["code"], told["winner"], told["generation"]) == ("stale-generation", "bob", 3)
    with transaction(sessions(connect(here.settings.database))) as session:
        kinds = [(one.kind, one.generation) for one in lines_of(session, "digits")]
    assert kinds == [("routing", 1), ("override", 1), ("routing", 2), ("routing", 3)]


@pytest.mark.parametrize("wrong", [-1, "2", 1.5])
def test_an_expectation_that_is_no_generation_is_refused(
    gateway: TestClient, wrong: object
) -> None:
    body = {"reason": "mine", "expected_generation": wrong}
    answer = gateway.post("/v1/models/digits/rollback", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")


def _promote(gateway: TestClient, version: int) -> int:
    body = {"version": version, "reason": "the test says so", "override": True}
    answer = gateway.post("/v1/models/digits/promote", json=body)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["generation"])


def _roll_back(gateway: TestClient) -> int:
    answer = gateway.post("/v1/models/digits/rollback", json={"reason": "the test says so"})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["generation"])


def _canary(here: Station, version: int, share: float = 0.5, phase: Any = "canary") -> int:  # noqa: ANN401 - a phase
    """As another process does it: in the database alone."""
    with transaction(sessions(connect(here.settings.database))) as session:
        present = current_routing(session, "digits")
        assert present is not None
        written = write_routing(
            session,
            "digits",
            present.generation,
            champion=present.champion,
            challenger=version,
            standby=None,
            phase=phase,
            canary_share=share,
            actor="test",
            reason="the test says so",
            evidence={},
            at=utc_now(),
            digests={version: here.digests[version]},
        )
    return written.generation
