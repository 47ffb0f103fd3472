"""Two gateways that are cut from the database: who decides, who answers what, how soon they agree.

    python -m benchmarks.split [--seconds 300] [--kinds hole] [--who holder,other,both]

Real gateway processes over the PostgreSQL that the tests start too and a real MLflow, callers at
both. Each gateway has a line of its own to the database, which is cut for so many seconds: `reset`,
`hole` or `late`, as `benchmarks.cuts` has it. Who is cut: the one that acts, by the controller's
lease; the other one; or both. Labels ask for a rollback wherever they are taken; where both are
cut, somebody else moves the routing. Exit code 1 where a decision was made twice or not at all, an
answer or a label was lost or counted twice, or one of the two answered by the old routing more than
five seconds after the end of the cut.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.cuts import KINDS
from benchmarks.gateway import prepare
from benchmarks.ledger import database_in
from benchmarks.rollback import show
from benchmarks.rollback_alias import mlflow, register
from benchmarks.split_drills import Drill, Pair, Who, pair

WHO: tuple[Who, ...] = ("holder", "other", "both")


def main() -> int:
    """Run the drills, and print the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="of one cut, at least")
    parser.add_argument("--kinds", default="hole", help="of " + ", ".join(KINDS))
    parser.add_argument("--who", default=",".join(WHO), help="of " + ", ".join(WHO))
    given = parser.parse_args()
    found = []
    for kind in (one for one in KINDS if one in given.kinds.split(",")):
        for who in (one for one in WHO if one in given.who.split(",")):
            # New ones each: labels that were kept waiting for minutes make the next ones wait.
            with two_gateways() as gateways:
                found.append(gateways.drill(who, kind, given.seconds))
            for text in found[-1].wrong() or ["as it has to be"]:
                print(f"{who}, {kind}: {text}", flush=True)
    show_drills(found, given.seconds)
    return int(any(one.wrong() for one in found))


@contextlib.contextmanager
def two_gateways() -> Iterator[Pair]:
    """All that a drill needs, in a folder that is removed."""
    folder = Path(tempfile.mkdtemp(prefix="homeostat-split-"))
    try:
        with contextlib.ExitStack() as stack:
            state = folder / "state"
            state.mkdir()
            database = stack.enter_context(database_in(folder, "postgres"))
            prepare(state, database, versions=2)
            url = stack.enter_context(mlflow(folder))
            register(state, url, 2, database)
            yield stack.enter_context(pair(state, database, url))
    finally:
        shutil.rmtree(folder)


def show_drills(drills: Sequence[Drill], seconds: float) -> None:
    """One line for each drill."""
    columns = (
        "cut off",
        "how",
        "told after",
        "taken over",
        "rolled back",
        "routings",
        "stale answers",
        "slowest",
        "labels refused",
        "one routing after",
    )
    show(
        f"Two gateways, cut from the database for {seconds:.0f} s or more; times in seconds",
        columns,
        [
            (
                one.who,
                one.kind,
                f"{one.told:.1f}",
                "" if one.takeover is None else f"{one.takeover:.1f}",
                "" if one.decided is None else f"{one.decided:.1f}",
                " ".join(one.actors),
                one.stale,
                f"{one.slowest:.2f}",
                len(one.refused),
                f"{one.converged:.2f}",
            )
            for one in drills
        ],
    )
    answered = sum(one.answered for one in drills)
    failed = sum(one.failed for one in drills)
    amiss = sum(abs(one.answered - one.rows) for one in drills)
    print(f"answers {answered:,}, not answered {failed}, lost or twice in the log {amiss}")


if __name__ == "__main__":
    sys.exit(main())
