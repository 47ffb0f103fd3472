"""The ledger's questions at a million releases and ten million predictions.

    python benchmarks/ledger.py [--releases 1000000] [--predictions 10000000] [--asked 300]

A SQLite lifecycle database with the real schema is filled in a folder of its own (about 4 GB,
removed at the end): every routing is a real line of a real chain, and what answered is counted
from the log by the migration's own statement. Then each question is asked at random places by the
functions that the command line calls, SQLAlchemy and JSON included, and SQLite is asked how it
found the answer. The peer, in the same file and the same run, is what one can ask of MLflow: a tag
on every version that says since when it serves, in a table of MLflow's own shape and key.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.orm import Session

from registry import connect, current_routing, find_prediction, served_at, sessions, upgrade
from registry.columns import spell
from registry.json_text import canonical
from registry.ledger import FIELDS, FIRST_HASH, digest_of, head_of, lines_of, verify_ledger
from registry.ledger_file import export_ledger, verify_file

MODEL = "digits"
START = datetime(2024, 1, 1, tzinfo=UTC)
EVERY = timedelta(seconds=60)  # between two routings: a million are two years
VERSIONS = 500
BYTES_PER_PREDICTION = 400
STEP = 50_000
TAGS = """CREATE TABLE model_version_tags (
    key VARCHAR(250) NOT NULL, value VARCHAR(5000), name VARCHAR(256) NOT NULL,
    version INTEGER NOT NULL, PRIMARY KEY (key, name, version))"""
ASK_TAGS = """SELECT version, value FROM model_version_tags
    WHERE name = :model AND key = 'lifecycle.since' AND value <= :at
    ORDER BY value DESC LIMIT 1"""

Ask = Callable[[Session, random.Random], object]


@dataclass
class Question:
    """One question: how to ask it, how long it took, how SQLite found it."""

    name: str
    ask: Ask
    times: int
    seconds: list[float] = field(default_factory=list)
    plan: list[str] = field(default_factory=list)

    @property
    def indexed(self) -> bool:
        """Whether no table was read from end to end; `anon` is the one row of a subquery."""
        scans = [line for line in self.plan if line.startswith("SCAN")]
        return all(line.startswith("SCAN anon") for line in scans)


def main() -> None:
    """Build, ask, print, clean up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--releases", type=int, default=1_000_000)
    parser.add_argument("--predictions", type=int, default=10_000_000)
    parser.add_argument("--asked", type=int, default=300)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="homeostat-ledger-"))
    try:
        needed = (given.predictions + given.releases * 5) * BYTES_PER_PREDICTION
        if shutil.disk_usage(folder).free < needed:
            sys.exit(f"{needed / 1e9:.0f} GB of disk are needed in {folder.parent}.")
        run(folder, given.releases, given.predictions, given.asked)
    finally:
        shutil.rmtree(folder)


def run(folder: Path, releases: int, predictions: int, asked: int) -> None:
    """Everything, in a folder."""
    path = folder / "lifecycle.db"
    began = time.perf_counter()
    upgrade(f"sqlite:///{path}", "0004")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        fill(database, releases, predictions)
    upgrade(f"sqlite:///{path}")  # counts what answered, from the log
    took = time.perf_counter() - began
    size = path.stat().st_size / 1e9
    print(f"{releases:,} releases, {predictions:,} predictions: {size:.1f} GB in {took:.0f} s\n")
    engine = connect(f"sqlite:///{path}")
    found = questions(releases, predictions, asked)
    measure(engine, found)
    show(found)
    engine.dispose()
    prove(folder, releases)


