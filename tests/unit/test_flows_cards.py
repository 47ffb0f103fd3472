from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from flows.bom import bom, licences
from flows.candidates import documents_of
from flows.cards import UNSAID, Story, card, describe, gate_rows, spent
from flows.runs import as_text
from homeostat.policy import CardPolicy, GatePolicy
from registry.documents import BOM_FILE, CARD_FILE, bom_faults, card_faults
from registry.gate_evidence import Contender, Evidence
from registry.gates import judge
from registry.lineage_record import (
    Ancestor,
    CodeFacts,
    Cost,
    DataFacts,
    EnvironmentFacts,
    FileFacts,
    Lineage,
    MemoryFacts,
    Parent,
)
from registry.numbers import Make
from registry.verdicts import GateFigure, Verdict

DIGEST = "ab" * 32
FIGURES = (
    GateFigure("accuracy", 0.98391, 0.8, True, "Accuracy 0.984 on 559 held-out rows."),
    GateFigure("regime-0", 0.1, 0.03, False, "Forgot a | lot\nof it."),
)
LINEAGE = Lineage(
    model="digits",
    number="1.0.0",
    digest=DIGEST,
    flow="pipeline",
    made_at="2026-11-21T23:00:00+00:00",
    made_by="Trained on builtin:digits.",
    parent=None,
    champion=None,
    data=DataFacts("builtin:digits", "dd" * 32, 1797, 1238, 559, None, None, 0, (0,)),
    code=CodeFacts("0.1.0", None, False, "ee" * 32),
    environment=EnvironmentFacts(
        "3.11.7", "Linux x86_64", "AVX2", 1, {"torch": "2.13.0+cpu", "numpy": "2.4.6"}, "ff" * 32
    ),
    parameters={"learner": "digits"},
    seed=0,
    memory=MemoryFacts("bb" * 32, 600),
    cost=Cost(1.5, 1.25, 1238, 30, 90, "epochs"),
    make=Make("digits", {}, ("pixel",), "cc" * 32, (0, 1), "dd" * 32),
    weights=21418,
    files={"model.safetensors": FileFacts("99" * 32, 85672)},
)
OWNER = CardPolicy(
    license="Apache-2.0",
    intended_use="Reading the digits of postal codes.",
    not_for="Cheques.",
    contact="reading team",
    data_classification="internal",
    pipeline_tag="image-classification",
    tags=("digits",),
)
STORY = Story(LINEAGE, "classification", {0: 0.98391}, OWNER, Verdict(False, FIGURES, DIGEST))
CHILD = replace(
    STORY,
    lineage=replace(
        LINEAGE,
        number="1.0.1",
        digest="ac" * 32,
        flow="retrain",
        parent=Parent(1, DIGEST, "continual_of"),
        champion=Ancestor(1, DIGEST),
        data=DataFacts("log", "d1" * 32, 400, 280, 120, "2026-11-22", "2026-11-23", 1, (0, 1)),
    ),
    accuracy={0: 0.97, 1: 0.95},
)


def metadata(story: Story) -> dict[str, Any]:
    return dict(yaml.safe_load(card(story).split("---\n")[1]))


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


def test_a_card_begins_with_the_metadata_that_hugging_face_reads() -> None:
    found = metadata(CHILD)

    assert found["license"] == "apache-2.0"
    assert found["tags"] == ["homeostat", "classification", "digits"]
    assert found["datasets"] == ["log"]
    (index,) = found["model-index"]
    assert index["name"] == "digits"
    assert [each["dataset"]["name"] for each in index["results"]] == ["regime 0", "regime 1"]
    assert [each["metrics"][0]["value"] for each in index["results"]] == [0.97, 0.95]
    assert index["results"][0]["task"]["type"] == "image-classification"


def test_a_card_names_number_rows_parent_digest_and_what_the_owner_said() -> None:
    text = card(CHILD)

    assert "\n# digits 1.0.1\n" in text
    assert "280 learnt from, 120 held out" in text
    assert f"version 1 (continual_of, `{DIGEST}`)" in text
    assert f"- Digest: `{'ac' * 32}`" in text
    for said in (OWNER.intended_use, OWNER.not_for, OWNER.contact):
        assert said in text


def test_a_card_says_what_the_owner_has_not_said() -> None:
    assert card(replace(STORY, facts=CardPolicy())).count(UNSAID) == 2


def test_a_file_of_the_owners_machine_is_named_without_its_folder() -> None:
    data = replace(LINEAGE.data, source="/home/somebody/orders.csv")

    text = card(replace(STORY, lineage=replace(LINEAGE, data=data)))

    assert "orders.csv" in text
    assert "somebody" not in text


def test_cards_of_one_version_are_equal_and_of_two_differ_where_the_versions_do() -> None:
    assert card(STORY) == card(STORY)
    assert as_text(bom(STORY)) == as_text(bom(STORY))
    changed = {*card(STORY).splitlines()} ^ {*card(replace(STORY, accuracy={0: 0.5})).splitlines()}
    assert {line.strip() for line in changed} == {
        "value: 0.9839",
        "value: 0.5",
        "| 0 | 0.9839 |",
        "| 0 | 0.5000 |",
    }


