"""`card`, `bom`: what lies beside a version for people and auditors."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from homeostat.commands.output import AsJson, ModelName, Version, say, show_json

Other = Annotated[
    int | None,
    typer.Option("--diff", metavar="OTHER", min=1, help="Show how OTHER's differs instead."),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(card)
    app.command()(bom)


def card(model: ModelName, version: Version, other: Other = None, as_json: AsJson = False) -> None:
    """Print a version's model card: Markdown below the metadata of Hugging Face."""
    from registry.documents import CARD_FILE

    _show(model, version, other, CARD_FILE, as_json)


def bom(model: ModelName, version: Version, other: Other = None, as_json: AsJson = False) -> None:
    """Print a version's bill of materials: CycloneDX 1.6, JSON."""
    from registry.documents import BOM_FILE

    _show(model, version, other, BOM_FILE, as_json)


def _show(model: str, version: int, other: int | None, name: str, as_json: bool) -> None:
    from contextlib import closing

    from homeostat.settings import load_settings
    from registry.documents import MAX_DOCUMENT_BYTES
    from registry.versions import MlflowVersions

    settings = load_settings()
    settings.policy(model)
    with closing(MlflowVersions(settings.mlflow_address)) as versions:
        texts = [
            versions.document(model, each, name, MAX_DOCUMENT_BYTES).decode("utf-8", "replace")
            for each in (version, other)
            if each is not None
        ]
    if as_json:
        numbers = [version] if other is None else [version, other]
        show_json(
            [
                {"model": model, "version": each, "file": name, "text": text}
                for each, text in zip(numbers, texts, strict=True)
            ]
        )
        return
    if other is None:
        say(texts[0].rstrip("\n"))
        return
    before, after = (text.splitlines() for text in texts)
    names = (f"{model} {version}/{name}", f"{model} {other}/{name}")
    for line in difflib.unified_diff(before, after, *names, n=0, lineterm=""):
        say(line)
