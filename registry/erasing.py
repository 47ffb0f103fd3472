"""Forgetting a subject: searched, removed, searched again, and written down in the ledger.

What is removed from the log last is what says which rows of the memories are meant, so a command
that was cut off is run again. The ledger keeps who asked, why and how many, and of the subject a
salted hash only: the salt is told to whoever asked, and to nobody else.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from homeostat.errors import Refused
from registry.cache import ArtifactCache
from registry.database import transaction
from registry.forgetting import Named, count_rows, find_rows, ids_of, remove_rows
from registry.ledger import record
from registry.lineage_records import Kept, lineages
from registry.remembered import Holding, clean, look, runs_of
from registry.retrains import retrain_running
from registry.subjects import Subject
from registry.versions import MlflowVersions

SALT_BYTES = 16


@dataclass(frozen=True)
class Places:
    """Where rows are looked for.

    Args:
        writing: Sessions of the lifecycle database.
        reading: Others of it, that never write.
        store: MLflow's registry.
        cache: Copies on this disk.
        spooled: How many answers on this disk, on their way to the database, are meant.
    """

    writing: sessionmaker[Session]
    reading: sessionmaker[Session]
    store: MlflowVersions
    cache: ArtifactCache
    spooled: Callable[[Named], int]


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        rows: The logged rows by prediction id.
        ids: Those, and what else was named by id.
        log: Counts of the database by what they are of.
        spooled: Answers on their way there.
        runs: What each run of the model holds.
    """

    rows: Mapping[str, Any]
    ids: frozenset[str]
    log: Mapping[str, int]
    spooled: int
    runs: tuple[Holding, ...]

    @property
    def removable(self) -> int:
        """Rows that a removal takes away; answers in spools are in the database soon."""
        return sum(self.log.values()) + sum(one.rows for one in self.runs)

    @property
    def left(self) -> int:
        """All rows that were found, removable or not."""
        return self.removable + self.spooled + sum(one.golden for one in self.runs)

    @property
    def unnamed(self) -> int:
        """Rows of memories and frozen rows that are of a data set: nothing tells whose they are."""
        return sum(one.unnamed for one in self.runs)

    @property
    def proven(self) -> bool:
        """Whether everything could be looked at and nothing was there."""
        return self.left == 0 and not any(one.trouble for one in self.runs)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON: counts, and of each run that holds some or could not be read."""
        return {
            "log": dict(self.log),
            "spooled": self.spooled,
            "unnamed": self.unnamed,
            "runs": [
                {
                    "run": one.run.id,
                    "versions": list(one.run.versions),
                    "memory": one.memory,
                    "snapshots": one.snapshots,
                    "copies": one.copies,
                    "golden": one.golden,
                    "trouble": one.trouble,
                }
                for one in self.runs
                if one.rows or one.golden or one.trouble
            ],
        }


@dataclass(frozen=True)
class Erased:
    """What became of it: before, what went, what is left, and the salt of the ledger's hash."""

    before: Found
    gone: Mapping[str, int]
    seals: Mapping[str, str]
    after: Found
    salt: str


@dataclass(frozen=True)
class Seen:
    """A version that saw some of the rows; `through` is the version that it has them from, or 0."""

    version: int
    through: int


def search(places: Places, model: str, subject: Subject, known: Found | None = None) -> Found:
    """Look for a subject's rows everywhere; nothing is changed.

    Args:
        places: Where.
        model: The registered model's name.
        subject: Whose.
        known: An earlier search, whose predictions are looked for too: the log may have
            forgotten which they were.

    Raises:
        InputError: a prediction that was named is another model's.
        Unavailable: the database or MLflow is away.
    """
    if known is not None:
        subject = replace(subject, ids=subject.ids | known.ids)
    spooled = places.spooled(subject.is_of)  # before the log: what moves meanwhile is seen there
    with transaction(places.reading) as session:
        rows = find_rows(session, model, subject.is_of)
        ids = ids_of(session, model, subject, rows)
        log = count_rows(session, model, ids)
    of_subject = [*rows.values(), *(known.rows.values() if known else ())]
    runs = tuple(
        look(
            places.store,
            places.cache,
            run,
            ids,
            lambda row: subject.has_fields(row) or row in of_subject,
        )
        for run in runs_of(places.store, model)
    )
    return Found(rows, frozenset(ids), log, spooled, runs)


