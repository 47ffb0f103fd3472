from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from flows.cards import Story, card, describe, gate_rows
from registry import GateFigure, Verdict

FIGURES = (
    GateFigure("accuracy", 0.98391, 0.8, True, "Accuracy 0.984 on 559 held-out rows."),
    GateFigure("regime-0", 0.1, 0.03, False, "Forgot a | lot\nof it."),
)
STORY = Story(
    model="digits",
    learner="digits",
    task="classification",
    made_by="Trained on builtin:digits.",
    rows={"learnt from": 1238, "held out": 559},
    parent=None,
    at=datetime(2026, 11, 21, 23, 0, tzinfo=UTC),
    digest="ab" * 32,
    verdict=Verdict(False, FIGURES, "ab" * 32),
    accuracy=0.98391,
)


def test_a_description_says_first_how_it_was_made_and_what_became_of_it() -> None:
    first = describe(STORY).splitlines()[0]

    assert first.startswith("**Trained on builtin:digits.** It was refused by its gates")
    assert "0.984" in first


def test_a_description_tells_every_gate_with_figure_bound_and_reason() -> None:
    lines = describe(STORY).splitlines()

    assert "| accuracy | 0.9839 | 0.8 | yes | Accuracy 0.984 on 559 held-out rows. |" in lines


def test_text_of_a_reason_cannot_break_the_table() -> None:
    assert (
        "| regime-0 | 0.1 | 0.03 | NO | Forgot a \\| lot of it. |" in describe(STORY).splitlines()
    )


def test_a_card_names_the_model_its_rows_its_parent_and_its_digest() -> None:
    text = card(replace(STORY, parent=7))

    assert text.startswith("# digits\n")
    assert "1238 learnt from, 559 held out" in text
    assert "Goes on from: version 7" in text
    assert "ab" * 32 in text


def test_the_table_of_gates_has_a_row_for_each() -> None:
    rows = gate_rows(FIGURES)

    assert [row["gate"] for row in rows] == ["accuracy", "regime-0"]
    assert [row["passed"] for row in rows] == ["yes", "NO"]
