"""What a person reads on MLflow's page of a version: its card and its description, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from registry.verdicts import GateFigure, Verdict


@dataclass(frozen=True)
class Story:
    """What there is to tell of a candidate.

    Args:
        model: The registered model's name.
        learner: Its reference.
        task: Classification or regression.
        made_by: In a sentence: by which flow, from what, why.
        rows: How many it learnt from and how many were held out, as text by name.
        parent: The version it goes on from, or None.
        at: When it was made.
        digest: Of its files.
        verdict: Of the gates.
        accuracy: On its own held-out rows, 1 - mean loss.
    """

    model: str
    learner: str
    task: str
    made_by: str
    rows: Mapping[str, int]
    parent: int | None
    at: datetime
    digest: str
    verdict: Verdict
    accuracy: float


def gate_rows(figures: Sequence[GateFigure]) -> list[dict[str, object]]:
    """The gates' figures as rows of a table."""
    return [
        {
            "gate": gate.name,
            "figure": round(gate.figure, 4),
            "bound": round(gate.bound, 4),
            "passed": "yes" if gate.passed else "NO",
            "reason": gate.reason,
        }
        for gate in figures
    ]


def describe(story: Story) -> str:
    """The description of a version: the outcome first, then its figures."""
    outcome = "passed every gate" if story.verdict.passed else "was refused by its gates"
    return "\n".join(
        [
            f"**{story.made_by}** It {outcome}; accuracy on its held-out rows"
            f" {story.accuracy:.3f}.",
            "",
            *_gates(story.verdict),
            "",
            *_facts(story),
        ]
    )


def card(story: Story) -> str:
    """The model card, kept beside the files of the version."""
    return "\n".join(
        [
            f"# {story.model}",
            "",
            story.made_by,
            "",
            "## What it is",
            "",
            *_facts(story),
            "",
            "## How it was judged",
            "",
            f"Accuracy (1 - mean loss) on its held-out rows: **{story.accuracy:.3f}**.",
            "Every regime's held-out rows are frozen: no version is ever trained on them.",
            "",
            *_gates(story.verdict),
            "",
            "## What it is not for",
            "",
            "Inputs unlike those it was judged on. Its profile (`model/profile.json`) says what"
            " those were; the gateway compares each prediction with it and raises an incident"
            " when they part.",
            "",
            "## How to read its files",
            "",
            "`model/` holds safetensors weights and JSON, never a pickle; `models.load_model`"
            " checks the digest and rebuilds it. `replay/` holds the kept rows and the frozen"
            " held-out rows that the next retrain needs.",
            "",
        ]
    )


def _facts(story: Story) -> list[str]:
    rows = ", ".join(f"{count} {name}" for name, count in story.rows.items())
    parent = f"version {story.parent}" if story.parent is not None else "none"
    return [
        f"- Task: {story.task}; learner `{story.learner}`",
        f"- Rows: {rows}",
        f"- Goes on from: {parent}",
        f"- Made: {story.at:%Y-%m-%d %H:%M} UTC",
        f"- Digest: `{story.digest}`",
    ]


def _gates(verdict: Verdict) -> list[str]:
    return [
        "| gate | figure | bound | passed | reason |",
        "|---|---|---|---|---|",
        *(
            f"| {row['gate']} | {row['figure']} | {row['bound']} | {row['passed']} |"
            f" {_cell(str(row['reason']))} |"
            for row in gate_rows(verdict.figures)
        ),
    ]


def _cell(text: str) -> str:
    """Text that cannot end a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ")
