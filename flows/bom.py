"""The bill of materials of a version: CycloneDX 1.6, with the model, its data and its libraries.

Everything in it comes from the lineage and from the owner, in a fixed order, under a serial number
made from the digest: the same version has the same bill, wherever it is made.
"""

from __future__ import annotations

import uuid
from importlib import metadata
from typing import Any
from urllib.parse import quote

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from flows.cards import Story
from registry.documents import BOM_FORMAT, BOM_VERSION
from registry.lineage_record import Parent

Part = dict[str, Any]

MODEL_REF, DATA_REF, MEMORY_REF = "model", "data:learnt", "data:memory"


def bom(story: Story) -> Part:
    """The bill of materials as plain JSON."""
    record = story.lineage
    others = [_learnt(story), _memory(story), *map(_library, record.environment.packages.items())]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": BOM_FORMAT,
        "specVersion": BOM_VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'urn:sha256:{record.digest}')}",
        "version": 1,
        "metadata": {
            "timestamp": record.made_at,
            "lifecycles": [{"phase": "build"}],
            "tools": {
                "components": [
                    {"type": "application", "name": "homeostat", "version": record.code.package}
                ]
            },
            "component": _model(story),
        },
        "components": others,
        "dependencies": [
            {"ref": MODEL_REF, "dependsOn": [part["bom-ref"] for part in others]},
            *({"ref": part["bom-ref"]} for part in others),
        ],
    }


def _model(story: Story) -> Part:
    record = story.lineage
    part: Part = {
        "type": "machine-learning-model",
        "bom-ref": MODEL_REF,
        "name": record.model,
        "version": record.number,
        "description": record.made_by,
        "hashes": _sha256(record.digest),
        "licenses": licences(story.facts.license),
    }
    if story.facts.contact:
        part["authors"] = [{"name": story.facts.contact}]
    if record.parent is not None:
        part["pedigree"] = {"ancestors": [_ancestor(record.model, record.parent)]}
    part["components"] = [
        {
            "type": "file",
            "bom-ref": f"file:{name}",
            "name": f"model/{name}",
            "hashes": _sha256(file.sha256),
        }
        for name, file in sorted(record.files.items())
    ]
    part["modelCard"] = _card(story)
    part["properties"] = [
        {"name": f"homeostat:{name}", "value": value}
        for name, value in (
            ("environment", record.environment.digest),
            ("flow", record.flow),
            ("python", record.environment.python),
            ("seed", str(record.seed)),
            ("source", record.code.source),
            ("weights", str(record.weights)),
        )
    ]
    return part


def _ancestor(model: str, parent: Parent) -> Part:
    return {
        "type": "machine-learning-model",
        "name": model,
        "description": f"Version {parent.version} in MLflow; {parent.edge}.",
        "hashes": _sha256(parent.digest),
    }


def _card(story: Story) -> Part:
    record, facts = story.lineage, story.facts
    answer = "classes" if story.task == "classification" else "a number"
    considerations: Part = {
        "technicalLimitations": [
            "Inputs unlike those it was judged on are beyond what its figures say."
        ],
    }
    if facts.intended_use:
        considerations["useCases"] = [facts.intended_use]
    if facts.not_for:
        considerations["technicalLimitations"].append(facts.not_for)
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": story.task,
            "modelArchitecture": record.make.learner,
            "datasets": [{"ref": DATA_REF}, {"ref": MEMORY_REF}],
            "inputs": [{"format": f"{len(record.make.inputs)} features"}],
            "outputs": [{"format": answer}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {
                    "type": "accuracy (1 - mean loss)",
                    "value": f"{value:.4f}",
                    "slice": f"held-out rows of regime {number}",
                }
                for number, value in sorted(story.accuracy.items())
            ]
        },
        "considerations": considerations,
    }


def _learnt(story: Story) -> Part:
    data = story.lineage.data
    span = f", predicted from {data.begins} to {data.ends}" if data.begins else ""
    told = (
        f"{data.rows} rows of regime {data.regime}: {data.trained_on} to learn, {data.held_out}"
        f" held out{span}. The hash is of rows and labels in their order."
    )
    return _dataset(DATA_REF, story.dataset, data.digest, told, story)


def _memory(story: Story) -> Part:
    memory = story.lineage.memory
    told = f"{memory.rows} kept rows, and the frozen held-out rows. The hash is of its manifest."
    return _dataset(MEMORY_REF, "replay memory", memory.digest, told, story)


def _dataset(ref: str, name: str, digest: str, told: str, story: Story) -> Part:
    return {
        "type": "data",
        "bom-ref": ref,
        "name": name,
        "description": told,
        "hashes": _sha256(digest),
        "data": [
            {
                "type": "dataset",
                "name": name,
                "classification": story.facts.data_classification,
            }
        ],
    }


def _library(item: tuple[str, str]) -> Part:
    name, version = item
    purl = f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version)}"
    part: Part = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    if licence := _licence_of(name):
        part["licenses"] = licences(licence)
    return part


def _licence_of(distribution: str) -> str:
    """What a distribution says of its licence in one expression; empty where it does not."""
    try:
        return str(metadata.metadata(distribution).json.get("license_expression", ""))
    except metadata.PackageNotFoundError:
        return ""


def licences(text: str) -> list[Part]:
    """A licence as CycloneDX has it: an SPDX expression, or else a name."""
    try:
        return [{"expression": str(canonicalize_license_expression(text))}]
    except InvalidLicenseExpression:
        return [{"license": {"name": text}}]


def _sha256(content: str) -> list[Part]:
    return [{"alg": "SHA-256", "content": content}]
