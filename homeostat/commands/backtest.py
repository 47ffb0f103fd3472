"""`backtest`: what the policy would have made of recorded streams, or of the prediction log."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homeostat.commands.output import AsJson, ModelName, say, show_json, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.backtest import Course, Replayed
    from flows.backtest_log import Logged
    from flows.backtest_runs import Stream
    from homeostat.policy import Policy
    from homeostat.settings import Settings

WARMUP = 2_000
COLUMNS = ("RULE", "ACCURACY", "ALARMS", "RETRAINS", "REFUSED", "ROWS LEARNT", "CPU SECONDS")


def add_to(app: typer.Typer) -> None:
    """Register the command of this file."""
    app.command()(backtest)


def backtest(
    model: ModelName,
    streams: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="STREAM",
            help="Parquet or CSV: labelled rows, oldest first. None: the prediction log.",
        ),
    ] = None,
    days: Annotated[
        float, typer.Option(min=0.01, help="How far back the prediction log is read.")
    ] = 90.0,
    warmup: Annotated[
        int | None,
        typer.Option(
            help="Rows that train version 1; not counted. Not given: 2,000, of the log at most a"
            " fourth part."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Rows between two looks.")] = 50,
    label_delay: Annotated[
        int | None,
        typer.Option(
            help="Rows between an answer and its label. Not given: 0, of the log what it was."
        ),
    ] = None,
    calendar: Annotated[
        int, typer.Option(min=1, help="Rows between two retrains by the calendar.")
    ] = 1_000,
    rows_per_day: Annotated[
        int | None,
        typer.Option(
            help="For what the policy gives in seconds or days. Not given: 100,000, of the log what"
            " it was."
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Rules and streams replayed at once.")
    ] = 1,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with the curves there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay recorded rows: your policy against never, a calendar, and ADWIN.

    Without STREAM those of the prediction log are replayed, beside what was answered. Needs no
    server and changes nothing. ADWIN is asked where river is installed.
    """
    from flows.backtest import summary
    from flows.backtest_page import check_page, write_page
    from flows.backtest_rules import river_is_here
    from flows.backtest_runs import run, sides
    from homeostat.settings import load_settings

    settings = load_settings()
    policy = settings.policy(model)
    if page is not None:
        check_page(page)
    given = (warmup, batch, label_delay, rows_per_day)
    log = _of_log(settings, policy, model, days) if not streams else None
    asked = _log_stream(model, log, given) if log else _files(streams or [], policy, given)
    waiting = sides(asked, policy, [calendar])
    each = len(waiting) // len(asked)
    results = run(waiting, processes)
    done = [(stream, [next(results) for _ in range(each)]) for stream in asked]
    if log is not None and (was := log.as_it_was(asked[0].course)):
        done = [(stream, [was, *found]) for stream, found in done]
    if page is not None:
        write_page(page, model, done)
    if as_json:
        told = [
            {"model": model, "stream": stream.name, "rows": len(stream.dataset)}
            | dataclasses.asdict(stream.course)
            | {"rules": summary(found, stream.course.warmup)}
            for stream, found in done
        ]
        show_json(told[0] if len(told) == 1 else told)
        return
    for stream, found in done:
        _show(stream, found, named=len(done) > 1)
    if log is not None:
        _tell(log, asked[0].course)
    if not river_is_here():
        say("ADWIN was left out: it needs river (pip install river).")
    if page is not None:
        say(f"The curves are in {page}.")


Given = tuple[int | None, int, int | None, int | None]


def _files(paths: Sequence[Path], policy: Policy, given: Given) -> list[Stream]:
    from flows.backtest import Course
    from flows.backtest_runs import Stream
    from models.data import read_dataset

    warmup, batch, delay, rows_per_day = given
    course = Course(WARMUP if warmup is None else warmup, batch, delay or 0)
    if rows_per_day is not None:
        course = dataclasses.replace(course, rows_per_day=rows_per_day)
    return [Stream(str(path), read_dataset(str(path), policy.label), course) for path in paths]


def _log_stream(model: str, log: Logged, given: Given) -> list[Stream]:
    from flows.backtest import Course
    from flows.backtest_runs import Stream

    warmup, batch, delay, rows_per_day = given
    course = Course(
        log.warmup(WARMUP) if warmup is None else warmup,
        batch,
        log.delay if delay is None else delay,
        log.rows_per_day if rows_per_day is None else rows_per_day,
    )
    return [Stream(f"prediction log of {model}", log.dataset, course)]


def _of_log(settings: Settings, policy: Policy, model: str, days: float) -> Logged:
    from datetime import timedelta

    from flows.backtest_log import MOST_ROWS, logged
    from homeostat.clock import utc_now
    from registry.database import check_schema, connect, sessions, transaction
    from registry.labels import labelled_rows
    from registry.ripeness import wait_for_labels

    now = utc_now()
    since = now - timedelta(days=days)
    engine = connect(settings.database)
    try:
        check_schema(engine)
        with transaction(sessions(engine, read_only=True)) as session:
            rows = labelled_rows(session, model, since, MOST_ROWS)
            wait = wait_for_labels(session, model, now, policy)
    finally:
        engine.dispose()
    return logged(rows, wait, model, days)


def _show(stream: Stream, found: Sequence[Replayed], *, named: bool) -> None:
    if named:
        say(f"\n{stream.name}")
    show_table(
        COLUMNS,
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
            for one in found
        ],
    )
    warmup = stream.course.warmup
    say(f"{len(stream.dataset) - warmup:,} rows answered after a warm-up of {warmup:,}.")


def _tell(log: Logged, course: Course) -> None:
    """What the log was replayed as."""
    say(
        f"The log's labelled rows from {log.start:%Y-%m-%d %H:%M} to {log.end:%Y-%m-%d %H:%M} UTC,"
        f" {course.rows_per_day:,} a day, labels {course.delay:,} rows later."
    )
    if log.as_it_was(course) is None:
        say("What was answered is not beside it: the losses of some rows are not known yet.")
    else:
        say("As it was: its retrains are the versions that answered for the first time.")
