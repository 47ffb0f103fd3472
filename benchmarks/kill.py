"""Is every answered prediction in the log exactly once, after `kill -9` at any moment?

    python -m benchmarks.kill [--kills 30] [--seed 0] [--connections 16] [--database URL]

A real gateway process is asked for predictions by keep-alive connections that never rest, each
request with a name of its own; one answer in fifty gets a label. At a random moment, up to
two seconds after it began to answer, the process is killed with SIGKILL and the next one started
over the same state folder, where it finds what the dead one left. At the end every answer that a
connection received is looked up in the lifecycle database, and so is every label that was
acknowledged. Exit code 1 if any is missing or there twice.

What the connections sent and got no answer to may be in the log or not: nobody was told.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gateway import (
    MODEL,
    ROW,
    Connection,
    prepare,
    running,
    until_it_answers,
)
from benchmarks.ports import free_port
from homeostat.clock import utc_now
from registry import connect, find_predictions, sessions, transaction
from registry.labels import labelled_rows_of
from registry.log import predictions_within

LONGEST_LIFE = 2.0  # seconds under traffic, until a kill
LABELLED = 0.02  # share of the answers: a label waits for a transaction of the database
DRAIN_SECONDS = 60.0


@dataclass
class Told:
    """What the gateway answered, as its callers saw it.

    `answered` has the name of each request by the id of its prediction; `broken` counts requests
    without an answer, `refused` those with another than 200.
    """

    answered: dict[str, str] = field(default_factory=dict)
    labelled: set[str] = field(default_factory=set)
    sent: int = 0
    broken: int = 0
    refused: int = 0
    ids_given_twice: int = 0


@dataclass(frozen=True)
class Found:
    """What the database has of it."""

    logged: int
    lost: int
    twice: int
    unanswered: int
    labels: int
    labels_lost: int

    @property
    def whole(self) -> bool:
        """Whether nothing is missing and nothing there twice."""
        return not (self.lost or self.twice or self.labels_lost)


async def ask(port: int, name: str, told: Told, stop: asyncio.Event, chance: random.Random) -> None:
    """Ask without end, through as many deaths as there are."""
    connection = Connection(port)
    number = 0
    while not stop.is_set():
        try:
            await connection.open()
        except OSError:
            await asyncio.sleep(0.02)  # nobody listens between a death and the next start
            continue
        while not stop.is_set():
            number += 1
            entity = f"{name}-{number}"
            told.sent += 1
            try:
                body = {"row": ROW, "entity": entity}
                answer = await connection.post(f"/v1/models/{MODEL}/predict", body)
            except OSError:
                told.broken += 1
                break
            if answer.status != 200:
                told.refused += 1
                continue
            made = answer.body["predictions"][0]["id"]
            told.ids_given_twice += made in told.answered
            told.answered[made] = entity
            if chance.random() >= LABELLED:
                continue
            try:
                truth = {"labels": [{"id": made, "label": chance.randrange(10)}]}
                answer = await connection.post("/v1/labels", truth)
            except OSError:
                break
            if answer.status == 200:
                told.labelled.add(made)
    connection.close()


async def kill_often(state: Path, kills: int, seed: int, connections: int, **settings: str) -> Told:
    """Kill so many gateways under traffic, and end one more in the ordinary way."""
    chance = random.Random(seed)
    told, stop, port = Told(), asyncio.Event(), free_port()
    askers = [
        asyncio.create_task(ask(port, f"{n}", told, stop, random.Random(seed + n)))
        for n in range(connections)
    ]
    for _ in range(kills):
        with running(state, port, **settings) as process:
            await until_it_answers(port, process, state)
            await asyncio.sleep(chance.uniform(0.0, LONGEST_LIFE))
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait, 10)
    stop.set()
    await asyncio.gather(*askers)
    with running(state, port, **settings) as process:
        await until_it_answers(port, process, state)
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            raise SystemExit("the last gateway did not end") from None
    return told


def look_up(url: str, told: Told) -> Found:
    """Look every answer and every acknowledged label up in the database."""
    with transaction(sessions(connect(url))) as session:
        logged = find_predictions(session, told.answered)
        moments = datetime(1970, 1, 1, tzinfo=UTC), utc_now()
        rows = Counter(one.entity for one in predictions_within(session, MODEL, *moments))
        del rows[""]
        kept = labelled_rows_of(session, told.labelled)
    labelled = {one.id for one in kept if one.loss is not None}
    right = {made for made, one in logged.items() if one.entity == told.answered[made]}
    return Found(
        logged=len(right),
        lost=len(told.answered) - len(right),
        twice=sum(count - 1 for count in rows.values()) + told.ids_given_twice,
        unanswered=len(rows.keys() - set(told.answered.values())),
        labels=len(told.labelled & labelled),
        labels_lost=len(told.labelled - labelled),
    )


def main() -> int:
    """Kill, look up, print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--database", default="", help="of an empty database; SQLite if not given")
    chosen = parser.parse_args()
    settings = {"HOMEOSTAT_DATABASE_URL": chosen.database} if chosen.database else {}
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        url = prepare(state, chosen.database)
        told = asyncio.run(
            kill_often(state, chosen.kills, chosen.seed, chosen.connections, **settings)
        )
        found = look_up(url, told)
    print(f"kills {chosen.kills}, seed {chosen.seed}, {chosen.connections} connections")
    print(f"answered {len(told.answered)}")
    print(f"logged {found.logged}")
    print(f"lost {found.lost}")
    print(f"twice {found.twice}")
    print(f"refused {told.refused}")
    print(f"cut off by a kill {told.broken}, of which {found.unanswered} are in the log")
    print(f"labels acknowledged {len(told.labelled)}")
    print(f"labels kept {found.labels}")
    print(f"labels lost {found.labels_lost}")
    return 0 if found.whole and told.answered and told.labelled else 1


if __name__ == "__main__":
    sys.exit(main())
