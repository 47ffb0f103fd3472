"""Retraining strategies side by side: what each learns, what it forgets, what it costs.

    python -m benchmarks.continual [--seeds 3] [--processes 2] [--streams split-digits ...]
                                   [--strategies replay ...] [--data FOLDER] [--no-peers]

No server. Each stream brings tasks one after the other; after each the champion is retrained by the
strategy on that task's rows and judged on every task so far. Seeded: a second run finds the same
accuracies. Each training has one thread, and times are processor seconds.

| figure | what it is |
|---|---|
| accuracy | mean over the tasks, after the last one |
| forgetting | mean over the tasks before the last: the best it ever was, less what is left |
| last update | processor time of the last retrain, and its share of a full retrain's |
| kept | bytes kept to be read besides the net: rows, EWC's weights, the sums of `prototypes` |

"all rows anew" is a fresh model taught all tasks' rows at once: a bound, not a strategy. Names in
capitals are Avalanche's own strategies, on the same rows, net, first weights, memory, epochs and
rows of a step, in an environment that is made once; where it cannot be made they are left out.
`settled` is `averaged-replay` with a patience of three passes (`models.settling`), where tasks are
large enough for one. `prototypes` is another model: 1,024 random projections (or 3,072) of the
same encoding, or the answers of 48 random filters to an image, and no net.
Intervals are 95 %, by Student's t over the seeds. `history` follows the cost over ten regimes.
MNIST and CLINC150 are read from FOLDER (`mnist.npz`; `clinc150_full.json.gz`,
`clinc150_domains.json`) and skipped where they are absent. `clinc-frozen` reads CLINC150 by a real
sentence encoder, which is installed once like Avalanche.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student

from benchmarks.continual_frozen import prepare
from benchmarks.continual_sides import (
    ANEW,
    PEER,
    PROTOTYPES,
    SETTLED,
    STREAMS,
    Found,
    anew,
    ask_avalanche,
    follow,
)
from benchmarks.continual_streams import CLINC_FILE, DOMAINS_FILE, MNIST_FILE
from models import STRATEGIES

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TITLES = {
    "split-digits": "split digits, 5 tasks of 2 classes, 100 rows kept",
    "rotated-digits": "rotated digits, 5 tasks, 100 rows kept",
    "split-mnist": "split MNIST, 5 tasks of 2 classes, 200 rows kept",
    "clinc": "CLINC150 by domain, 10 tasks of 15 intents, hashed n-grams, 500 rows kept",
    "clinc-frozen": "CLINC150 by domain, 10 tasks of 15 intents, frozen MiniLM, 500 rows kept",
    "history": "ten regimes of rotated digits, 100 rows kept",
}
TEXTS = ("clinc", "clinc-frozen")
NEEDS = {"split-mnist": (MNIST_FILE,), **dict.fromkeys(TEXTS, (CLINC_FILE, DOMAINS_FILE))}
ON_HISTORY = ("replay", "averaged-replay", SETTLED, "prototypes", "full")
ON_IMAGES, ON_TEXTS = "prototypes filters", "prototypes 3072"  # of prototypes' kinds


@dataclass(frozen=True)
class Job:
    """One side on one stream of one seed; `PEER` is all of Avalanche's."""

    stream: str
    seed: int
    side: str
    folder: Path


def carry_out(job: Job) -> dict[str, Found]:
    """What a job finds, by the side's name."""
    torch.set_num_threads(1)
    if job.side == PEER:
        try:
            return ask_avalanche(job.stream, job.seed, job.folder)
        except RuntimeError as error:  # ours are found all the same
            print(f"Avalanche is left out of {job.stream}, seed {job.seed}: {error}", flush=True)
            return {}
    stream = STREAMS[job.stream](job.seed, job.folder)
    if job.side == ANEW:
        return {ANEW: anew(stream, job.seed, each=job.stream == "history")}
    return {job.side: follow(stream, job.side, job.seed)}


def sides_of(stream: str, peer: bool, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """What is run on a stream, what takes longest first; of our strategies those wanted, or all."""
    if stream == "history":
        return (ANEW, *(wanted or ON_HISTORY))
    all_ours = (*STRATEGIES, SETTLED, ON_TEXTS if stream in TEXTS else ON_IMAGES)
    never = ON_IMAGES if stream in TEXTS else ""  # a text has no pixels to filter
    ours = [one for one in dict.fromkeys(wanted or all_ours) if one != never]
    return (*([PEER] if peer else []), ANEW, *ours)


def interval(values: Sequence[float], digits: int = 3) -> str:
    """Mean and half width of its 95 % interval."""
    sample = np.asarray(values)
    if len(sample) < 2:
        return f"{sample.mean():.{digits}f}        "
    half = student.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample))
    return f"{sample.mean():.{digits}f} ± {half:.{digits}f}"


