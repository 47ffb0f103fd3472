"""How soon a version that became worse is taken back, and how seldom a good one is.

    python -m benchmarks.rollback [--seeds 200] [--drills 200] [--days 1000] [--quick]

First what the guard decides, simulated (`benchmarks.rollback_theory`), then drills on a real
gateway by an outside client (`benchmarks.rollback_drills`), then aliases moved in a real MLflow
(`benchmarks.rollback_alias`). Exit code 1 where a target is missed: last bad answer within a second
of the deciding label in 99 of 100 drills and no failed request, a failing version rolled back
within 5 s, an alias obeyed within 5 s, no false rollback, power at least 0.95. Of a failing version
some requests fail: those by which it is known.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks import rollback_alias as alias
from benchmarks import rollback_delays as delays
from benchmarks import rollback_drills as drills
from benchmarks import rollback_theory as theory
from benchmarks.gateway import prepare, running, until_it_answers
from benchmarks.ports import free_port

ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(1, 200)]
RATE = 100.0  # requests a second in drills by labels
FAILING_RATE = 20.0  # and in those by failures
LAST_BAD_SECONDS, HARD_SECONDS, ALIAS_SECONDS, POWER = 1.0, 5.0, 5.0, 0.95


def show(head: str, columns: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    """A table with its heading."""
    print(f"\n{head}")
    table = [[str(cell) for cell in line] for line in (columns, *lines)]
    widths = [max(len(line[n]) for line in table) for n in range(len(columns))]
    for line in table:
        first = line[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        print("  ".join((first, *rest)), flush=True)


def simulate(pool: ProcessPoolExecutor, seeds: int, days: int) -> bool:
    """The three tables of the guard's decisions; whether their targets are met."""
    kinds = (
        ("at promotion", False, False),
        ("weeks later", True, False),
        ("weeks later, nested errors", True, True),
    )
    asked = [
        (budget, name, late, nested) for budget in theory.BUDGETS for name, late, nested in kinds
    ]
    found = [
        pool.submit(theory.delays, budget, seeds, late=late, nested=nested)
        for budget, _, late, nested in asked
    ]
    lines = []
    for (budget, name, _, nested), one in zip(asked, found, strict=True):
        labels = one.result()
        mean = f"{sum(labels) / len(labels):.0f}"
        middle, most = labels[len(labels) // 2], labels[int(0.95 * (len(labels) - 1))]
        limit = f"{theory.bound(budget, nested=nested):.0f}"
        lines.append((f"{budget:,}", name, mean, middle, most, limit))
    show(
        f"Labels from a drop of 0.95 to 0.85 until the rollback, {seeds} seeds",
        ("one false in", "the drop comes", "mean", "median", "95 %", "bound"),
        lines,
    )
    calm = [pool.submit(theory.quiet, days, seasonal=seasonal) for seasonal in (False, True)]
    rows = [one.result() for one in calm]
    show(
        f"False alarms in {days:,} model-days of {theory.DAY:,} labels, budget {theory.BUDGET:,}",
        ("traffic", "rollbacks", "pages about accuracy"),
        [(n, r.rollbacks, r.pages) for n, r in zip(("stationary", "seasonal"), rows, strict=True)],
    )
    kinds_of_drop = dict(theory.drops())
    powers = {name: pool.submit(theory.power, one, seeds) for name, one in kinds_of_drop.items()}
    shares = {name: one.result() for name, one in powers.items()}
    show(
        f"Found within {theory.PROMISED:,} labels, of {seeds} seeds each",
        ("drop", "share", "median labels"),
        [(name, f"{share:.3f}", f"{middle:.0f}") for name, (share, middle) in shares.items()],
    )
    drilled = delays.table(pool, seeds)
    show(
        f"The same where labels come up to so many hours late, {theory.DAY:,} predictions a day",
        ("drop", "hours", "share", "median labels", "median hours", "false"),
        [
            (n, f"{h:g}", f"{d.share:.3f}", f"{d.labels:.0f}", f"{d.hours:.1f}", d.early)
            for n, h, d in drilled
        ],
    )
    shares |= {f"{name}, {hours:g} h": (one.share, 0.0) for name, hours, one in drilled}
    quiet = not any(one.rollbacks for one in rows)
    return quiet and all(share >= POWER for share, _ in shares.values())


async def drill(count: int) -> bool:
    """The tables of a real gateway; whether their targets are met."""
    with tempfile.TemporaryDirectory() as folder:
        state, port = Path(folder), free_port()
        prepare(state, versions=2)
        truths = drills.answers_of(state, ROWS)
        with running(state, port, HOMEOSTAT_MAX_QUEUE_MS="0") as process:
            await until_it_answers(port, process, state)
            await drills.drill(port, ROWS, truths, RATE)  # warm
            by_labels = [await drills.drill(port, ROWS, truths, RATE) for _ in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        state, port = Path(folder), free_port()
        prepare(state, versions=1, channels=0)
        drills.put_a_failing_version(state, ROWS)
        with running(state, port, HOMEOSTAT_MAX_QUEUE_MS="0") as process:
            await until_it_answers(port, process, state)
            failing = [
                await drills.hard_failure(port, ROWS, FAILING_RATE)
                for _ in range(max(1, count // 10))
            ]
    labelled = show_drills("By labels", by_labels, LAST_BAD_SECONDS)
    unlabelled = show_drills("By failures, without labels", failing, HARD_SECONDS)
    return labelled and unlabelled and not any(one.failed for one in by_labels)


async def move_aliases(count: int) -> bool:
    """The table of aliases moved in MLflow; whether the target is met."""
    seconds, failed = await alias.measure(count, ROWS, RATE)
    late = seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
    show(
        f"Alias champion moved in a real MLflow, {count} times: seconds to the last other answer",
        ("", "p50", "p95", "max"),
        [
            ("seconds", f"{seconds[len(seconds) // 2]:.2f}", f"{late:.2f}", f"{seconds[-1]:.2f}"),
            ("failed requests", failed, "", ""),
        ],
    )
    return seconds[-1] <= ALIAS_SECONDS and not failed


def show_drills(name: str, done: list[drills.Drill], limit: float) -> bool:
    """A table of drills; whether the target is met."""
    seconds = sorted(one.seconds for one in done)
    late = seconds[min(len(seconds) - 1, int(0.99 * len(seconds)))]
    failed = sum(one.failed for one in done)
    labels = sorted(one.labels for one in done)
    show(
        f"{name}: {len(done)} drills on a real gateway",
        ("", "p50", "p99", "max"),
        [
            (
                "seconds to the last bad answer",
                f"{seconds[len(seconds) // 2]:.3f}",
                f"{late:.3f}",
                f"{seconds[-1]:.3f}",
            ),
            ("labels of the bad version", labels[len(labels) // 2], "", labels[-1]),
            ("requests", sum(one.answered for one in done) + failed, "", ""),
            ("failed requests", failed, "", ""),
        ],
    )
    return late <= limit


def main() -> int:
    """Simulate, drill, print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--days", type=int, default=1_000, help="model-days without a change")
    parser.add_argument("--drills", type=int, default=200, help="0: none")
    parser.add_argument("--quick", action="store_true", help="a tenth of all that")
    chosen = parser.parse_args()
    part = 10 if chosen.quick else 1
    with ProcessPoolExecutor(2) as pool:
        met = simulate(pool, chosen.seeds // part, chosen.days // part)
    if chosen.drills:
        met &= asyncio.run(drill(chosen.drills // part))
        met &= asyncio.run(move_aliases(max(2, chosen.drills // part // 10)))
    print("\nevery target is met" if met else "\na target is missed")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
