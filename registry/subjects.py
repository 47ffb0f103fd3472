"""Whose rows are meant: by fields of a row, by whom an answer was about, by prediction id."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from homeostat.errors import InputError
from registry.json_text import canonical, to_json


@dataclass(frozen=True)
class Subject:
    """Somebody, or something, whose rows are to be found.

    Args:
        fields: (name, value) that a row has to have, all of them, where it has named fields.
        entity: Whom an answer was about: its sticky key.
        ids: Of predictions.
    """

    fields: tuple[tuple[str, str], ...] = ()
    entity: str = ""
    ids: frozenset[str] = frozenset()

    def is_of(self, prediction_id: str, entity: str, row: object) -> bool:
        """Whether a logged answer is one of the subject's: by its id, its entity or its fields."""
        if prediction_id in self.ids or (self.entity and entity == self.entity):
            return True
        return self.has_fields(row)

    def has_fields(self, row: object) -> bool:
        """Whether a row has all the fields with their values."""
        return (
            bool(self.fields)
            and isinstance(row, dict)
            and all(name in row and _same(row[name], text) for name, text in self.fields)
        )

    def sealed(self, salt: str) -> str:
        """SHA-256 over the salt and the subject: who has both can show that it was this one."""
        told = {
            "where": [list(pair) for pair in sorted(self.fields)],
            "entity": self.entity,
            "ids": sorted(self.ids),
        }
        return hashlib.sha256(f"{salt}{canonical(told)}".encode()).hexdigest()


def parse_subject(where: Sequence[str], entity: str, ids: Sequence[str]) -> Subject:
    """A subject as somebody names it on the command line.

    Args:
        where: `FIELD=VALUE` each.
        entity: As callers send it; empty: not by it.
        ids: Of predictions.

    Raises:
        InputError: nothing is named, or a condition is none.
    """
    fields = []
    for text in where:
        name, sign, value = text.partition("=")
        if not (name and sign):
            raise InputError(
                f"'{text}' is no condition.", remedy="Write --where FIELD=VALUE: customer=123, say."
            )
        fields.append((name, value))
    if any(not one for one in ids) or not (fields or entity or ids):
        raise InputError(
            "Nobody was named.",
            remedy="Give --where FIELD=VALUE, --entity KEY, or --id PREDICTION_ID.",
        )
    return Subject(tuple(fields), entity, frozenset(ids))


def _same(value: object, text: str) -> bool:
    """Whether a JSON value is what a text says: 123 is "123" as well as 123.0 and "123"."""
    if isinstance(value, str):
        return value == text
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    return to_json(value) == text
