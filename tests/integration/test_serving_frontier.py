"""Up to where a gateway's labels count: the log of its database says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
from uuid6 import uuid7

from registry import PredictionRecord, log_predictions, record_losses, transaction
from registry.losses import begin_call
from serving.frontier import Frontier
from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

SECOND = timedelta(seconds=1)
PREDICTIONS, TOOK = 400, 10  # one a second; seconds that a label takes


def test_where_few_are_ever_labelled_they_count_while_no_versions_are_compared(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    here = station()
    here.serve(1, hand_clock.now)
    gateway, began = Gateway(here.settings, hand_clock), hand_clock.now
    records = [
        PredictionRecord(
            id=str(uuid7()),
            model="digits",
            version=1,
            generation=1,
            arm="champion",
            entity="",
            at=began + SECOND * number,
            row=[0.0] * 64,
            output=np.zeros(10, dtype=np.float32),
            answer={},
        )
        for number in range(PREDICTIONS)
    ]
    lost = [(one.id, 1, 0.0, one.at + SECOND * TOOK) for one in records[2::3]]
    with transaction(gateway.parts.maker) as session:
        log_predictions(session, records)
        record_losses(session, lost, begin_call(session, "digits"))
    hand_clock.advance(PREDICTIONS)

    frontier, before = Frontier(gateway.parts), began - SECOND
    ((moment, share),) = frontier.reach("digits", before, alone=True)
    assert moment == began + SECOND * 389  # the newest labelled that is as old as labels get
    assert 0.3 < share < 0.35
    assert not frontier.late_count("digits")
    # A comparison has no price for what lacks: two thirds of these labels never come.
    assert Frontier(gateway.parts).reach("digits", before, alone=False) == []
    gateway.stop()