def erase(
    places: Places, model: str, subject: Subject, *, actor: str, reason: str, at: datetime
) -> Erased:
    """Remove a subject's rows from memories, frozen rows and the log, and search again.

    Raises:
        Refused: a retrain of the model runs, which reads rows of the log.
        InputError: a prediction that was named is another model's.
        Unavailable: the database or MLflow is away; run it again.
    """
    with transaction(places.reading) as session:
        if retrain_running(session, model) is not None:
            raise Refused(
                f"A retrain of '{model}' runs, which reads rows of the log.",
                remedy="Run this again when it has ended: `homeostat status` shows it.",
            )
    salt = secrets.token_hex(SALT_BYTES)
    before = search(places, model, subject)
    about = {"subject": subject.sealed(salt), "found": before.to_json()}
    with transaction(places.writing) as session:
        record(
            session,
            model,
            "forgetting",
            actor=actor,
            reason=reason,
            at=at,
            before=f"{before.left} rows",
            after=None,
            evidence=about,
        )
    seals, troubles = _clean(places, before)
    with transaction(places.writing) as session:
        gone = remove_rows(session, model, before.ids)
    after = search(places, model, subject, before)
    after = replace(after, runs=tuple(_with(one, troubles) for one in after.runs))
    with transaction(places.writing) as session:
        record(
            session,
            model,
            "forgotten",
            actor=actor,
            reason=reason,
            at=at,
            before=f"{before.left} rows",
            after=f"{after.left} rows",
            evidence={**about, "gone": gone, "seals": seals, "left": after.to_json()},
        )
    return Erased(before, gone, seals, after, salt)


def seen_by(found: Found, known: Sequence[Kept]) -> list[Seen]:
    """The versions that learnt from, or were judged by, some of the rows, and their descendants.

    A descendant has its parent's weights, or learnt the champion's memory.

    Args:
        found: A search from before the removal, or after: lists of what was learnt stay.
        known: Every lineage of the model.
    """
    through = {version: 0 for one in found.runs if one.seen for version in one.run.versions}
    digests = {one.run.digest: one.run.versions[-1] for one in found.runs if one.run.versions}
    grew = True
    while grew:
        grew = False
        for each in known:
            if each.version is None or each.version in through:
                continue
            for ancestor in (each.record.parent, each.record.champion):
                source = digests.get(ancestor.digest, ancestor.version) if ancestor else 0
                if source in through:
                    through[each.version] = source
                    grew = True
                    break
    return [Seen(version, source) for version, source in sorted(through.items())]


def files_learnt(known: Sequence[Kept]) -> list[tuple[int, str]]:
    """The versions that learnt a data set, whose rows have no ids, and which."""
    return [
        (each.version, each.record.data.source)
        for each in known
        if each.version is not None and not each.record.data.begins
    ]


def known_lineages(places: Places, model: str) -> list[Kept]:
    """Every lineage of a model."""
    with transaction(places.reading) as session:
        return lineages(session, model)


def _clean(places: Places, found: Found) -> tuple[dict[str, str], dict[str, str]]:
    """Clean every run that holds rows: its new seals, and why some could not be, by run."""
    seals, troubles = {}, {}
    for one in found.runs:
        if one.rows:
            seal, trouble = clean(places.store, places.cache, one.run, found.ids)
            if trouble:
                troubles[one.run.id] = trouble
            else:
                seals[one.run.id] = seal
    return seals, troubles


def _with(one: Holding, troubles: Mapping[str, str]) -> Holding:
    return replace(one, trouble=one.trouble or troubles.get(one.run.id, ""))
