"""What a person reads of a version: its description on MLflow's page, and its model card.

The card is Markdown below the metadata that Hugging Face reads (YAML front matter). It says
nothing that its version's lineage, gates and owner do not say, in one fixed order, so the cards of
two versions differ where the versions do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import yaml

from homeostat.policy import CardPolicy
from registry.documents import SECTIONS
from registry.lineage_record import Cost, Lineage
from registry.verdicts import GateFigure, Verdict

UNSAID = "The owner has not said."


@dataclass(frozen=True)
class Story:
    """What there is to tell of a candidate.

    Args:
        lineage: Where it comes from.
        task: Classification or regression.
        accuracy: 1 - mean loss on the held-out rows of each regime, by its number.
        facts: What only the owner knows.
        verdict: Of the gates; None before they were asked.
    """

    lineage: Lineage
    task: str
    accuracy: Mapping[int, float]
    facts: CardPolicy
    verdict: Verdict | None = None

    @property
    def newest(self) -> float:
        """The accuracy on the newest regime: what the stream looks like now."""
        return self.accuracy[max(self.accuracy)]

    @property
    def dataset(self) -> str:
        """A name for its data that says nothing of the machine it lay on."""
        source = self.lineage.data.source
        return source if ":" in source else PurePath(source).name

    @property
    def pipeline_tag(self) -> str:
        """The Hugging Face name of its task."""
        return self.facts.pipeline_tag or f"tabular-{self.task}"


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
    passed = story.verdict is not None and story.verdict.passed
    outcome = "passed every gate" if passed else "was refused by its gates"
    return "\n".join(
        [
            f"**{story.lineage.made_by}** It {outcome}; accuracy on its held-out rows"
            f" {story.newest:.3f}.",
            "",
            *_gates(story.verdict),
            "",
            *_facts(story),
        ]
    )


def card(story: Story) -> str:
    """The model card, kept beside the files of the version."""
    written = {
        "Intended use": _intended(story),
        "Data": _data(story),
        "Figures": _figures(story),
        "Gates": _gates(story.verdict),
        "Limits": _limits(story),
        "Lineage": _facts(story),
        "Files": _files(story),
    }
    title = f"# {story.lineage.model} {story.lineage.number}".rstrip()
    parts = ["---", front_matter(story).rstrip(), "---", "", title, "", story.lineage.made_by, ""]
    for name in SECTIONS:
        parts += [f"## {name}", "", *written[name], ""]
    return "\n".join(parts)


def front_matter(story: Story) -> str:
    """The metadata block, as Hugging Face's model cards have it."""
    record = story.lineage
    task = {"type": story.pipeline_tag, "name": story.task}
    metric = "accuracy" if story.task == "classification" else "score"
    metadata: dict[str, Any] = {
        "license": story.facts.license.lower(),
        "library_name": "homeostat",
        "pipeline_tag": story.pipeline_tag,
        "tags": ["homeostat", story.task, *story.facts.tags],
        "datasets": [story.dataset],
        "metrics": [metric],
        "model-index": [
            {
                "name": record.model,
                "results": [
                    {
                        "task": dict(task),
                        "dataset": {
                            "type": f"{record.model}/regime-{number}",
                            "name": f"regime {number}",
                            "split": "held-out",
                        },
                        "metrics": [
                            {"type": metric, "value": round(value, 4), "name": "1 - mean loss"}
                        ],
                    }
                    for number, value in sorted(story.accuracy.items())
                ],
            }
        ],
    }
    return str(yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=1000))


def _intended(story: Story) -> list[str]:
    contact = story.facts.contact or UNSAID
    return [story.facts.intended_use or UNSAID, "", f"Who answers for it: {contact}"]


def _data(story: Story) -> list[str]:
    data = story.lineage.data
    span = f", predicted from {data.begins} to {data.ends}" if data.begins else ""
    return [
        f"- Source: {story.dataset}{span}",
        f"- Rows: {data.trained_on} learnt from, {data.held_out} held out",
        f"- Regime: {data.regime}",
        f"- Classification: {story.facts.data_classification}",
        f"- Digest of rows and labels: `{data.digest}`",
        f"- Replay memory that goes with it: {story.lineage.memory.rows} rows,"
        f" digest `{story.lineage.memory.digest}`",
    ]


def _figures(story: Story) -> list[str]:
    return [
        "Accuracy (1 - mean loss) on the held-out rows of each regime. They are frozen: no"
        " version is ever trained on them.",
        "",
        "| regime | accuracy |",
        "|---|---|",
        *(f"| {number} | {value:.4f} |" for number, value in sorted(story.accuracy.items())),
        "",
        f"Its training took {spent(story.lineage.cost)}.",
    ]


def spent(cost: Cost) -> str:
    """What a training took, and what a full retrain would, in words."""
    ended = {
        "settled": "; it ended when the loss on rows set apart had settled",
        "seconds": "; its time ran out",
        "rows": "; its budget of rows ran out",
    }.get(cost.stopped, "")
    parts = [f"{cost.cpu_seconds:.1f} processor seconds, {cost.steps:,} steps"]
    if cost.rows_read:
        parts.append(f", {cost.rows_read:,} rows read")
    if cost.money is not None:
        parts.append(f", {cost.money:.2g} in money")
    if cost.share is not None and cost.full_cpu_seconds is not None:
        parts.append(
            f"; a full retrain would take about {cost.full_cpu_seconds:.1f}, by its"
            f" {cost.full_steps:,} steps, of which this is {cost.share:.0%}"
        )
    return "".join([*parts, ended])


def _limits(story: Story) -> list[str]:
    return [
        story.facts.not_for or "The owner has named no use that is forbidden.",
        "",
        "Inputs unlike those it was judged on are beyond what the figures say. Its profile"
        " (`model/profile.json`) says what those were; the gateway compares each prediction with"
        " it and raises an incident when they part.",
    ]


def _files(story: Story) -> list[str]:
    return [
        "`model/` holds safetensors weights and JSON, never a pickle; `models.load_model`"
        " checks the digest and rebuilds it. `replay/` holds the kept rows and the frozen"
        " held-out rows that the next retrain needs.",
        "",
        "| file of `model/` | bytes | SHA-256 |",
        "|---|---|---|",
        *(
            f"| {name} | {file.bytes} | `{file.sha256}` |"
            for name, file in sorted(story.lineage.files.items())
        ),
    ]


def _facts(story: Story) -> list[str]:
    record = story.lineage
    data, code, made_on, parent = record.data, record.code, record.environment, record.parent
    goes_on = f"version {parent.version} ({parent.edge}, `{parent.digest}`)" if parent else "none"
    libraries = ", ".join(f"{name} {version}" for name, version in made_on.packages.items())
    return [
        f"- Task: {story.task}; learner `{record.make.learner}`, {record.weights} weights",
        f"- Rows: {data.trained_on} learnt from, {data.held_out} held out",
        f"- Goes on from: {goes_on}",
        f"- Made: {record.made_at[:16].replace('T', ' ')} UTC by the flow {record.flow},"
        f" seed {record.seed}",
        f"- Code: homeostat {code.package}, source `{code.source}`",
        f"- Environment: Python {made_on.python}, {made_on.platform}; {libraries}",
        f"- Digest: `{record.digest}`",
    ]


def _gates(verdict: Verdict | None) -> list[str]:
    if verdict is None:
        return ["No gate has judged it yet."]
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
