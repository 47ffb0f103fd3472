"""The batch reports of Evidently, for a person who looks closer after an alarm."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from homeostat.errors import DataError
from homeostat.schema import Feature

if TYPE_CHECKING:
    import pandas as pd

ROWS = 20_000  # of either side; beyond, a sample: 100,000 rows take longer and say no more
TARGET, PREDICTION = "target", "prediction"  # columns that the last two presets need
_SEED = 0

Preset = Literal["drift", "quality", "classification", "regression"]


@dataclass(frozen=True)
class BatchReport:
    """What a report covers.

    Args:
        path: The HTML file.
        features: The columns it shows.
        left_out: Columns without a single value on one side, which Evidently cannot take.
        rows_current: Current rows used.
        rows_reference: Reference rows used.
        sampled: Whether either side was cut to `ROWS`.
    """

    path: Path
    features: tuple[str, ...]
    left_out: tuple[str, ...]
    rows_current: int
    rows_reference: int
    sampled: bool


def batch_report(
    current: pd.DataFrame,
    reference: pd.DataFrame,
    features: Sequence[Feature],
    path: str | os.PathLike[str],
    preset: Preset = "drift",
    about: str = "",
) -> BatchReport:
    """Write one of Evidently's reports as one HTML file; nothing is sent anywhere.

    It explains; it decides nothing. Its verdicts depend on the number of rows and are not held
    to the false-alarm budget of `InputDetector`.

    Args:
        current: Recent rows, a column for each feature.
        reference: Rows to compare with, the same columns.
        features: The columns to show, and their kinds.
        path: Where the file goes; its folder is made.
        preset: Drift of the columns, their quality, or how well the column `prediction` meets the
            column `target`: classes as text, or values.
        about: What is compared, for the head of the page.

    Raises:
        DataError: a missing column, or nothing to compare.
    """
    for side, frame in (("current", current), ("reference", reference)):
        judged = (TARGET, PREDICTION) if preset in ("classification", "regression") else ()
        names = [*(feature.name for feature in features), *judged]
        missing = [name for name in names if name not in frame.columns]
        if missing:
            raise DataError(f"The {side} rows lack the column '{missing[0]}'.")
    shown = [f for f in features if current[f.name].count() and reference[f.name].count()]
    left_out = tuple(feature.name for feature in features if feature not in shown)
    if not shown:
        raise DataError("There is nothing to compare: no column has values on both sides.")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    now, then = _sample(current), _sample(reference)
    _save(now, then, shown, target, preset)
    sampled = len(now) < len(current) or len(then) < len(reference)
    note = (f"{about}: " if about else "") + (
        f"{len(now):,} of {len(current):,} current rows against {len(then):,} of "
        f"{len(reference):,} reference rows" + (", sampled at random." if sampled else ".")
    )
    if left_out:
        note += f" Left out, without values on one side: {', '.join(left_out)}."
    _say(target, note)
    return BatchReport(
        target, tuple(feature.name for feature in shown), left_out, len(now), len(then), sampled
    )


def _sample(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sample(ROWS, random_state=_SEED) if len(frame) > ROWS else frame


def _save(
    current: pd.DataFrame,
    reference: pd.DataFrame,
    features: Sequence[Feature],
    path: Path,
    preset: Preset,
) -> None:
    # Read by Evidently at its import; no call of ours may phone home whatever the shell says.
    os.environ["DO_NOT_TRACK"] = "1"
    import pandas as pd
    from evidently import (
        DataDefinition,
        Dataset,
        Regression,
        Report,
    )
    from evidently.presets import (
        ClassificationPreset,
        DataDriftPreset,
        DataSummaryPreset,
        RegressionPreset,
    )

    presets = {
        "drift": DataDriftPreset,
        "quality": DataSummaryPreset,
        "classification": ClassificationPreset,
        "regression": RegressionPreset,
    }
    numeric = [feature.name for feature in features if feature.kind == "numeric"]
    categorical = [feature.name for feature in features if feature.kind == "categorical"]
    judged: dict[str, Any] = {}
    if preset == "classification":
        known = {str(one) for side in (current, reference) for one in pd.unique(side[TARGET])}
        said = {str(one) for side in (current, reference) for one in pd.unique(side[PREDICTION])}
        judged["classification"] = [_classes(sorted(known | said))]
    if preset == "regression":
        judged["regression"] = [Regression(target=TARGET, prediction=PREDICTION)]
    definition = DataDefinition(
        numerical_columns=numeric, categorical_columns=categorical, **judged
    )
    columns = list(
        dict.fromkeys([*numeric, *categorical, *([TARGET, PREDICTION] if judged else [])])
    )
    texts = [*categorical, *([TARGET, PREDICTION] if preset == "classification" else [])]
    sides = []
    for frame in (current, reference):
        chosen = frame[columns].copy()
        chosen[texts] = chosen[texts].astype(str)
        sides.append(Dataset.from_pandas(chosen, data_definition=definition))
    Report([presets[preset]()], include_tests=True).run(*sides).save_html(str(path))


def _classes(labels: Sequence[str]) -> object:
    """How Evidently is told of classes: of two it has to know which is the positive one."""
    from evidently import BinaryClassification, MulticlassClassification

    if len(labels) == 2:
        return BinaryClassification(
            target=TARGET, prediction_labels=PREDICTION, pos_label=labels[-1]
        )
    return MulticlassClassification(target=TARGET, prediction_labels=PREDICTION)


def _say(path: Path, note: str) -> None:
    """Put a line at the top of the page."""
    style = "font: 14px system-ui, sans-serif; padding: 8px 16px; background: #fff3cd; color: #111"
    banner = f'<div role="note" style="{style}">Homeostat: {html.escape(note)}</div>'
    page = path.read_text(encoding="utf-8")
    start = page.find("<body")
    end = page.find(">", start) + 1 if start >= 0 else 0
    path.write_text(page[:end] + banner + page[end:], encoding="utf-8")
