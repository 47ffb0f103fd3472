"""Lineage in the lifecycle database: written once for each work, then tied to its version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from homeostat.errors import Refused, UnknownVersion
from registry.lineage_record import Lineage
from registry.numbers import Number, next_number, step_between
from registry.statements import columns_of, insert_new
from registry.tables import LineageRow


@dataclass(frozen=True)
class Kept:
    """A lineage as the database keeps it.

    `version` is None until its work is registered; `number` is the present one.
    """

    model: str
    work_key: str
    version: int | None
    number: Number
    digest: str
    record: Lineage
    at: datetime


def keep_lineage(session: Session, work_key: str, record: Lineage, at: datetime) -> Lineage:
    """Keep what a candidate comes from and give it its number; the same work keeps its number.

    Work that was cut off before its version was registered may be done again: what it says
    anew replaces what it said before.

    Args:
        session: Open transaction.
        work_key: Of the work that made it.
        record: Its `number` is not read.
        at: When.

    Returns:
        The record with its number.
    """
    while True:
        known = lineages(session, record.model)
        mine = next((each for each in known if each.work_key == work_key), None)
        if mine is not None and mine.version is not None:
            return mine.record
        number = mine.number if mine else _number_for(record, known)
        record = replace(record, number=str(number))
        values = {"digest": record.digest, "record": record.to_json(), "at": at}
        if mine is not None:
            session.execute(update(LineageRow).where(*_of_work(record.model, work_key)), values)
            return record
        statement = insert_new(session, LineageRow).values(
            model=record.model, work_key=work_key, version=None, number=str(number), **values
        )
        if session.scalar(statement.returning(LineageRow.number)) is not None:
            return record


def bind_lineage(session: Session, model: str, work_key: str, version: int) -> None:
    """Tie a kept lineage to the version that its work was registered, or restored, as."""
    session.execute(update(LineageRow).where(*_of_work(model, work_key)), {"version": version})


def lineages(session: Session, model: str) -> list[Kept]:
    """Every lineage of a model in the order in which they were kept."""
    query = columns_of(LineageRow).where(LineageRow.model == model)
    rows = session.execute(query.order_by(LineageRow.at, LineageRow.work_key)).mappings()
    return [
        Kept(
            **{
                **row,
                "number": Number.parse(row["number"]),
                "record": Lineage.from_json(row["record"]),
            }
        )
        for row in rows
    ]


def find_lineage(session: Session, model: str, version: int) -> Kept:
    """The lineage of a version.

    Raises:
        UnknownVersion: none is known.
    """
    return ancestry(session, model, version)[0]


def ancestry(session: Session, model: str, version: int) -> list[Kept]:
    """A version's lineage, then its parent's, back to the one that was trained anew.

    Parents are followed by digest: MLflow may have given them another number since, where they
    were restored. The walk ends early where a parent has no lineage here: it was made before
    lineage was kept.

    Raises:
        UnknownVersion: none is known of the version itself.
    """
    every = lineages(session, model)
    mine = next((each for each in every if each.version == version), None)
    if mine is None:
        raise UnknownVersion(
            f"No lineage of version {version} of '{model}' is known.",
            remedy=f"See `homeostat versions {model}`: it was made by an older Homeostat,"
            " or there is no such version.",
            model=model,
            version=version,
        )
    line, digests = [mine], {each.digest: each for each in reversed(every)}
    while (parent := line[-1].record.parent) is not None and parent.digest in digests:
        line.append(digests.pop(parent.digest))  # each digest once, so this ends
    return line


def set_number(session: Session, model: str, version: int, number: Number) -> Number:
    """Give a version another number; the one it had is answered.

    Raises:
        UnknownVersion: no lineage of it is known.
        Refused: another version of the model has that number.
    """
    before = find_lineage(session, model, version).number
    change = update(LineageRow).where(LineageRow.model == model, LineageRow.version == version)
    try:
        with session.begin_nested():
            session.execute(change, {"number": str(number)})
    except IntegrityError:
        query = select(LineageRow.version).where(
            LineageRow.model == model, LineageRow.number == str(number)
        )
        holder = session.scalar(query)
        whose = f"version {holder}" if holder else "a version that is being made"
        raise Refused(
            f"The number {number} of '{model}' is that of {whose}.",
            remedy="Choose a free one; `homeostat versions` lists those that are taken.",
            model=model,
            number=str(number),
        ) from None
    return before


def _number_for(record: Lineage, known: list[Kept]) -> Number:
    """After its parent, or after the newest that the same flow made."""
    if record.parent is not None:
        earlier = [each for each in known if each.digest == record.parent.digest]
    else:
        earlier = [each for each in known if each.record.flow == record.flow and each.version]
    taken = {each.number for each in known}
    if not earlier:
        return next_number(None, "major", taken)
    base = earlier[-1]
    step = step_between(base.record.make, record.make, goes_on=record.parent is not None)
    return next_number(base.number, step, taken)


def _of_work(model: str, work_key: str) -> tuple[ColumnElement[bool], ...]:
    return (LineageRow.model == model, LineageRow.work_key == work_key)
