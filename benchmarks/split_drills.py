"""One cut between gateways and their database, from before it to after it, and what came of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sqlalchemy.orm import Session, sessionmaker

from benchmarks.cuts import Kind
from benchmarks.gateway import MODEL
from benchmarks.rollback_drills import answers_of
from benchmarks.split_sides import Answer, Refusal, Side, two_sides, until
from homeostat.clock import utc_now
from registry import (
    MlflowVersions,
    connect,
    incident_history,
    rollback,
    routing_history,
    sessions,
    transaction,
    verify_ledger,
)
from registry.alias_moves import times_moved
from registry.labels import count_labelled
from registry.log import count_predictions, find_predictions

Who = Literal["holder", "other", "both"]

ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(1, 200)]
GOOD, BAD = 1, 2
WAIT_SECONDS = 60.0
CONVERGE_SECONDS = 5.0
AFTER_SECONDS = 3.0  # after the cut, in which a second decision would be made
GONE = 'homeostat_gateways{state="gone"}'


@dataclass
class Drill:
    """What came of one cut.

    Args:
        who: Was cut: the gateway that acts, the other one, or both.
        kind: How.
        told: Seconds until all that were cut said so.
        takeover: Seconds until another one acted; None: none was to.
        decided: Seconds until the callers of who was not cut had the good version again.
        incident: What on-call read of the rollback.
        stale: Answers of the bad version that who was cut gave meanwhile.
        converged: Seconds from the end of the cut to the last answer of the bad version.
        slowest: Seconds of the slowest answer.
        failed: Requests that were not answered.
        refused: Labels that were not taken at first.
        actors: Of the routings since before the cut.
        incidents: Since before the cut, of the traffic.
        moves: Of MLflow's alias champion back to the good version.
        intact: Whether the ledger is one unbroken chain.
        answered: Predictions given out so far,
        logged: those of them that are in the log,
        rows: and all that are in the log.
        labelled: Labels taken so far, as the callers have it,
        labels: and as the database has it.
    """

    who: Who
    kind: Kind
    told: float = 0.0
    takeover: float | None = None
    decided: float | None = None
    incident: str = ""
    stale: int = 0
    converged: float = 0.0
    slowest: float = 0.0
    failed: int = 0
    refused: list[Refusal] = field(default_factory=list)
    actors: list[str] = field(default_factory=list)
    incidents: list[str] = field(default_factory=list)
    moves: int = 0
    intact: bool = False
    answered: int = 0
    logged: int = 0
    rows: int = 0
    labelled: int = 0
    labels: int = 0

    def wrong(self) -> list[str]:
        """What must not be, in words; empty: all is well."""
        one = "ann" if self.who == "both" else "guard"
        of_traffic = [] if self.who == "both" else ["worse-than-standby"]
        checks = {
            f"the ledger has {self.actors}": self.actors == ["API", one],
            "the ledger is broken": self.intact,
            f"the incidents are {self.incidents}": self.incidents == of_traffic,
            "no word of who fell silent": not of_traffic or "fell silent" in self.incident,
            f"the alias was moved {self.moves} times": self.moves == 1,
            f"{self.failed} requests failed": not self.failed,
            f"labels were refused by {self.refused}": all(
                each.status == 503 and each.retry_after for each in self.refused
            ),
            "no label was refused": self.refused,
            f"{self.answered} answered, {self.logged} of them and {self.rows} rows in the log": (
                self.answered == self.logged == self.rows
            ),
            f"{self.labelled} labels taken, {self.labels} kept": self.labelled == self.labels,
            "who was cut answered nothing": self.stale,
            f"one routing only after {self.converged:.1f} s": self.converged <= CONVERGE_SECONDS,
        }
        return [text for text, holds in checks.items() if not holds]


@dataclass
class Pair:
    """Two gateways of one database and one MLflow, of which one acts; the good version answers."""

    sides: tuple[Side, Side]
    maker: sessionmaker[Session]
    store: MlflowVersions

    def drill(self, who: Who, kind: Kind, least: float = 0.0) -> Drill:
        """Let the bad version answer, cut, let decide, mend, and look what became of it.

        Args:
            who: Is cut.
            kind: How.
            least: How long the cut lasts at least; else until all has happened.

        Raises:
            NotInTime: what has to come did not.
        """
        done = Drill(who, kind)
        until(lambda: any(side.acts for side in self.sides), WAIT_SECONDS, "one acts")
        holder, other = sorted(self.sides, key=lambda side: not side.acts)
        cut = {"holder": [holder], "other": [other], "both": [holder, other]}[who]
        generation = self._give_to_bad(holder)
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            for side in cut:
                side.refused.clear()
                side.line.cut(kind)
                stack.callback(side.line.mend)
            told = stack.enter_context(ThreadPoolExecutor(1)).submit(
                until, lambda: all(side.is_away for side in cut), WAIT_SECONDS, "who is cut says so"
            )
            if who == "holder":
                done.takeover = until(lambda: other.acts, WAIT_SECONDS, "the other one acts")
            for side in self.sides:
                stack.enter_context(side.labelling())
            decided = self._decide(done, {"holder": other, "other": holder}.get(who), began)
            done.told = told.result()
            until(lambda: not any(side.acts for side in cut), WAIT_SECONDS, "it gives up acting")
            until(lambda: time.monotonic() - began >= least, least + 1, "the time is over")
            until(lambda: all(side.owes for side in cut), WAIT_SECONDS, "labels are refused")
            mended = time.monotonic()
            for side in cut:
                side.line.mend()
            self._until_all_answer(GOOD)
            until(lambda: not any(side.owes for side in cut), WAIT_SECONDS, "labels are taken")
            after = time.monotonic() + AFTER_SECONDS
            until(lambda: time.monotonic() > after, AFTER_SECONDS + 1, "the time is over")
        answers = [one for side in self.sides for one in side.answers if one.at > began]
        bad = [one.at for one in answers if one.version == BAD]
        done.stale = sum(decided < at < mended for at in bad)
        done.converged = max(max(bad) - mended, 0.0)
        done.slowest = max(one.seconds for one in answers)
        done.failed = sum(not one.key for one in answers)
        done.refused = [one for side in cut for one in side.refused]
        self._read(done, generation)
        return done

    def _give_to_bad(self, holder: Side) -> int:
        """Promote the bad version, past its gates and out of quarantine; the routing's number."""
        wish = {"version": BAD, "reason": "a drill", "override": True}
        answer = holder.http.post(f"/v1/models/{MODEL}/promote", json=wish)
        # On a busy machine it may be done and not yet shown, which is said; it is waited for below.
        assert answer.status_code == 200 or "not-proven" in answer.text, answer.text
        self._until_all_answer(BAD)
        until(lambda: self._pointer() == BAD, WAIT_SECONDS, "the alias follows")
        with transaction(self.maker) as session:
            return routing_history(session, MODEL, limit=1)[0].generation

    def _decide(self, done: Drill, decides: Side | None, began: float) -> float:
        """Wait until labels, or a person where all are cut, took the traffic back; when it was."""
        if decides is None:
            with transaction(self.maker) as session:
                rollback(session, MODEL, "ann", "meanwhile", {}, utc_now())
            return time.monotonic()
        until(lambda: decides.version == GOOD, WAIT_SECONDS, "labels take the traffic back")
        now = time.monotonic()
        done.decided = now - began
        until(lambda: self._pointer() == GOOD, WAIT_SECONDS, "the alias goes back")
        until(lambda: decides.figure(GONE) == 1, WAIT_SECONDS, "the other one is told of")
        return now

    def _until_all_answer(self, version: int) -> None:
        what = f"all answer by version {version}"
        until(lambda: all(one.version == version for one in self.sides), WAIT_SECONDS, what)

    def _pointer(self) -> int | None:
        return self.store.aliases(MODEL).get("champion")

    def _read(self, done: Drill, generation: int) -> None:
        """What the database and MLflow have of it, once all that was answered has come there."""
        until(lambda: self._pointer() == GOOD, WAIT_SECONDS, "the alias goes back")

        def is_in_the_log() -> bool:
            given = self._given()
            with transaction(self.maker) as session:
                done.answered, done.rows = len(given), count_predictions(session, MODEL)
                done.logged = len(find_predictions(session, [one.key for one in given]))
            return min(done.logged, done.rows) >= done.answered

        with contextlib.ExitStack() as calm:
            for side in self.sides:
                calm.enter_context(side.turn)
            until(is_in_the_log, WAIT_SECONDS, "all that was answered is in the log")
        with transaction(self.maker) as session:
            routings = routing_history(session, MODEL)[generation - 1 :]
            since, done.actors = routings[0].at, [one.actor for one in routings]
            done.intact = verify_ledger(session, MODEL).intact
            found = [
                one
                for one in incident_history(session, MODEL)
                if one.opened_at > since and "subject" not in one.details
            ]
            done.incidents = [one.kind for one in found]
            done.incident = " ".join(event.text for one in found for event in one.events)
            moved = (session, MODEL, "champion", GOOD, "homeostat", generation + 1)
            done.moves = times_moved(*moved)
            done.labels = count_labelled(session, MODEL, since.replace(year=2000))
        done.labelled = sum(len(side.labelled) for side in self.sides)

    def _given(self) -> list[Answer]:
        return [one for side in self.sides for one in side.answers if one.key]


@contextlib.contextmanager
def pair(state: Path, database: str, mlflow_url: str, config: str = "") -> Iterator[Pair]:
    """Two gateways for drills.

    Args:
        state: A state folder with the good version, which serves, and the bad one.
        database: PostgreSQL, by its Unix socket.
        mlflow_url: MLflow's address; both versions are there.
        config: Settings of both, as in `homeostat.toml`.
    """
    store = MlflowVersions(mlflow_url)
    truths = answers_of(state, ROWS)
    with two_sides(state, database, mlflow_url, ROWS, truths, config) as sides:
        made = Pair(sides, sessions(connect(database)), store)
        yield made
    store.close()
