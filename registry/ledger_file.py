"""A ledger as a file of JSON lines, to be checked anywhere: no database, no server.

The first line says what follows: `{"format", "head", "lines", "model"}`. Every other line is one
line of the ledger as it is stored. All are canonical JSON, so no byte of the file is free.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from sqlalchemy.orm import Session

from homeostat.errors import DataError
from registry.ledger import FIELDS, Head, head_of
from registry.ledger_proof import LedgerReport, follow, raw_lines

FORMAT = "homeostat-ledger-1"
LONGEST = 64 * 1024 * 1024  # bytes of one line: what is longer was not written here
HEADER = ("format", "head", "lines", "model")

Flat = dict[str, str | int | None]
_DECODER = msgspec.json.Decoder(Flat)


def export_ledger(session: Session, model: str, path: Path) -> Head:
    """Write a model's ledger to a new file; it is there whole, or not at all.

    Returns:
        Where the ledger ended.

    Raises:
        DataError: the file exists already, or cannot be written.
    """
    head = head_of(session, model)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            file.write(
                _spelt(dict(zip(HEADER, (FORMAT, head.hash, head.line, model), strict=True)))
            )
            for line in raw_lines(session, model, head.line):
                file.write(_spelt({name: line[name] for name in FIELDS}))
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)  # unlike a rename it never takes another file's place
    except OSError as error:
        raise DataError(
            f"The ledger of '{model}' cannot be written to {path}: {error.strerror}.",
            remedy="Name a file that does not exist yet, in a folder that you may write to.",
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return head


def verify_file(path: Path, anchor: str = "") -> LedgerReport:
    """Check an exported ledger, byte by byte, with bounded memory.

    Args:
        path: What `export_ledger` wrote.
        anchor: See `registry.ledger.verify_ledger`.

    Raises:
        DataError: there is no such file, or it is no exported ledger.
    """
    try:
        with path.open("rb") as file:
            header = _header(file, path)
            model, lines = str(header["model"]), int(header["lines"] or 0)
            report = follow(model, _lines(file, lines), anchor)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}.", remedy="Name an exported ledger."
        ) from error
    if report.intact and report.head != header["head"]:
        reason = "The file's first line names another last hash."
        return LedgerReport(model, report.lines, False, report.lines or None, reason, report.head)
    return report


def _header(file: BinaryIO, path: Path) -> Flat:
    try:
        header = _next(file)
    except ValueError:
        header = {}
    lines = header.get("lines")
    if header.get("format") != FORMAT or set(header) != set(HEADER) or not isinstance(lines, int):
        raise DataError(
            f"{path} does not begin as an exported ledger does, or its first line was changed.",
            remedy="Name a file that `homeostat ledger export` wrote.",
        )
    return header


def _lines(file: BinaryIO, expected: int) -> Iterator[Flat]:
    for _ in range(expected):
        line = _next(file)
        if set(line) != set(FIELDS):
            raise ValueError("it has other fields than a line has")
        yield line
    if file.read(1):
        raise ValueError("the file goes on after its last line")


def _next(file: BinaryIO) -> Flat:
    raw = file.readline(LONGEST)
    if not raw:
        raise ValueError("the file ends before it")
    try:
        line = _DECODER.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if _spelt(line) != raw:
        raise ValueError("it is not spelt as it was written")
    return line


def _spelt(line: dict[str, Any]) -> bytes:
    return msgspec.json.encode(line, order="sorted") + b"\n"
