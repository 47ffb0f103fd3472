"""`backtest`: what the policy would have made of a recorded stream."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homeostat.commands.output import AsJson, ModelName, say, show_json, show_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.backtest import Course, Rule
    from homeostat.policy import Policy
    from models.data import Dataset


def add_to(app: typer.Typer) -> None:
    """Register the command of this file."""
    app.command()(backtest)


def backtest(
    model: ModelName,
    stream: Annotated[
        Path, typer.Argument(metavar="STREAM", help="Parquet or CSV: labelled rows, oldest first.")
    ],
    warmup: Annotated[int, typer.Option(help="Rows that train version 1; not counted.")] = 2_000,
    batch: Annotated[int, typer.Option(help="Rows between two looks.")] = 50,
    label_delay: Annotated[int, typer.Option(help="Rows between an answer and its label.")] = 0,
    calendar: Annotated[
        int, typer.Option(min=1, help="Rows between two retrains by the calendar.")
    ] = 1_000,
    rows_per_day: Annotated[
        int, typer.Option(help="For what the policy gives in seconds or days.")
    ] = 100_000,
    as_json: AsJson = False,
) -> None:
    """Replay a recorded stream: your policy against never, a calendar, and ADWIN.

    Needs no server and writes nothing. ADWIN is asked where river is installed.
    """
    import tempfile

    from flows.backtest import Course, replay, summary
    from flows.site import use_one_thread
    from homeostat.settings import load_settings
    from models.data import read_dataset

    policy = load_settings().policy(model)
    use_one_thread()
    course = Course(warmup, batch, label_delay, rows_per_day)
    dataset = read_dataset(str(stream), policy.label)
    with tempfile.TemporaryDirectory() as folder:
        done = [
            replay(dataset, rule, course)
            for rule in _rules(dataset, policy, course, calendar, Path(folder))
        ]
    if as_json:
        about = {"model": model, "stream": str(stream), "rows": len(dataset)}
        show_json(about | dataclasses.asdict(course) | {"rules": summary(done, warmup)})
        return
    show_table(
        ("RULE", "ACCURACY", "ALARMS", "RETRAINS", "REFUSED", "ROWS LEARNT", "CPU SECONDS"),
        [
            (
                one.rule,
                f"{one.accuracy:.3f}",
                len(one.tally.alarms),
                len(one.tally.retrains),
                len(one.tally.refused),
                f"{one.tally.rows_learnt:,}",
                f"{one.cpu_seconds:.1f}",
            )
            for one in done
        ],
    )
    say(f"{len(dataset) - warmup:,} rows answered after a warm-up of {warmup:,}.")
    if len(done) < 4:
        say("ADWIN was left out: it needs river (pip install river).")


def _rules(
    dataset: Dataset, policy: Policy, course: Course, every: int, folder: Path
) -> Iterator[Rule]:
    """One after another: each holds a model."""
    from flows.backtest_loop import Homeostat
    from flows.backtest_rules import Adwin, Calendar, Never, river_is_here

    yield Homeostat(dataset, policy, course, folder)
    yield Never(dataset, policy, course)
    yield Calendar(dataset, policy, course, every)
    if river_is_here():
        yield Adwin(dataset, policy, course)
