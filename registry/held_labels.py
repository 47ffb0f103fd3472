"""Labels that are held back from retrains until a person has looked at them.

`monitoring.hygiene` says which. They stay in the log and count as evidence; only a retrain, and so
the replay memory, does not see them. Who releases a source's labels trusts it from then on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.orm import Session, aliased

from homeostat.errors import Refused
from monitoring.hygiene import Sourced, Suspicion, suspicions
from registry.labels import LabelledRow, labels_since
from registry.ledger import record
from registry.statements import insert_new, parts_of
from registry.tables import HeldLabelRow, LabelRow

Decision = Literal["released", "dropped"]
HELD = ""  # of a label that nobody has decided on
SHOWN = 10
LOOK_BACK = 20_000  # labels before the change by which sources are known


@dataclass(frozen=True)
class HeldLabels:
    """Labels of one source that are, or were, held back for one reason.

    Args:
        reason: As `monitoring.hygiene.Reason`.
        source: Who sent them; may be empty.
        decision: `released`, `dropped`, or empty while nobody has decided.
        count: How many.
        first: When the first was held back.
        text: Why, in a sentence, of the newest.
        ids: Of some of their predictions, at most `SHOWN`.
    """

    reason: str
    source: str
    decision: str
    count: int
    first: datetime
    text: str
    ids: tuple[str, ...]


def screen(
    session: Session, model: str, rows: Sequence[LabelledRow], since: datetime, now: datetime
) -> list[LabelledRow]:
    """The rows that a retrain may learn from, in their order; the others are held back.

    What was held back and is suspicious no longer, with the labels that came since, is free.

    Args:
        session: Open transaction.
        model: The registered model's name.
        rows: Labelled rows since the change.
        since: The change.
        now: The present moment.
    """
    decided = _decisions(session, [row.id for row in rows])
    open_ids = {key for key, decision in decided.items() if decision == HELD}
    rows = [row for row in rows if decided.get(row.id) != "dropped"]
    labels = [(row.id, row.source, row.loss) for row in rows]
    found = _suspicious(session, model, labels, decided, since)
    for part in parts_of(open_ids - found.keys()):
        session.execute(delete(HeldLabelRow).where(HeldLabelRow.prediction_id.in_(part)))
    sources = {row.id: row.source for row in rows}
    new = [
        {
            "prediction_id": key,
            "model": model,
            "source": sources[key],
            "reason": why.reason,
            "text": why.text,
            "at": now,
            "decision": HELD,
        }
        for key, why in found.items()
        if key not in open_ids
    ]
    if new:
        session.execute(insert_new(session, HeldLabelRow), new)
    return [row for row in rows if row.id not in found]


def count_learnable(session: Session, model: str, since: datetime) -> int:
    """How many labelled rows since a change a retrain would learn from; nothing is held back here.

    Args:
        session: Open transaction.
        model: The registered model's name.
        since: The change.
    """
    labels = labels_since(session, model, since)
    decided = _decisions(session, [key for key, _, _ in labels])
    labels = [label for label in labels if decided.get(label[0]) != "dropped"]
    return len(labels) - len(_suspicious(session, model, labels, decided, since))


def held_labels(session: Session, model: str) -> list[HeldLabels]:
    """What is held back, and what was decided of what had been, the newest first."""
    key = (HeldLabelRow.reason, HeldLabelRow.source, HeldLabelRow.decision)
    query = (
        select(*key, func.count(), func.min(HeldLabelRow.at))
        .where(HeldLabelRow.model == model)
        .group_by(*key)
        .order_by(func.max(HeldLabelRow.at).desc(), *key)
    )
    found = []
    for reason, source, decision, count, first in session.execute(query):
        newest = session.execute(
            select(HeldLabelRow.prediction_id, HeldLabelRow.text)
            .where(
                HeldLabelRow.model == model,
                HeldLabelRow.reason == reason,
                HeldLabelRow.source == source,
                HeldLabelRow.decision == decision,
            )
            .order_by(HeldLabelRow.at.desc(), HeldLabelRow.prediction_id.desc())
            .limit(SHOWN)
        ).all()
        ids = tuple(row.prediction_id for row in newest)
        found.append(HeldLabels(reason, source, decision, count, first, newest[0].text, ids))
    return found


def decide(
    session: Session,
    model: str,
    decision: Decision,
    *,
    source: str | None,
    ids: Collection[str],
    actor: str,
    reason: str,
    now: datetime,
) -> int:
    """Let labels that are held back be learnt from, or never; the ledger says who did.

    Args:
        session: Open transaction.
        model: The registered model's name.
        decision: What becomes of them.
        source: All of this source; None: of every source.
        ids: Only those of these predictions; empty: all.
        actor: Who decides.
        reason: Why.
        now: The present moment.

    Returns:
        How many it was of.

    Raises:
        Refused: none such is held back.
    """
    meant = [HeldLabelRow.model == model, HeldLabelRow.decision == HELD]
    if source is not None:
        meant.append(HeldLabelRow.source == source)
    keys = set(session.scalars(select(HeldLabelRow.prediction_id).where(*meant)))
    if ids:
        keys &= set(ids)
    if not keys:
        raise Refused(
            f"No label of '{model}' is held back that is meant.",
            remedy=f"See what is: `homeostat held {model}`.",
            model=model,
        )
    for part in parts_of(keys):
        session.execute(
            update(HeldLabelRow)
            .where(HeldLabelRow.prediction_id.in_(part), HeldLabelRow.decision == HELD)
            .values(decision=decision)
        )
    record(
        session,
        model,
        f"labels-{decision}",
        actor=actor,
        reason=reason,
        at=now,
        before=f"{len(keys)} held",
        after=decision,
        evidence={"source": source, "named": bool(ids), "labels": len(keys)},
    )
    return len(keys)


def _suspicious(
    session: Session,
    model: str,
    labels: Sequence[tuple[str, str, float | None]],
    decided: Mapping[str, str],
    since: datetime,
) -> dict[str, Suspicion]:
    """Of labels that nobody has released, those to be held back, by prediction."""
    contested = _contested(session, [key for key, _, _ in labels])
    judged = [
        Sourced(key, source, loss, key in contested)
        for key, source, loss in labels
        if decided.get(key) != "released"
    ]
    known = _sources_before(session, model, since)
    return suspicions(judged, known, _trusted(session, model))


def _decisions(session: Session, ids: Collection[str]) -> dict[str, str]:
    query = select(HeldLabelRow.prediction_id, HeldLabelRow.decision)
    return {
        key: decision
        for part in parts_of(ids)
        for key, decision in session.execute(query.where(HeldLabelRow.prediction_id.in_(part)))
    }


def _contested(session: Session, ids: Collection[str]) -> set[str]:
    """Predictions of which a label that was refused came after the one that stands."""
    standing = aliased(LabelRow)
    query = select(LabelRow.prediction_id).join(
        standing,
        and_(
            standing.prediction_id == LabelRow.prediction_id,
            standing.status == "accepted",
            standing.at <= LabelRow.at,
        ),
    )
    return {
        key
        for part in parts_of(ids)
        for key in session.scalars(
            query.where(LabelRow.status == "conflict", LabelRow.prediction_id.in_(part))
        )
    }


def _trusted(session: Session, model: str) -> frozenset[str]:
    query = select(HeldLabelRow.source).where(
        HeldLabelRow.model == model,
        HeldLabelRow.decision == "released",
        HeldLabelRow.reason != "contested",
    )
    return frozenset(session.scalars(query.distinct()))


def _sources_before(session: Session, model: str, since: datetime) -> dict[str, int]:
    newest = (
        select(LabelRow.source)
        .where(LabelRow.model == model, LabelRow.at < since, LabelRow.status == "accepted")
        .order_by(LabelRow.at.desc())
        .limit(LOOK_BACK)
        .subquery()
    )
    query = select(newest.c.source, func.count()).group_by(newest.c.source)
    return {row[0]: row[1] for row in session.execute(query)}
