"""Whether a ledger is whole: every line is there, in its place, as it was written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, String, func, select, type_coerce
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import Session

from registry.ledger import FIRST_HASH, digest_of, head_of
from registry.tables import LedgerRow, ReleaseRow

STEP = 1_000  # lines that are read at once
UNREADABLE = (ValueError, TypeError)


@dataclass(frozen=True)
class LedgerReport:
    """Whether a model's ledger is whole: `broken` is the first bad line, where one is known.

    `head` is the hash of the last good line: noted down elsewhere, it proves later that nobody
    wrote the ledger anew.
    """

    model: str
    lines: int
    intact: bool
    broken: int | None = None
    reason: str = ""
    head: str = FIRST_HASH


def verify_ledger(session: Session, model: str, anchor: str = "") -> LedgerReport:
    """Read a model's ledger from its first line and check every number and hash.

    A line that was changed, taken out of the middle or put in is found. Lines cut off the end
    are found where a release still names their generation. Memory is bounded.

    Args:
        session: Open transaction; nothing is written.
        model: The registered model's name.
        anchor: The hash of a line, noted down before, elsewhere: it has to be there still. Who
            may write to the database can hash every line anew, and only this shows it.
    """
    report = follow(model, raw_lines(session, model), anchor)
    if not report.intact:
        return report
    newest = session.scalar(
        select(func.max(ReleaseRow.generation)).where(ReleaseRow.model == model)
    )
    if (newest or 0) > head_of(session, model).generation:
        reason = f"A release names generation {newest}; the lines up to it are missing."
        return LedgerReport(model, report.lines, False, report.lines + 1, reason, report.head)
    return report


def follow(model: str, lines: Iterable[Mapping[Any, Any]], anchor: str = "") -> LedgerReport:
    """Check the chain of lines as they were stored, from the first one on."""
    previous, number, missing = FIRST_HASH, 0, anchor not in ("", FIRST_HASH)
    fault = ""
    try:
        for line in lines:
            if fault := _fault(line, model, number + 1, previous):
                break
            previous, number = line["hash"], number + 1
            missing = missing and previous != anchor
    except UNREADABLE as error:
        fault = f"It cannot be read: {error}."
    if fault:
        return LedgerReport(model, number, False, number + 1, fault, previous)
    if missing:
        reason = f"No line has the hash {anchor}: lines were cut off, or all were written anew."
        return LedgerReport(model, number, False, None, reason, previous)
    return LedgerReport(model, number, True, head=previous)


def raw_lines(session: Session, model: str, last: int | None = None) -> Iterator[RowMapping]:
    """A model's lines as they are stored, `at` as its text, up to number `last`.

    Raises:
        ValueError: at a line that cannot be read, after every line before it.
    """
    table = LedgerRow.__table__
    columns = [type_coerce(one, String) if one.name == "at" else one for one in table.columns]
    query = select(*columns).where(LedgerRow.model == model).order_by(LedgerRow.line)
    if last is not None:
        query = query.where(LedgerRow.line <= last)
    sqlite = session.get_bind().dialect.name == "sqlite"
    done = 0
    # Of many lines read at once it does not show which cannot be read: those are read one by one.
    # PostgreSQL reads nothing more in a transaction that met an error.
    for step in (STEP, 1) if sqlite else (STEP,):
        rows = query.where(LedgerRow.line > done)
        try:
            for row in session.execute(rows, execution_options={"yield_per": step}).mappings():
                yield row
                done = row["line"]
            return
        except DBAPIError as error:
            if not sqlite and isinstance(error, OperationalError | InterfaceError):
                raise  # the server is away, which is no line's fault
            if step == 1 or not sqlite:
                where = "" if step == 1 else f"it, or one of the {step - 1} lines after it: "
                raise ValueError(f"{where}{error.orig}") from error


def _fault(line: Mapping[Any, Any], model: str, number: int, previous: str) -> str:
    if line["model"] != model:
        return "It is a line of another model."
    if line["line"] != number:
        return "The line is missing."
    if line["previous_hash"] != previous:
        return "It does not follow the line before it."
    if line["hash"] != digest_of(line):
        return "Its content was changed."
    return ""
