"""Accuracy without labels: how far off, and does the stated interval cover? Beside NannyML's CBPE.

    python -m benchmarks.estimate [--runs 40] [--reference 3000] [--window 2000]

Each run draws a world, trains a model on 3,000 rows, profiles it on held-out ones, and estimates
the accuracy of one window under each shift; the truth is that of the window's own labels. Two
models: a logistic regression, which is wrong about part of the world, and gradient boosting. The
last shift changes the concept: nothing sees that without labels. Seeded: a second run prints the
same. NannyML runs in an environment of its own; if it cannot be installed, a plain CBPE (isotonic
calibration, then the mean) stands in its place and says so.

Exit code 1 if an interval covers less than 0.85 of the windows of a shift of the inputs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from benchmarks.environments import Missing, said_by
from homeostat.schema import Feature
from monitoring import Profile

Floats = NDArray[np.float64]

FEATURES = [Feature(f"x{i}") for i in range(5)]
CONCEPT = "concept changed"
# How far the five features move and by what they are stretched.
SHIFTS: dict[str, tuple[list[float], list[float]]] = {
    "none": ([0.0] * 5, [1.0] * 5),
    "one mean": ([0.7, 0, 0, 0, 0], [1.0] * 5),
    "all means": ([0.5] * 5, [1.0] * 5),
    "all wider": ([0.0] * 5, [1.5] * 5),
    "easier rows": ([1.5, -1.0, 0, 0, 0], [1.0] * 5),
    "harder rows": ([0.0] * 5, [0.3, 0.3, 1, 1, 1]),
    "a rare region": ([0, 0, 1.5, 0, 0], [1.0] * 5),
    "two rare regions": ([0, 0, 1.0, 1.5, 0], [1.0] * 5),
    CONCEPT: ([0.0] * 5, [1.0] * 5),
}
_MIXING = np.linalg.cholesky(
    [[1, 0.3, 0.2, 0, 0], [0.3, 1, 0.1, 0, 0], [0.2, 0.1, 1, 0.3, 0], [0, 0, 0.3, 1, 0.2],
     [0, 0, 0, 0.2, 1]]
).T  # fmt: skip
LEAST_COVER = 0.85
PEER_SECONDS = 1_200


def rows(rng: np.random.Generator, count: int, shift: str) -> Floats:
    """(count, 5) correlated rows."""
    move, stretch = SHIFTS[shift]
    return np.asarray(rng.normal(size=(count, 5)) @ _MIXING * stretch + move)


def truths(rng: np.random.Generator, x: Floats, shift: str = "none") -> NDArray[np.int64]:
    """(N,) 0 or 1. For large x2 the sign of x0 counts against the class; x3 counts squared."""
    push = 1.5 * x[:, 0] - x[:, 1] + 0.5 * x[:, 3] ** 2 - 0.5
    push -= 4.0 * np.maximum(x[:, 2] - 0.7, 0.0) * np.sign(x[:, 0])
    if shift == CONCEPT:
        push = push * np.where(x[:, 0] > 0, 1.0, -0.5)
    return np.asarray(rng.random(len(x)) < 1.0 / (1.0 + np.exp(-push)), dtype=np.int64)


def run(model: str, seed: int, reference: int, window: int) -> dict[str, list[Floats]]:
    """One world: what each side needs, by name, in the order of the shifts."""
    rng = np.random.default_rng([seed, reference, window])
    boosting = HistGradientBoostingClassifier(max_iter=40, random_state=seed)
    learner = LogisticRegression() if model == "logistic" else boosting
    taught = rows(rng, 3_000, "none")
    learner.fit(taught, truths(rng, taught))

    def chances(x: Floats) -> Floats:
        return np.asarray(learner.predict_proba(x)[:, 1], dtype=np.float64)

    held = rows(rng, reference, "none")
    known, chance = truths(rng, held), chances(held)
    profile = Profile.from_reference(
        FEATURES, "classification", held, *seen(chance), ((chance > 0.5) != known).astype(float)
    )
    isotonic = IsotonicRegression(out_of_bounds="clip").fit(chance, known)
    found: dict[str, list[Floats]] = {"reference": [chance], "truths": [known.astype(float)]}
    for shift in SHIFTS:
        x = rows(rng, window, shift)
        chance = chances(x)
        said = profile.estimate(profile.counts(x, *seen(chance)))
        ours = said.accuracy or (np.nan,) * 3
        right = isotonic.predict(chance)
        plain = float(np.where(chance > 0.5, right, 1.0 - right).mean())
        found.setdefault("windows", []).append(chance)
        found.setdefault("ours", []).append(np.array([ours[1], ours[0], ours[2]]))
        found.setdefault("plain", []).append(np.array([plain, np.nan, np.nan]))
        accuracy = ((chance > 0.5) == truths(rng, x, shift)).mean()
        found.setdefault("accuracy", []).append(np.array([accuracy]))
    return found


def seen(chance: Floats) -> tuple[Floats, Floats]:
    """Classes and confidence of probabilities of class 1."""
    return (chance > 0.5).astype(float), np.maximum(chance, 1.0 - chance)


def ask_nannyml(runs: list[dict[str, list[Floats]]]) -> Floats:
    """NannyML's answers, (R, S, 3).

    Raises:
        Missing: it cannot be installed.
    """
    with tempfile.TemporaryDirectory(prefix="estimate-") as folder:
        data = Path(folder) / "data.npz"
        np.savez(
            data,
            reference=np.array([one["reference"][0] for one in runs]),
            truths=np.array([one["truths"][0] for one in runs]).astype(np.int64),
            windows=np.array([one["windows"] for one in runs]),
        )
        said = said_by("nannyml", "nannyml_estimate", str(data), seconds=PEER_SECONDS)
    return np.array(json.loads(said))


def main() -> int:
    """Run both models and print their tables."""
    parser = argparse.ArgumentParser(prog="benchmarks.estimate")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--reference", type=int, default=3_000)
    parser.add_argument("--window", type=int, default=2_000)
    given = parser.parse_args()
    began, worst = time.monotonic(), 1.0
    for model in ("logistic", "boosting"):
        runs = [run(model, seed, given.reference, given.window) for seed in range(given.runs)]
        try:
            peer, name = ask_nannyml(runs), "NannyML CBPE"
        except Missing as reason:
            print(f"NannyML is left out, plain CBPE stands in: {reason}")
            peer, name = np.array([one["plain"] for one in runs]), "plain CBPE"
        worst = min(worst, table(model, runs, peer, name))
    print(f"\n{time.monotonic() - began:.0f} s; least cover of ours, concept aside: {worst:.2f}")
    return 0 if worst >= LEAST_COVER else 1


def table(model: str, runs: list[dict[str, list[Floats]]], peer: Floats, name: str) -> float:
    """Print one model's table; the least share of windows that our interval covers."""
    ours = np.array([one["ours"] for one in runs])
    truth = np.array([one["accuracy"] for one in runs])[..., 0]
    still = np.array([((one["reference"][0] > 0.5) == one["truths"][0]).mean() for one in runs])
    print(f"\n{model}: mean absolute error of the estimated accuracy, {len(runs)} runs")
    print(f"shift               constant  {name:>13}    ours  covered  width  not est.  its band")
    least, kept = 1.0, []
    for place, shift in enumerate(SHIFTS):
        true, own, other = truth[:, place], ours[:, place], peer[:, place]
        there = np.isfinite(own[:, 0])
        cover = covered(own[there], true[there])
        constant, theirs = np.abs(still - true).mean(), np.abs(other[:, 0] - true).mean()
        mine = np.abs(own[there, 0] - true[there]).mean()
        width = (own[there, 2] - own[there, 1]).mean()
        print(
            f"{shift:18} {constant:9.4f}  {theirs:13.4f} {mine:7.4f} {cover:8.2f} {width:6.3f}"
            f" {1 - there.mean():9.2f} {covered(other, true):16.2f}"
        )
        if shift != CONCEPT:
            least = min(least, cover)
            kept.append((constant, theirs, mine))
    constant, theirs, mine = np.mean(kept, axis=0)
    print(f"{'mean of the others':18} {constant:9.4f}  {theirs:13.4f} {mine:7.4f}")
    return least


def covered(said: Floats, true: Floats) -> float:
    """The share of truths (R,) that lie in the intervals of (R, 3); NaN: there are none."""
    if not np.isfinite(said[:, 1]).all():
        return float("nan")
    return float(((said[:, 1] <= true) & (true <= said[:, 2])).mean())


if __name__ == "__main__":
    sys.exit(main())