def questions(releases: int, predictions: int, asked: int) -> list[Question]:
    """What is asked; the peer comes last."""

    def moment(chance: random.Random) -> datetime:
        return START + EVERY * (chance.random() * releases)

    def exactly(chance: random.Random) -> datetime:
        return at_of(chance.randrange(predictions), releases, predictions)

    return [
        Question("served-at, any moment", lambda s, r: served_at(s, MODEL, moment(r)), asked),
        Question("served-at, a prediction's", lambda s, r: served_at(s, MODEL, exactly(r)), asked),
        Question("history, the last 20", lambda s, _: recent(s), asked),
        Question("the routing now", lambda s, _: current_routing(s, MODEL), asked),
        Question("a prediction by its id", lambda s, r: logged(s, r, predictions), asked),
        Question("peer: since-tags", lambda s, r: tagged(s, moment(r)), max(5, asked // 30)),
    ]


def recent(session: Session) -> object:
    """As `homeostat history --last 20`."""
    return lines_of(session, MODEL, after=head_of(session, MODEL).line - 20)


def logged(session: Session, chance: random.Random, predictions: int) -> object:
    """A prediction of the log."""
    found = find_prediction(session, id_of(chance.randrange(predictions)))
    assert found is not None
    return found


def tagged(session: Session, moment: datetime) -> object:
    """The peer: whichever version's tag says the latest moment before."""
    found = session.execute(text(ASK_TAGS), {"model": MODEL, "at": spell(moment)}).one()
    return found.version


def measure(engine: Engine, found: list[Question]) -> None:
    """Ask each question at random places, and how the last of its statements was answered."""
    maker = sessions(engine, read_only=True)
    said: list[tuple[str, Any]] = []

    def listen(_: Connection, __: object, statement: str, values: object, *___: object) -> None:
        said.append((statement, values))

    event.listen(engine, "before_cursor_execute", listen)
    for question in found:
        chance = random.Random(0)
        for turn in range(question.times + 1):
            with maker() as session:
                said.clear()
                began = time.perf_counter()
                question.ask(session, chance)
                if turn:  # the first compiles the statement
                    question.seconds.append(time.perf_counter() - began)
        asked = [one for one in said if one[0].lstrip().startswith("SELECT")]
        with engine.connect() as connection:
            for statement, values in asked:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
                question.plan += [str(row[3]) for row in plan]


def show(found: list[Question]) -> None:
    """The table, the ratio to the peer, and the plans."""
    print(f"{'question':<28} {'median':>10} {'p99':>10} {'worst':>10}   by index alone")
    for one in found:
        p99 = statistics.quantiles(one.seconds, n=100, method="inclusive")[98]
        figures = (statistics.median(one.seconds), p99, max(one.seconds))
        shown = " ".join(f"{figure * 1000:7.2f} ms" for figure in figures)
        print(f"{one.name:<28} {shown}   {'yes' if one.indexed else 'NO'}")
    served, peer = (statistics.median(found[place].seconds) for place in (0, -1))
    print(f"\nserved-at is {peer / served:,.0f} times as quick as the peer's tags\n")
    for one in found:
        print(one.name)
        for line in one.plan:
            print(f"    {line}")


def prove(folder: Path, releases: int) -> None:
    """Verify the chain in the database, export it, verify the file: each in a fresh process."""
    print(f"\n{'proof':<28} {'seconds':>10} {'lines/s':>12}   memory of its process at its most")
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as processes:
        for name in ("ledger verify", "ledger export", "ledger verify --file"):
            took, memory = processes.submit(proof, name, folder).result()
            print(f"{name:<28} {took:10.1f} {releases / took:12,.0f}   {memory:.0f} MB")


def proof(name: str, folder: Path) -> tuple[float, float]:
    """The seconds that one act took, and the MB that this process had at its most."""
    acts: dict[str, Callable[[Session], object]] = {
        "ledger verify": lambda session: verify_ledger(session, MODEL),
        "ledger export": lambda session: export_ledger(session, MODEL, folder / "export"),
        "ledger verify --file": lambda _: verify_file(folder / "export"),
    }
    with sessions(connect(f"sqlite:///{folder / 'lifecycle.db'}"), read_only=True)() as session:
        began = time.perf_counter()
        done = acts[name](session)
        took = time.perf_counter() - began
    assert getattr(done, "intact", True), done
    return took, peak_memory()


def peak_memory() -> float:
    """The MB that this process has had at its most, without what ran before in its place."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def fill(database: sqlite3.Connection, releases: int, predictions: int) -> None:
    """Every table that is asked, in the order of its key, so that no tree is torn."""
    for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-400000"):
        database.execute(f"PRAGMA {setting}")
    database.execute(TAGS)
    insert(database, "ledger", FIELDS, routings(releases))
    columns = ("model", "version", "generation", "digest", "role", "from_at", "to_at")
    insert(database, "releases", (*columns, '"by"', "why", "ended_why"), held(releases))
    insert(database, "model_version_tags", ("key", "value", "name", "version"), tags(releases))
    log = ("id", "model", "version", "generation", "arm", "entity", "at", '"row"', "output")
    rows = answers(releases, predictions)
    insert(database, "predictions", (*log, '"columns"', "answer"), rows)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("ANALYZE")


def insert(
    database: sqlite3.Connection,
    table: str,
    columns: tuple[str, ...],
    rows: Iterator[tuple[object, ...]],
) -> None:
    """Many rows, a good part in each transaction."""
    marks = ", ".join("?" * len(columns))
    statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - ours
    while part := list(islice(rows, STEP)):
        database.execute("BEGIN")
        database.executemany(statement, part)
        database.execute("COMMIT")


def routings(releases: int) -> Iterator[tuple[object, ...]]:
    """A chain of promotions, one a minute."""
    previous, before = FIRST_HASH, None
    for number in range(releases):
        version = version_of(number)
        split = {"champion": version, "challenger": None, "standby": None, "phase": "steady"}
        after = canonical(split | {"canary_share": 0.0, "digests": {str(version): digest(version)}})
        line: dict[str, Any] = {
            "model": MODEL,
            "line": number + 1,
            "kind": "routing",
            "generation": number + 1,
            "version": version,
            "digest": digest(version),
            "at": spell(START + EVERY * number),
            "actor": "benchmark",
            "reason": "It earned its traffic.",
            "before": before,
            "after": after,
            "evidence": '{"rows":2000}',
            "previous_hash": previous,
        }
        line["hash"] = previous = digest_of(line)
        before = after
        yield tuple(line[name] for name in FIELDS)


def held(releases: int) -> Iterator[tuple[object, ...]]:
    """Each routing's release; the last is open."""
    for number in range(releases):
        version = version_of(number)
        last = number + 1 == releases
        ended = None if last else stored(START + EVERY * (number + 1))
        yield (
            *(MODEL, version, number + 1, digest(version), "champion"),
            *(stored(START + EVERY * number), ended, "benchmark", "It earned it.", ""),
        )


def tags(releases: int) -> Iterator[tuple[object, ...]]:
    """The peer: since when each version serves; one version for each release, as tags allow."""
    for number in range(releases):
        yield "lifecycle.since", spell(START + EVERY * number), MODEL, number + 1


def answers(releases: int, predictions: int) -> Iterator[tuple[object, ...]]:
    """Predictions evenly over the time, each by the routing of its moment."""
    output = bytes(40)
    for number in range(predictions):
        routing = number * releases // predictions
        yield (
            *(id_of(number), MODEL, version_of(routing), routing + 1, "champion", ""),
            *(stored(at_of(number, releases, predictions)), "[0.5]", output, 10, "{}"),
        )


def at_of(number: int, releases: int, predictions: int) -> datetime:
    """When a prediction was answered."""
    return START + timedelta(seconds=EVERY.total_seconds() * releases * number / predictions)


def id_of(number: int) -> str:
    """Grows as a UUIDv7 does."""
    return f"{number:08x}-0000-7000-8000-000000000000"


def version_of(number: int) -> int:
    """Which version a routing makes champion."""
    return number % VERSIONS + 1


def digest(version: int) -> str:
    """Of a version's artifact."""
    return f"{version:064x}"


def stored(moment: datetime) -> str:
    """A moment as SQLite keeps it in the tables with no chain."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


if __name__ == "__main__":
    main()
