"""The documents that lie beside a version: its card and its bill of materials.

They are about the artifact and so no part of it: the digest is of the artifact alone. A version
whose documents are missing, cut short or about another digest is refused by the gate `documents`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

CARD_FILE = "model_card.md"
BOM_FILE = "bom.cdx.json"
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
BOM_FORMAT, BOM_VERSION = "CycloneDX", "1.6"
METADATA = ("license", "tags", "datasets", "metrics", "model-index")
SECTIONS = ("Intended use", "Data", "Figures", "Gates", "Limits", "Lineage", "Files")


def card_faults(text: str, digest: str) -> Iterator[str]:
    """What is wrong with a model card of the artifact of that digest; nothing where it is whole."""
    if not text:
        yield "There is no model card."
        return
    opening, _, rest = text.partition("---\n")
    block, closing, body = rest.partition("\n---\n")
    try:
        metadata = yaml.safe_load(block) if not opening and closing else None
    except yaml.YAMLError:
        metadata = None
    if not isinstance(metadata, dict):
        yield "The card does not begin with a block of metadata."
        return
    if lacking := [name for name in METADATA if not metadata.get(name)]:
        yield f"The card's metadata lacks {', '.join(lacking)}."
    lines = body.splitlines()
    if lacking := [name for name in SECTIONS if f"## {name}" not in lines]:
        yield f"The card lacks the sections {', '.join(lacking)}."
    if f"- Digest: `{digest}`" not in lines:
        yield "The card is not about this digest."


def bom_faults(text: str, digest: str) -> Iterator[str]:
    """What is wrong with a bill of materials of the artifact of that digest."""
    if not text:
        yield "There is no bill of materials."
        return
    try:
        bom = json.loads(text)
    except ValueError:
        bom = None
    if not isinstance(bom, dict) or (bom.get("bomFormat"), bom.get("specVersion")) != (
        BOM_FORMAT,
        BOM_VERSION,
    ):
        yield f"The bill of materials is not {BOM_FORMAT} {BOM_VERSION}."
        return
    component = _inner(_inner(bom, "metadata"), "component")
    if component.get("type") != "machine-learning-model" or "modelCard" not in component:
        yield "The bill of materials names no model with its card."
    if {"alg": "SHA-256", "content": digest} not in _parts(component, "hashes"):
        yield "The bill of materials is not about this digest."
    kinds = {str(part.get("type")) for part in _parts(bom, "components")}
    if lacking := sorted({"data", "library"} - kinds):
        yield f"The bill of materials names no {' and no '.join(lacking)}."


def _parts(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = value.get(name)
    return [part for part in found if isinstance(part, dict)] if isinstance(found, list) else []


def _inner(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
