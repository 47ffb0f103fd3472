"""Short words for the picture, whole sentences for the page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry.happenings import marks_of, roles_of
from registry.incident_records import Incident
from registry.retrains import Retrain
from registry.routing import Routing

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def routing(generation: int, **changes: Any) -> Routing:  # noqa: ANN401 - a routing's fields
    values: dict[str, Any] = {
        "model": "digits",
        "generation": generation,
        "champion": 1,
        "challenger": None,
        "standby": None,
        "phase": "steady",
        "canary_share": 0.0,
        "at": NOON + SECOND * generation,
        "actor": "rollout",
        "reason": "so it was",
        "evidence": {},
        "hash": "",
    }
    return Routing(**values | changes)


def test_each_move_of_a_rollout_has_its_words() -> None:
    history = [
        routing(1),
        routing(2, challenger=2, phase="shadow"),
        routing(3, challenger=2, phase="canary", canary_share=0.2),
        routing(4, champion=2, standby=1),
        routing(5, champion=3, standby=2),
        routing(6, champion=2),
        routing(7, champion=2, challenger=4),
        routing(8, champion=2),
        routing(9, champion=2, standby=1),
    ]
    marks = marks_of(history, [], [], [])
    assert [(mark.kind, mark.text.replace("\N{NO-BREAK SPACE}", " ")) for mark in marks] == [
        ("version", "v1 champion"),
        ("rollout", "v2 on trial in shadow"),
        ("rollout", "v2 canary 20 %"),
        ("version", "v2 champion"),
        ("version", "v3 champion"),
        ("rollback", "traffic back to v2"),
        ("rollout", "v4 challenger"),
        ("rollout", "trial of v4 ended"),
        ("rollout", "standby changed"),
    ]
    assert marks[1].detail == ("Version 1 champion, version 2 in shadow. So it was. By rollout.")
    assert roles_of(history[2]) == (
        "version 1 champion, version 2 in canary with 20\N{NO-BREAK SPACE}%"
    )


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("challenger: version 2. Every gate passed.", "retrain done: v2"),
        ("champion: version 12. First.", "retrain done: v12"),
        ("rejected: version 2. Worse on regime 1.", "retrain refused: v2"),
        ("rejected: too few rows.", "retrain refused"),
        ("dead: silent for 2:00:00", "retrain ended"),
        ("", "retrain ended"),
    ],
)
def test_a_retrain_says_what_it_came_to(outcome: str, words: str) -> None:
    retrain = Retrain("r", "digits", "", "k", "ended", "", NOON, NOON + SECOND, outcome)
    assert [mark.text for mark in marks_of([], [], [], [retrain])] == ["retrain asked", words]


@pytest.mark.parametrize(
    ("kind", "reason", "words"),
    [
        ("input-drift", "", "inputs changed"),
        ("loss", "", "accuracy fell"),
        ("worse-than-standby", "", "v3 worse than standby"),
        ("hard-failure", "", "v3 failed"),
        ("registry", "It serves without a passing verdict. None.", "v3 serves unjudged"),
        ("registry", "The alias was moved.", "v3 flagged"),
        ("of tomorrow", "", "v3: of tomorrow"),
    ],
)
def test_a_signal_says_what_happened(kind: str, reason: str, words: str) -> None:
    incident = Incident(
        "i", "digits", "k", kind, "page", "open", "digits:3: it", NOON, None, 3, "", {}
    )
    signal = {
        "incident_id": "i",
        "at": NOON,
        "version": 3,
        "kind": kind,
        "detector": "Detector",
        "evidence": 12.0,
        "threshold": 11.5,
        "rows": 45,
        "details": {"reason": reason},
    }
    (mark,) = marks_of([], [incident], [signal], [])
    assert (mark.kind, mark.text) == ("incident", words)
    assert mark.detail.endswith(".")
    assert marks_of([], [], [signal], []) == []
