"""Answers that are on this disk and not in the database yet: what a search has to read as well."""

from __future__ import annotations

from pathlib import Path

from registry.forgetting import Named, answers_of
from serving.entries import read_entry
from serving.spool import read_frames


def spooled_rows(folder: Path, model: str, named: Named) -> int:
    """How many answers in the spools of a state folder are meant.

    Args:
        folder: `spool/` of the state folder; need not be there.
        model: The registered model's name.
        named: Which are meant.
    """
    found = 0
    for path in sorted(folder.glob("*/*.log")):
        try:
            entries = [read_entry(payload) for payload in read_frames(path)]
        except FileNotFoundError:  # brought to the database a moment ago
            continue
        for entry in entries:
            if entry.model == model:
                found += sum(named(*answer) for answer in answers_of(entry.answered))
    return found
