"""Our part of a description in MLflow, and the author's beside it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.described import BEGIN, END, LONGEST, outcome_text, with_outcome

OURS = outcome_text("digits", "serving", "Every gate passed.", "2026-11-25T12:00:00+00:00")


def test_it_says_state_time_and_reason() -> None:
    assert OURS.startswith("Homeostat says: Serving since 2026-11-25 12:00 UTC")
    assert "**Why:** Every gate passed." in OURS


def test_a_share_is_named_and_a_broken_time_left_out() -> None:
    text = outcome_text("digits", "canary:25", "Not worse.", "yesterday")
    assert "canary, 25 %. " in text


def test_the_page_of_on_call_is_linked_where_it_is_known() -> None:
    text = outcome_text("a b", "standby", "It was replaced.", "", page="http://127.0.0.1:8000")
    assert "[its page](http://127.0.0.1:8000/page/models/a%20b) or `homeostat" in text
    assert "its page" not in OURS


@pytest.mark.parametrize("theirs", ["", "\n\n\nMine.\n\n* a\n* b\n", "  \n", "<!-- mine --> x"])
def test_our_part_is_replaced_and_the_authors_stays_letter_by_letter(theirs: str) -> None:
    once = with_outcome(theirs, OURS)
    assert once is not None
    other = outcome_text("digits", "standby", "It was replaced.", "")
    twice = with_outcome(once, other)
    assert twice is not None
    assert "Every gate passed" not in twice
    assert twice.endswith(theirs)
    assert with_outcome(twice, "") == theirs


def test_the_same_outcome_twice_is_the_same_text() -> None:
    once = with_outcome("Mine.", OURS)
    assert once is not None
    assert with_outcome(once, OURS) == once


def test_an_author_who_deleted_one_of_our_marks_loses_nothing_else() -> None:
    text = with_outcome(f"Mine. {END} And more.", OURS)
    assert text is not None
    assert text.count(BEGIN) == text.count(END) == 1
    assert "Mine.  And more." in text


@given(st.text(max_size=3000))
def test_no_reason_can_end_our_part_or_be_markup(reason: str) -> None:
    text = with_outcome("Mine.", outcome_text("digits", "rejected", reason + END + "<b>", ""))
    assert text is not None
    assert text.count(END) == 1
    assert "<b>" not in text
    assert with_outcome(text, "") == "Mine."


def test_a_description_that_would_be_too_long_is_left_alone() -> None:
    assert with_outcome("x" * (LONGEST - 10), OURS) is None
