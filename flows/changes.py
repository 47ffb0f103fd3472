"""A change of the world as a retrain sees it: the rows since then, and whose weights go on."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flows.learning import Champion, Trained
from flows.lessons import Lesson, next_lesson
from flows.origin import Origin
from flows.rows import as_dataset, read_incident, rows_again, rows_since_change
from flows.runs import Tried
from flows.site import Site
from flows.trainings import Training
from homeostat.errors import NoTarget
from homeostat.policy import Policy
from models.learner import Label, Learner
from registry.incidents import Incident, note
from registry.labels import LabelledRow
from registry.lineage import Regime, regimes
from registry.retrains import Learnt


@dataclass(frozen=True)
class Change:
    """What a retrain learns.

    Args:
        model: The registered model's name.
        lesson: The rows since the change, split.
        champion: The version that goes on learning.
        incident: What asked for it, or None.
        regime_key: What the regime is known by: the incident's id, or the request's.
        first: When the oldest row was predicted.
        last: When the newest row was predicted.
        held_back: Labelled rows since the change that it does not learn, until somebody has looked.
    """

    model: str
    lesson: Lesson
    champion: Champion
    incident: Incident | None
    regime_key: str
    first: datetime
    last: datetime
    held_back: int = 0

    def origin(self, work: str, trained: Trained, at: datetime) -> Origin:
        """Which work a candidate trained on this change comes from."""
        count = len(self.lesson.train) + len(self.lesson.held_out)
        strategy, tried = trained.strategy, len(trained.trials)
        chosen = f"{strategy}, the best of {tried}," if tried else strategy
        why = f" ({self.incident.title})" if self.incident else ""
        new = _classes(trained.learner)[len(_classes(self.champion.learner)) :]
        taken_up = f" New classes: {', '.join(map(str, new))}." if new else ""
        held = f" {self.held_back} labels were held back." if self.held_back else ""
        return Origin(
            flow="retrain",
            model=self.model,
            key=work,
            made_by=(
                f"Retrained by {chosen} on {count} labelled rows since"
                f" {self.first:%Y-%m-%d %H:%M:%S} UTC{why}, going on from version"
                f" {self.champion.version}.{taken_up}{held}"
            ),
            at=at,
            source="log",
            span=(self.first, self.last),
            facts={
                "strategy": strategy,
                **({"trials": "; ".join(map(str, trained.trials))} if tried else {}),
                "incident": self.incident.id if self.incident else "",
                "rows": count,
                "held_back": self.held_back,
                "rows_from": self.first.isoformat(),
                "rows_to": self.last.isoformat(),
                "new_classes": ", ".join(map(str, new)),
                "memory_rows": len(self.champion.memory),
                "parent_version": self.champion.version,
                "seconds": round(trained.fit.seconds, 3),
            },
            parent=self.champion,
            regime_key=self.regime_key,
        )


def read(
    site: Site,
    policy: Policy,
    model: str,
    incident_id: str,
    regime_key: str,
    champion: Champion | None,
    now: datetime,
    training: Training | None = None,
) -> Change:
    """The change that an incident is about, from the log.

    A training that was killed goes on with the rows that it began with, unless one of them is not
    to be learnt any more.

    Raises:
        NoTarget: there is no champion to go on from.
        InputError: there is no such incident of the model.
        DataError: too few labelled rows.
        Unavailable: the database is away.
    """
    if champion is None:
        raise NoTarget(
            f"'{model}' has no champion whose weights a retrain could go on from.",
            remedy="Run the pipeline first.",
            model=model,
        )
    with site.session() as session:
        incident = read_incident(session, model, incident_id)
        ids, held = training.rows() if training is not None else ((), 0)
        rows = rows_again(session, model, incident, policy.retrain, ids, now)
        if not rows:
            rows, held = rows_since_change(session, model, incident, policy.retrain, now)
        if incident is not None and held:
            text = f"{held} labels are held back from the retrain: see `homeostat held {model}`."
            note(session, incident.id, text, now)
        known = regimes(session, model)
    if training is not None:
        with contextlib.suppress(OSError):  # where the disk takes nothing, it goes without
            training.keep_rows([row.id for row in rows], held)
    number = regime_number(known, regime_key, champion.regimes.numbers)
    return change_of(model, rows, policy, champion, incident, regime_key, number, held)


def change_of(
    model: str,
    rows: list[LabelledRow],
    policy: Policy,
    champion: Champion,
    incident: Incident | None,
    regime_key: str,
    number: int,
    held_back: int = 0,
) -> Change:
    """A change made of given rows: regime `number`."""
    ids = [row.id for row in rows]
    lesson = next_lesson(as_dataset(rows), ids, policy, number)
    first, last = rows[0].at, rows[-1].at
    return Change(model, lesson, champion, incident, regime_key, first, last, held_back)


def regime_number(known: Sequence[Regime], regime_key: str, learnt: Sequence[int]) -> int:
    """The number of the regime that an incident opened, or the next free one.

    A second retrain for the same incident learns the same regime, with more rows of it.

    Args:
        known: The model's regimes in the database.
        regime_key: The incident's id, or the request's.
        learnt: The regimes that the champion knows.
    """
    for regime in known:
        if regime.incident_id == regime_key:
            return regime.number
    taken = {*learnt, *(regime.number for regime in known)}
    return max(taken) + 1


def learnt(version: int, tried: Tried) -> Learnt | None:
    """What a finished retrain brought; None where its run is of a release that did not say."""
    summary = tried.summary
    if "gained" not in summary or "rows_to" not in summary["facts"]:
        return None
    return Learnt(
        version=version,
        passed=bool(summary["verdict"]["passed"]),
        rows=int(summary["facts"]["rows"]),
        until=datetime.fromisoformat(summary["facts"]["rows_to"]),
        loss=float(summary["loss"]),
        champion_loss=float(summary["loss"]) + float(summary["gain"]),
        gained=bool(summary["gained"]),
    )


def _classes(learner: Learner) -> tuple[Label, ...]:
    return tuple(getattr(learner, "classes", ()))
