"""`versions`, `choose`: the matrix of a model's versions, and a recommendation by it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeostat.commands.exits import REFUSED
from homeostat.commands.output import AsJson, ModelName, say, show_json, show_table

if TYPE_CHECKING:
    from registry.choosing import Choice
    from registry.lineage_record import Cost
    from registry.matrix import Standing
    from registry.routing import Routing

MOST_REGIMES = 3  # columns of accuracy: more do not fit on a screen
SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
AGES = ((86_400, "d"), (3_600, "h"), (60, "min"))


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(versions)
    app.command()(choose)


def versions(model: ModelName, as_json: AsJson = False) -> None:
    """Show the matrix of a model's versions: what each is, costs, is worth and does.

    Sizes, latencies and throughput are what was measured here; blank: nobody has.
    """
    from homeostat.clock import utc_now
    from homeostat.commands.release import summary

    rows, routing = _read(model)
    if as_json:
        split = _moments(asdict(routing)) if routing else None
        shown = [standing(row) for row in rows]
        show_json({"model": model, "routing": split, "versions": shown})
        return
    if not rows:
        say(f"{model} has no version yet: `homeostat train {model}` makes one.")
        return
    known = sorted({number for row in rows for number in row.accuracy})
    shown_regimes = known[-MOST_REGIMES:]
    shown_rows = [cells(row, shown_regimes, utc_now()) for row in rows]
    show_table(headings(shown_regimes), shown_rows, gap=1)
    newest = f", the newest {MOST_REGIMES} of {len(known)}" if len(known) > MOST_REGIMES else ""
    say(
        "v: version in MLflow; p50, p99: milliseconds of one row;"
        " cost: processor seconds of a training, and a retrain's share of a full one's;"
        f" rN: accuracy on regime N's held-out rows{newest}."
    )
    if routing:
        say(summary(_moments(asdict(routing))))


def choose(
    model: ModelName,
    max_latency: Annotated[
        str, typer.Option("--max-latency", metavar="TIME", help="Of p99, at most: 20ms.")
    ] = "",
    max_memory: Annotated[
        str, typer.Option("--max-memory", metavar="SIZE", help="At most: 500MB.")
    ] = "",
    min_accuracy: Annotated[
        str, typer.Option("--min-accuracy", metavar="SHARE", help="At least: 0.9 or 90%.")
    ] = "",
    regime: Annotated[
        int | None,
        typer.Option("--regime", min=0, help="Whose accuracy counts; else the newest one's."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recommend a version within the bounds, and say why this one; nothing is moved.

    Exits with 4 where no version is within every bound.
    """
    from registry import choosing

    bounds = choosing.Bounds(
        choosing.latency(max_latency) if max_latency else None,
        choosing.memory(max_memory) if max_memory else None,
        choosing.share(min_accuracy) if min_accuracy else None,
        regime,
    )
    rows, _ = _read(model)
    choice = choosing.choose(rows, bounds)
    if as_json:
        show_json(
            {
                "model": model,
                "chosen": standing(choice.chosen) if choice.chosen else None,
                "regime": choice.regime,
                "decided": choice.decided,
                "fitting": [row.version for row in choice.fitting],
                "broken": {str(version): list(why) for version, why in choice.broken.items()},
            }
        )
    else:
        for line in told(model, choice, {row.version: row for row in rows}):
            say(line)
    if choice.chosen is None:
        raise typer.Exit(REFUSED)


def told(model: str, choice: Choice, rows: dict[int, Standing]) -> list[str]:
    """A choice in lines for people."""
    if choice.chosen is None:
        lines = [f"No version of {model} can be recommended."]
    else:
        lines = [f"Version {_named(choice.chosen)} of {model}. {choice.decided}"]
    lines += [f"Not {_named(rows[each])}: {'; '.join(why)}." for each, why in choice.broken.items()]
    return lines


def headings(regimes: Sequence[int]) -> list[str]:
    """Of the matrix: they fit a hundred columns with three regimes."""
    measured = ["params", "size", "p50", "p99", "rows/s", "memory", "cost"]
    return ["number", "v", "role", "gates", *measured, *(f"r{each}" for each in regimes), "age"]


def cells(row: Standing, regimes: Sequence[int], now: datetime) -> list[str]:
    """A row of the matrix as text, in the order of the headings."""
    gates = "" if row.verdict is None else "passed" if row.verdict.passed else "refused"
    return [
        row.number,
        str(row.version),
        "quarantined" if row.barred else row.role or row.state,
        gates,
        _scaled(row.weights),
        _bytes(row.size_bytes),
        _figure(row.latency_p50_ms),
        _figure(row.latency_p99_ms),
        _scaled(row.throughput_rows_s),
        _bytes(row.memory_bytes),
        _cost(row.cost),
        *(f"{row.accuracy[each]:.3f}" if each in row.accuracy else "" for each in regimes),
        "" if row.created_at is None else _age((now - row.created_at).total_seconds()),
    ]


def standing(row: Standing) -> dict[str, Any]:
    """A row of the matrix as plain JSON."""
    plain = asdict(row) | {
        "verdict": row.verdict.to_json() if row.verdict else None,
        "accuracy": {str(number): value for number, value in row.accuracy.items()},
        "cost": row.cost and asdict(row.cost) | {"share": row.cost.share, "money": row.cost.money},
    }
    return _moments(plain)


def _read(model: str) -> tuple[list[Standing], Routing | None]:
    """The matrix and the routing, from MLflow and the database alone.

    Raises:
        UnknownModel: the settings have no such model.
        Unavailable: MLflow or the database is away.
    """
    from homeostat.commands.lineage import database
    from registry.matrix import matrix
    from registry.routing import current_routing
    from registry.versions import MlflowVersions

    with database(read_only=True) as (settings, session):
        settings.policy(model)
        with contextlib.closing(MlflowVersions(settings.mlflow_address)) as mlflow:
            listed = mlflow.list_versions(model)
            metrics = {each.version: mlflow.metrics(each.run_id) for each in listed}
        return matrix(session, model, listed, metrics), current_routing(session, model)


def _named(row: Standing) -> str:
    return f"{row.number} (MLflow version {row.version})" if row.number else f"{row.version}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _scaled(value: float | None) -> str:
    """Three digits with k, M or G for thousands: 21.4k."""
    if value is None:
        return ""
    unit, name = next(((unit, name) for unit, name in SCALES if value >= unit), (1, ""))
    return f"{value / unit:.3g}{name}"


def _bytes(value: float | None) -> str:
    return f"{_scaled(value)}B" if value is not None else ""


def _cost(cost: Cost | None) -> str:
    """A retrain's share of a full one's, of any other training its processor seconds."""
    if cost is None:
        return ""
    return f"{_figure(cost.cpu_seconds)}s" if cost.share is None else f"{cost.share:.0%}"


def _age(seconds: float) -> str:
    unit, name = next(((unit, name) for unit, name in AGES if seconds >= unit), (1, "s"))
    return f"{max(seconds, 0) / unit:.0f} {name}"


def _moments(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in values.items()
    }
