"""What fills the database of `benchmarks.page`: a week of one model, loaded in bulk."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import insert
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.gateway import MODEL
from monitoring.signals import Signal, triage
from registry import (
    EvidenceSample,
    connect,
    promote,
    raise_signal,
    record_evidence,
    resolve,
    sessions,
    transaction,
)
from registry.blocks import Arm, Block, Columns, id_text
from registry.log import log_blocks
from registry.release_history import known_digest
from registry.routing import current_routing
from registry.tables import LabelRow, LossRow, PredictionRow

MINUTE = timedelta(minutes=1)
STEP = 500  # minutes of one transaction
DETECTORS = ("input-drift", "loss", "worse-than-standby")
COLUMNS, CLASSES = 64, 10


def fill(
    url: str, start: datetime, end: datetime, predictions: int, labels: int, releases: int
) -> None:
    """Predictions evenly over the minutes, labels of some, releases, evidence and incidents.

    Args:
        url: Of a database where version 1 serves since `start`.
        start: The first moment.
        end: And the last.
        predictions: How many.
        labels: Of how many of them a label came.
        releases: How often the versions took turns.
    """
    maker = sessions(connect(url))
    _take_turns(maker, start, end, releases)
    minutes = int((end - start) / MINUTE)
    numbers = np.random.default_rng(0)
    chance = random.Random(0)
    each, some = predictions / minutes, labels / minutes
    for first in range(0, minutes, STEP):
        with transaction(maker) as session:
            last = min(first + STEP, minutes)
            blocks = list(_blocks(numbers, start, range(first, last), each, releases, minutes))
            log_blocks(session, blocks)
            _label(session, blocks, some, chance)
            _watch(session, start, range(first, last), minutes)
    _incidents(maker, start, end)


def _take_turns(maker: sessionmaker[Session], start: datetime, end: datetime, count: int) -> None:
    with transaction(maker) as session:
        routing = current_routing(session, MODEL)
        assert routing is not None
        digests = {1: routing.digests[1]}
        for number in range(1, count):
            version = number % 2 + 1
            promote(
                session,
                MODEL,
                version,
                actor="rollout",
                reason="Not worse than the champion on 2000 labelled rows.",
                evidence={},
                now=start + (end - start) * number / count,
                digest=digests.get(version) or known_digest(session, MODEL, version),
            )


def _blocks(
    numbers: np.random.Generator,
    start: datetime,
    minutes: range,
    each: float,
    releases: int,
    whole: int,
) -> Iterator[Block]:
    """One block for each minute."""
    for minute in minutes:
        count = int((minute + 1) * each) - int(minute * each)
        if not count:
            continue
        at = start + minute * MINUTE
        turn = minute * releases // whole
        rows = numbers.integers(0, 17, (count, COLUMNS)).astype("<f4")
        outputs = numbers.random((count, CLASSES)).astype("<f4")
        batch = Columns(
            at=int(at.timestamp() * 1e6),
            ids=b"".join(_id(at, place) for place in range(count)),
            entities=[],
            columns=COLUMNS,
            exact=False,
            rows=rows.tobytes(),
            width=CLASSES,
            outputs=outputs.tobytes(),
            answers=b"\n".join([b'{"prediction":3,"confidence":0.9}'] * count),
            shadows=[],
        )
        block = Block(Arm(MODEL, turn + 1, turn % 2 + 1, "champion"))
        block.take(batch)
        yield block


def _label(session: Session, blocks: list[Block], some: float, chance: random.Random) -> None:
    """Labels of the first of each minute, a minute later; one in twenty says it was wrong."""
    predictions, labels, losses = [], [], []
    for number, block in enumerate(blocks):
        batch, arm = block.batches[0], block.arm
        values = batch.numbers()
        count = min(int((number + 1) * some) - int(number * some), batch.count)
        for place in range(count):
            name, wrong = id_text(batch.id_at(place)), chance.random() < 0.05
            outputs = batch.outputs[place * CLASSES * 4 : (place + 1) * CLASSES * 4]
            predictions.append(
                {
                    "id": name,
                    "model": MODEL,
                    "version": arm.version,
                    "generation": arm.generation,
                    "arm": arm.arm,
                    "entity": "",
                    "at": batch.moment,
                    "row": values[place].tolist(),
                    "output": outputs,
                    "columns": CLASSES,
                    "answer": {"prediction": 3},
                    "packed": True,
                }
            )
            came = batch.moment + MINUTE
            labels.append(
                {
                    "prediction_id": name,
                    "model": MODEL,
                    "value": 4 if wrong else 3,
                    "at": came,
                    "source": "benchmark",
                    "status": "accepted",
                }
            )
            losses.append(
                {
                    "prediction_id": name,
                    "version": arm.version,
                    "loss": float(wrong),
                    "labelled_at": came,
                }
            )
    for table, rows in ((PredictionRow, predictions), (LabelRow, labels), (LossRow, losses)):
        if rows:
            session.execute(insert(table), rows)


def _watch(session: Session, start: datetime, minutes: range, whole: int) -> None:
    """A sample of each detector for each minute."""
    alarm = math.log(100_000)
    record_evidence(
        session,
        [
            EvidenceSample(MODEL, 1, name, start + minute * MINUTE, value, alarm, minute)
            for minute in minutes
            for name in DETECTORS
            for value in [alarm * 0.4 * (1 + math.sin(40 * minute / whole))]
        ],
    )


def _incidents(maker: sessionmaker[Session], start: datetime, end: datetime) -> None:
    """Ten, of which the last is open."""
    for number in range(1, 11):
        at = start + (end - start) * number / 11
        details = {"since_at": at.isoformat()}
        signal = Signal("loss", "LossDetector", 15.0, 11.5, 5000, 300, details)
        with transaction(maker) as session:
            routing = current_routing(session, MODEL)
            assert routing is not None
            version = routing.champion
            opened = raise_signal(session, MODEL, version, signal, triage(signal), at, "")
            if number < 10:
                resolve(session, opened.id, "Labels are well again.", at + MINUTE * 30)


def _id(at: datetime, place: int) -> bytes:
    """A UUIDv7 of that moment."""
    milliseconds = int(at.timestamp() * 1000)
    return ((milliseconds << 80) | (7 << 76) | (2 << 62) | place).to_bytes(16, "big")