def lines(found: Mapping[str, Sequence[Found]]) -> list[str]:
    """One line a strategy, the most accurate first and the full retrain above."""
    full = np.array([one.seconds[-1] for one in found[ANEW]])

    def place(name: str) -> float:
        return np.inf if name == ANEW else float(np.mean([one.accuracy for one in found[name]]))

    said = [f"{'strategy':18}  {'accuracy':13}  {'forgetting':14}  {'last update':>15}        kept"]
    for name in sorted(found, key=place, reverse=True):
        runs = found[name]
        lost = "" if name == ANEW else interval([one.forgetting for one in runs])
        last = np.array([one.seconds[-1] for one in runs])
        update = f"{last.mean():8.2f} s {np.mean(last / full):5.0%}"
        accuracy = interval([one.accuracy for one in runs])
        kept = f"{runs[0].kept / 1e3:9.1f} kB"
        said.append(f"{name:18}  {accuracy}  {lost:14}  {update}  {kept}")
    return said


def history(found: Mapping[str, Sequence[Found]]) -> list[str]:
    """One line for each length of the history: what an update costs, and accuracy over all."""
    names = [name for name in found if name != ANEW]
    said = [f"regimes  {ANEW:>22}" + "".join(f"  {name:>20}" for name in names)]
    for place in range(1, len(found[ANEW][0].seconds)):
        full = np.array([one.seconds[place] for one in found[ANEW]])
        best = np.mean([np.nanmean(one.matrix[place]) for one in found[ANEW]])
        line = f"{place + 1:7}  {full.mean():11.2f} s   {best:.3f}"
        for name in names:
            share = np.mean(np.array([one.seconds[place] for one in found[name]]) / full)
            right = np.mean([np.nanmean(one.matrix[place]) for one in found[name]])
            line += f"  {share:12.0%}   {right:.3f}"
        said.append(line)
    return said


def usable(streams: Sequence[str], folder: Path) -> list[str]:
    """The streams whose files are there; the others are named."""
    found = []
    for name in streams:
        if lacking := [file for file in NEEDS.get(name, ()) if not (folder / file).is_file()]:
            print(f"{name} is skipped: no {', '.join(lacking)} in {folder} (--data)", flush=True)
        elif name != "clinc-frozen" or made(name, partial(prepare, folder)):
            found.append(name)
    return found


def made(what: str, make: Callable[[], object]) -> bool:
    """Whether what needs an environment of its own is there, or could be made."""
    from benchmarks.environments import Missing  # what needs none runs without its world

    try:
        make()
    except Missing as reason:
        print(f"{what} is left out: {reason}", flush=True)
        return False
    return True


def make_peer() -> None:
    """Avalanche's environment."""
    from benchmarks.environments import python_of

    python_of(PEER)


def main() -> int:
    """Print a table for each stream."""
    parser = argparse.ArgumentParser(prog="benchmarks.continual")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--streams", nargs="+", choices=tuple(TITLES), default=tuple(TITLES))
    ours = (*STRATEGIES, SETTLED, *PROTOTYPES)
    parser.add_argument("--strategies", nargs="+", choices=ours, default=(), help="only these")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the public data")
    parser.add_argument("--no-peers", action="store_true", help="leave Avalanche out")
    given = parser.parse_args()
    began = time.monotonic()
    streams = usable(given.streams, given.data)
    peer = not given.no_peers and any(name != "history" for name in streams)
    peer = peer and made("Avalanche", make_peer)
    with ProcessPoolExecutor(given.processes) as pool:
        waiting: dict[str, list[Future[dict[str, Found]]]] = {
            name: [
                pool.submit(carry_out, Job(name, seed, side, given.data))
                for side in sides_of(name, peer, given.strategies)
                for seed in range(given.seeds)
            ]
            for name in streams
        }
        for name, futures in waiting.items():
            found: dict[str, list[Found]] = {}
            for future in futures:
                for side, one in future.result().items():
                    found.setdefault(side, []).append(one)
            print(f"\n{TITLES[name]}, {given.seeds} seed{'' if given.seeds == 1 else 's'}")
            print("\n".join(history(found) if name == "history" else lines(found)), flush=True)
    print(f"\n{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
