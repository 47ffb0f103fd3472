"""The policy against never, calendars and ADWIN on public streams, and how long a replay takes.

    python -m benchmarks.backtest --data FOLDER [--processes 2] [--streams NAME,NAME] [--ours]
    python -m benchmarks.backtest --speed

FOLDER holds the streams of `STREAMS` as NAME.parquet: labelled rows in the order of time. All have
one policy, `POLICY`. ADWIN is river's, installed once in an environment of its own; where it cannot
be, it is left out and so are the aims that are about it. `--ours` prints the policy's own column
alone, without aims. `--speed` replays 100,000 rows of a stream that is made here, whose concept
changes 10 times, on one thread, and prints the seconds of the processor too.

Seeded: a second run prints the same accuracy. Exit code 1 where an aim is missed: on an abrupt
stream at least ADWIN's accuracy, on a gradual one at least that of a retrain every 1,000 rows, on
both at most half as many retrains as that; and 100,000 rows within 120 s.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.environments import Missing, python_of
from flows.backtest import Course, Replayed
from flows.backtest_rules import river_is_here
from flows.backtest_runs import Asked, Stream, run, run_one, sides
from homeostat.policy import GatePolicy, MonitorPolicy, Policy, RetrainPolicy
from models.data import Dataset, read_dataset

SECONDS = 120.0
ROWS, CHANGES = 100_000, 10  # of the stream that is made here
CALENDARS = (1_000, 5_000)
COURSE = Course(rows_per_day=10_000)
POLICY = Policy(
    learner="table",
    gates=GatePolicy(forgetting=1.0, class_budget=1.0, min_accuracy=0.5),
    # One false alarm in a day of rows: it costs a retrain, and no person is called.
    monitor=MonitorPolicy(tolerance_loss=0.005, budget_labels=10_000),
    retrain=RetrainPolicy(strategy="renewal", epochs=30, cool_down_seconds=0.0),
)


@dataclass(frozen=True)
class Source:
    """A stream's file, its label, and columns that are no inputs."""

    name: str
    label: str = "class"
    ignore: tuple[str, ...] = ()


_PUBLISHED = ("sea_0123", "sine_0123", "mixed_0101", "stagger_0120", "rt_8873985678962563")
STREAMS = (
    *(Source(f"lobo_{name}_abrupt") for name in _PUBLISHED),
    *(Source(f"lobo_{name}_gradual") for name in _PUBLISHED),
    Source("electricity"),
    Source("interchanging_rbf"),
    Source("car_loan", "repaid", ("id", "part", "y_pred_proba", "y_pred", "timestamp")),
    Source(
        "employment_ma", "employed", ("id", "part", "prediction", "predicted_probability", "year")
    ),
)


def made(rows: int, changes: int) -> Dataset:
    """Points told apart by a sine curve, whose sides change place `changes` times."""
    draw = np.random.default_rng(11).random((rows, 2)).round(6)
    above = draw[:, 1] > 0.5 + 0.3 * np.sin(3.0 * np.pi * draw[:, 0])
    turned = np.arange(rows) * (changes + 1) // rows % 2 == 1
    points = [{"a": float(a), "b": float(b)} for a, b in draw]
    return Dataset.of(points, ["up" if one else "down" for one in above != turned])


def read(folder: Path, source: Source) -> tuple[Stream, Policy]:
    """A stream and the policy that fits its columns."""
    dataset = read_dataset(str(folder / f"{source.name}.parquet"), source.label)
    first = dataset.rows[0]
    ignore = [name for name in source.ignore if isinstance(first, dict) and name in first]
    policy = POLICY.model_copy(
        update={"label": source.label, "learner_config": {"ignore": ignore} if ignore else {}}
    )
    return Stream(source.name, dataset, COURSE), policy


def river_on_the_path() -> bool:
    """Let river be imported, from its own environment; False: it cannot be installed here."""
    if river_is_here():
        return True
    try:
        home = Path(python_of("river")).parents[1]
    except Missing as error:
        print(f"ADWIN is left out: river is {error}.")
        return False
    sys.path.append(str(next((home / "lib").glob("python*/site-packages"))))
    return True


def missed(name: str, found: dict[str, Replayed]) -> list[str]:
    """Which aims a stream misses, in words."""
    ours, calendar = found["homeostat"], found[f"every {CALENDARS[0]:,}"]
    rival = calendar if name.endswith("_gradual") else found.get("adwin")
    told = list[str]()
    if not name.endswith(("_gradual", "_abrupt")) or rival is None:
        return told
    if round(ours.accuracy, 3) < round(rival.accuracy, 3):
        told.append(f"{rival.rule} is better by {rival.accuracy - ours.accuracy:.3f}")
    if 2 * len(ours.tally.retrains) > len(calendar.tally.retrains):
        told.append("more than half of the calendar's retrains")
    return told


def compare(folder: Path, names: Sequence[str], processes: int) -> bool:
    """The table of all streams; whether the aims are met."""
    river_on_the_path()
    wanted = [one for one in STREAMS if not names or one.name in names]
    asked: list[Asked] = []
    for source in wanted:
        stream, policy = read(folder, source)
        asked += sides([stream], policy, CALENDARS)
    met, found, done = True, dict[str, Replayed](), 0
    rules = ["homeostat", "never", *(f"every {one:,}" for one in CALENDARS), "adwin"]
    print(f"{'stream':<34}" + "".join(f"{rule:>15}" for rule in rules), flush=True)
    for one, replayed in zip(asked, run(asked, processes), strict=True):
        found[replayed.rule], done = replayed, done + 1
        if done < len(asked) and asked[done].stream is one.stream:
            continue
        cells = [
            f"{each.accuracy:.3f} ({len(each.tally.retrains)})" if each else "-"
            for each in map(found.get, rules)
        ]
        told = missed(one.stream.name, found)
        met &= not told
        line = f"{one.stream.name:<34}" + "".join(f"{cell:>15}" for cell in cells)
        print(line + (f"  MISSED: {'; '.join(told)}" if told else ""), flush=True)
        found = {}
    return met


def ours(folder: Path, names: Sequence[str]) -> None:
    """Accuracy and retrains of the policy on each stream."""
    for source in STREAMS:
        if not names or source.name in names:
            stream, policy = read(folder, source)
            found = run_one(Asked(stream, policy, "homeostat"))
            print(
                f"{source.name:<34}{found.accuracy:>9.3f} ({len(found.tally.retrains)})", flush=True
            )


def speed() -> bool:
    """How long one replay of 100,000 rows takes; whether that is soon enough."""
    stream = Stream("made here", made(ROWS, CHANGES), COURSE)
    started, cpu_started = time.monotonic(), time.process_time()
    replayed = run_one(Asked(stream, POLICY, "homeostat"))
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
    retrains = len(replayed.tally.retrains)
    print(
        f"{ROWS:,} rows, {CHANGES} changes: {retrains} retrains, accuracy {replayed.accuracy:.3f}, "
        f"{seconds:.1f} s on one thread, {cpu_seconds:.1f} s of processor"
    )
    return seconds <= SECONDS


def main() -> int:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the streams")
    parser.add_argument("--streams", default="", help="only these, by comma")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--ours", action="store_true", help="only the policy's own column")
    parser.add_argument("--speed", action="store_true", help="only how long a replay takes")
    given = parser.parse_args()
    if given.speed or given.data is None:
        return 0 if speed() else 1
    names = [one for one in given.streams.split(",") if one]
    if given.ours:
        ours(given.data, names)
        return 0
    return 0 if compare(given.data, names, given.processes) else 1


if __name__ == "__main__":
    sys.exit(main())
