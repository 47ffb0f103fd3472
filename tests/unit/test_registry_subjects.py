"""Whose rows are meant: all fields that were named, an entity, or predictions."""

from __future__ import annotations

import pytest

from homeostat.errors import InputError
from registry.subjects import parse_subject


@pytest.mark.parametrize("value", [123, 123.0, "123"])
def test_a_field_is_what_its_text_says_whatever_its_type(value: object) -> None:
    subject = parse_subject(["customer=123"], "", [])
    assert subject.has_fields({"customer": value})
    assert not subject.has_fields({"customer": 1230, "other": value})


def test_words_of_json_are_no_numbers_and_no_texts_of_others() -> None:
    assert parse_subject(["paid=true"], "", []).has_fields({"paid": True})
    assert not parse_subject(["paid=1"], "", []).has_fields({"paid": True})
    assert parse_subject(["note="], "", []).has_fields({"note": ""})
    assert parse_subject(["formula=a=b"], "", []).has_fields({"formula": "a=b"})


def test_all_fields_have_to_hold_and_a_list_has_none() -> None:
    subject = parse_subject(["customer=1", "city=Bern"], "", [])
    assert subject.is_of("p", "", {"customer": 1, "city": "Bern"})
    assert not subject.is_of("p", "", {"customer": 1, "city": "Basel"})
    assert not subject.is_of("p", "", [1, "Bern"])


def test_an_entity_and_predictions_are_meant_besides() -> None:
    subject = parse_subject([], "ann", ["p1"])
    assert subject.is_of("p1", "", [0.5])
    assert subject.is_of("p2", "ann", [0.5])
    assert not subject.is_of("p2", "", [0.5])


@pytest.mark.parametrize(
    ("where", "ids"), [([], []), (["customer"], []), (["=1"], []), (["a=1"], [""])]
)
def test_nobody_is_never_everybody(where: list[str], ids: list[str]) -> None:
    with pytest.raises(InputError):
        parse_subject(where, "", ids)


def test_the_hash_needs_the_salt_and_the_subject() -> None:
    one, other = parse_subject(["a=1"], "", []), parse_subject(["a=2"], "", [])
    assert one.sealed("salt") == parse_subject(["a=1"], "", []).sealed("salt")
    assert len({one.sealed("salt"), one.sealed("pepper"), other.sealed("salt")}) == 3
