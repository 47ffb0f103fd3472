"""NannyML's CBPE over the windows of the estimate benchmark, in NannyML's own environment.

    python -m benchmarks.peers.nannyml_estimate DATA.npz

DATA has, for R runs with S windows of M rows: `reference` (R, N) probabilities of class 1, `truths`
(R, N), `windows` (R, S, M) probabilities. Prints as JSON, for each run and window, the estimated
accuracy and the ends of NannyML's confidence band, (R, S, 3).
"""

from __future__ import annotations

import json
import sys
import warnings

import nannyml
import numpy as np
import pandas as pd
from numpy.typing import NDArray


def frame(chances: NDArray[np.float64]) -> pd.DataFrame:
    """What CBPE reads of (n,) probabilities."""
    return pd.DataFrame({"chance": chances, "class": (chances > 0.5).astype(int)})


def estimated(
    reference: NDArray[np.float64], truths: NDArray[np.int64], windows: NDArray[np.float64]
) -> list[list[float]]:
    """Accuracy of each window (S, M), with the band's ends."""
    known = frame(reference)
    known["truth"] = truths
    judge = nannyml.CBPE(
        problem_type="classification_binary",
        y_pred="class",
        y_pred_proba="chance",
        y_true="truth",
        metrics=["accuracy"],
        chunk_size=windows.shape[1],
    ).fit(known)
    found = judge.estimate(frame(windows.ravel())).filter(period="analysis").to_df()["accuracy"]
    ends = ("value", "lower_confidence_boundary", "upper_confidence_boundary")
    return [[float(one) for one in row] for row in found[list(ends)].to_numpy()]


def main() -> None:
    """Answer for every run."""
    warnings.simplefilter("ignore")
    with np.load(sys.argv[1]) as data:
        parts = [data["reference"], data["truths"], data["windows"]]
    print(json.dumps([estimated(*one) for one in zip(*parts, strict=True)]))


if __name__ == "__main__":
    main()