@pytest.mark.parametrize("story", [STORY, CHILD, replace(CHILD, facts=CardPolicy())])
def test_a_bill_of_materials_is_valid_cyclonedx(story: Story) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(as_text(bom(story))) is None


def test_a_bill_names_the_model_its_files_its_data_its_libraries_and_its_parent() -> None:
    made = bom(CHILD)
    model = made["metadata"]["component"]

    assert model["type"] == "machine-learning-model"
    assert model["hashes"] == [{"alg": "SHA-256", "content": "ac" * 32}]
    assert model["licenses"] == [{"expression": "Apache-2.0"}]
    assert model["authors"] == [{"name": OWNER.contact}]
    assert model["modelCard"]["considerations"]["useCases"] == [OWNER.intended_use]
    (ancestor,) = model["pedigree"]["ancestors"]
    assert ancestor["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    (file,) = model["components"]
    assert file["hashes"] == [{"alg": "SHA-256", "content": "99" * 32}]
    learnt, memory, *libraries = made["components"]
    assert learnt["hashes"] == [{"alg": "SHA-256", "content": "d1" * 32}]
    assert [part["data"][0]["classification"] for part in (learnt, memory)] == ["internal"] * 2
    assert "pkg:pypi/torch@2.13.0%2Bcpu" in [part["purl"] for part in libraries]


def test_a_bills_serial_number_is_its_digests_alone() -> None:
    other = replace(STORY, lineage=replace(LINEAGE, number="9.0.0"))

    assert bom(STORY)["serialNumber"] == bom(other)["serialNumber"]
    assert bom(STORY)["serialNumber"] != bom(CHILD)["serialNumber"]


def test_a_licence_that_is_no_spdx_expression_goes_by_its_name() -> None:
    assert licences("apache-2.0 or mit") == [{"expression": "Apache-2.0 OR MIT"}]
    assert licences("unknown") == [{"license": {"name": "unknown"}}]


def test_whole_documents_of_the_digest_have_no_fault() -> None:
    assert list(card_faults(card(STORY), DIGEST)) == []
    assert list(bom_faults(as_text(bom(STORY)), DIGEST)) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no model card"),
        ("# digits", "does not begin with"),
        (card(STORY).replace("license:", "licence:"), "lacks license"),
        (card(STORY)[:1200], "lacks the sections"),
        (card(CHILD), "not about this digest"),
        (card(STORY).replace("tags:\n", "tags: [\n"), "does not begin with"),
    ],
)
def test_a_card_that_is_missing_cut_or_anothers_is_told_by_its_fault(text: str, fault: str) -> None:
    assert any(fault in each for each in card_faults(text, DIGEST))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no bill of materials"),
        (as_text(bom(STORY))[:500], "not CycloneDX 1.6"),
        (json.dumps(bom(STORY) | {"specVersion": "1.5"}), "not CycloneDX 1.6"),
        (json.dumps(bom(STORY) | {"metadata": {}}), "no model with its card"),
        (json.dumps(bom(STORY) | {"components": 3}), "no data and no library"),
        (as_text(bom(CHILD)), "not about this digest"),
    ],
)
def test_a_bill_that_is_missing_cut_or_anothers_is_told_by_its_fault(text: str, fault: str) -> None:
    assert any(fault in each for each in bom_faults(text, DIGEST))


def judged(documents: dict[str, str]) -> Verdict:
    losses = {0: np.zeros(10)}
    evidence = Evidence(Contender(DIGEST, losses), None, GatePolicy(), documents=documents)
    return judge(evidence, datetime(2026, 11, 22, tzinfo=UTC))


def test_a_version_with_both_documents_passes_their_gate_before_its_verdict_is_known() -> None:
    drafted = replace(STORY, verdict=None, lineage=replace(LINEAGE, number=""))

    assert judged(documents_of(drafted)).passed


@pytest.mark.parametrize("lost", [CARD_FILE, BOM_FILE])
def test_a_version_without_one_of_its_documents_is_refused(lost: str) -> None:
    verdict = judged({name: text for name, text in documents_of(STORY).items() if name != lost})

    assert not verdict.passed
    assert verdict.reason.startswith("documents: There is no")


def test_the_table_of_gates_has_a_row_for_each() -> None:
    rows = gate_rows(FIGURES)

    assert [row["gate"] for row in rows] == ["accuracy", "regime-0"]
    assert [row["passed"] for row in rows] == ["yes", "NO"]


def test_the_card_says_what_a_training_took_and_what_a_full_one_would() -> None:
    assert "Its training took 1.2 processor seconds, 90 steps." in card(STORY)
    short = Cost(1.5, 1.25, 500, 4, 200, "settled", 6400, 1000, 3.6)
    assert spent(short) == (
        "1.2 processor seconds, 200 steps, 6,400 rows read, 0.0015 in money; a full retrain would"
        " take about 6.2, by its 1,000 steps, of which this is 20%; it ended when the loss on rows"
        " set apart had settled"
    )
