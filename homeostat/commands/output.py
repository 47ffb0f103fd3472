"""How commands answer: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A model of the settings.")]
Version = Annotated[
    int, typer.Argument(metavar="VERSION", min=1, help="Its number in MLflow: 3, say.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept in the ledger.")]


def show_json(value: Any) -> None:  # noqa: ANN401 - any JSON
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def say(text: str) -> None:
    """Print one plain line."""
    sys.stdout.write(text + "\n")


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str = "", gap: int = 2
) -> None:
    """Print rows under their headings, `gap` spaces apart; `empty` where there are none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(_text(cell)) for cell in row))
    if table.row_count == 0 and empty:
        say(empty)
        return
    console = Console()
    if not console.is_terminal:  # a pipe has no width: what reads it wants whole lines
        console = Console(width=200)
    console.print(table)


def when(value: object) -> str:
    """A time as people read it, to the second, in UTC."""
    text = str(value or "")
    return text[:19].replace("T", " ")


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return str(cell)
