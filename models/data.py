"""Data sets from files, and a split that never changes its mind about a row."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homeostat.errors import DataError
from models.learner import Label, Row
from models.stdlib import USUAL, windows

if TYPE_CHECKING:
    import pandas as pd

BUILTIN_DIGITS = "builtin:digits"
BUILTIN_STDLIB = "builtin:stdlib"
REPEATS = 10  # rows of each content, on average, where rows repeat themselves
NEW = 0.05  # share of rows whose content is new, at most, there
_FORMATS = {".csv": "CSV", ".parquet": "Parquet", ".pq": "Parquet"}


@dataclass(frozen=True)
class Dataset:
    """Rows with their labels, as JSON carries them.

    Args:
        rows: Of a file each an object of its columns without the label; None is missing.
        labels: The truth of each row.
        digest: SHA-256 of rows and labels in their order, whatever file they came from.
        unlabelled: Rows of the source that were left out for want of a label.
    """

    rows: tuple[Row, ...]
    labels: tuple[Label, ...]
    digest: str
    unlabelled: int = 0

    @classmethod
    def of(cls, rows: Sequence[Row], labels: Sequence[Label], unlabelled: int = 0) -> Dataset:
        """A data set with its digest."""
        content = hashlib.sha256()
        for row, label in zip(rows, labels, strict=True):
            content.update(json.dumps([row, label], sort_keys=True).encode())
            content.update(b"\n")
        return cls(tuple(rows), tuple(labels), content.hexdigest(), unlabelled)

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, places: Sequence[int]) -> Dataset:
        """The rows of these places."""
        return Dataset.of([self.rows[one] for one in places], [self.labels[one] for one in places])


def read_dataset(source: str, label: str) -> Dataset:
    """Read a data set.

    Args:
        source: `builtin:digits`, `builtin:stdlib/json,email` (the source of these packages), or
            the path of a Parquet or CSV file.
        label: The column that holds the truth; of no meaning for a built-in.

    Raises:
        DataError: there is no such file, it cannot be read, it lacks the label column or a
            labelled row, or a column holds what JSON cannot carry.
    """
    if source == BUILTIN_DIGITS:
        return _digits()
    name, _, packages = source.partition("/")
    if name == BUILTIN_STDLIB:
        return Dataset.of(*windows((packages or USUAL).split(",")))
    if source.startswith("builtin:"):
        remedy = f"Use '{BUILTIN_DIGITS}', or '{BUILTIN_STDLIB}/PACKAGE'."
        raise DataError(f"There is no data set '{source}'.", remedy=remedy)
    path = Path(source)
    frame = _read_frame(path)
    present = [str(name) for name in frame.columns]
    if label not in present:
        raise DataError(
            f"{path.name} has no column '{label}'; its columns are {', '.join(present)}.",
            remedy="Name the column that holds the truth as the policy's `label`.",
            columns=present,
        )
    columns = {name: _plain_column(path, frame.iloc[:, at]) for at, name in enumerate(present)}
    truths = columns.pop(label)
    kept = [index for index, truth in enumerate(truths) if truth is not None]
    if not kept:
        raise DataError(
            f"{path.name} has {len(truths)} rows and no value in its label column '{label}'.",
            remedy="Give a file with labelled rows.",
        )
    if not columns:
        raise DataError(
            f"{path.name} has no column but the label '{label}'.",
            remedy="Give the columns to predict from.",
        )
    rows = [{name: values[index] for name, values in columns.items()} for index in kept]
    return Dataset.of(rows, [truths[index] for index in kept], len(truths) - len(kept))


def split(dataset: Dataset, holdout: float, seed: int) -> tuple[Dataset, Dataset]:
    """Split into rows to train on and rows held out.

    As `sides` says.

    Args:
        dataset: Two rows or more, the oldest first where they have an order.
        holdout: The chance of a row to be held out, between 0 and 1.
        seed: Another seed, another split.

    Returns:
        (train, held out), each in the order of the data set.

    Raises:
        DataError: fewer than two different rows.
    """
    train, held = sides(dataset.rows, holdout, seed)
    return dataset.part(train), dataset.part(held)


def sides(rows: Sequence[Row], holdout: float, seed: int) -> tuple[list[int], list[int]]:
    """The places of the rows to train on, and of those held out.

    A row's side depends on its content, `holdout` and the seed alone: equal rows never stand
    on both sides, and rows that are added later do not move the others. So the share held out
    is `holdout` on average; neither side is empty.

    Except where rows repeat themselves so much that hardly any to come has a new content: to judge
    by contents that nobody has learnt would be to judge by what does not come. There the side also
    depends on how many equal rows came before, so that equal rows stand on both.

    Args:
        rows: As of `split`.
        holdout: As of `split`.
        seed: As of `split`.

    Raises:
        DataError: fewer than two different rows.
    """
    contents = [_content(row) for row in rows]
    if (different := len(set(contents))) < 2:
        raise DataError(
            f"The data has {different} different rows, too few to hold any out.",
            remedy="Give at least two different rows.",
        )
    apart = _numbered(contents) if _is_repeating(contents) else contents
    draws = [_draw(content, seed) for content in apart]
    # The lowest draw is always held out and the highest never, so that neither side is empty.
    low, high = min(draws), max(draws)
    held = [draw == low or (draw < holdout and draw != high) for draw in draws]
    train = [index for index, out in enumerate(held) if not out]
    return train, [index for index, out in enumerate(held) if out]


def _content(row: Row) -> str:
    return json.dumps(row, sort_keys=True)


def _numbered(contents: Sequence[str]) -> list[str]:
    """Each content with the number of equal ones before it."""
    seen: Counter[str] = Counter()
    found = []
    for content in contents:
        found.append(f"{content} {seen[content]}")
        seen[content] += 1
    return found


def _is_repeating(contents: Sequence[str]) -> bool:
    """Whether of the rows to come at most `NEW` have a content that none before had.

    The newer half of the rows is that future to the older one: of n rows with k new contents the
    share is at most (k + 3) / n, but for one case in twenty (the rule of three, Hanley and
    Lippman-Hand 1983). Rows that stand a few times in the data by mistake are no such rows.
    """
    half = len(contents) // 2
    known = set(contents[:half])
    if len(contents) < REPEATS * len(known):
        return False
    new = sum(content not in known for content in contents[half:])
    return new + 3 <= NEW * (len(contents) - half)


def _draw(content: str, seed: int) -> float:
    """A number in [0, 1) from the content of a row."""
    content = f"[{seed}, {content}]"
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=7).digest(), "big") / 2**56


def _digits() -> Dataset:
    # scikit-learn takes a second to import, and only this data set needs it.
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    return Dataset.of(images.tolist(), digits.tolist())


def _read_frame(path: Path) -> pd.DataFrame:
    import pandas as pd  # half a second to import, which the gateway need not spend

    if not path.exists():
        raise DataError(f"There is no file {path}.", remedy="Mend the path in the policy's `data`.")
    if not path.is_file():
        raise DataError(f"{path} is not a file.", remedy="Name one Parquet or CSV file.")
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        raise DataError(
            f"{path.name} is neither CSV nor Parquet by its name.",
            remedy=f"Use one of {', '.join(_FORMATS)}.",
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty.", remedy="Give a file with labelled rows.")
    read = pd.read_csv if form == "CSV" else pd.read_parquet
    try:
        frame = read(path, dtype_backend="numpy_nullable")
    except (ValueError, OSError, pd.errors.ParserError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path.name} cannot be read as {form}: {reason}.",
            remedy=f"Write it anew as {form}.",
        ) from error
    if frame.empty:
        raise DataError(
            f"{path.name} has no row; its columns are {', '.join(map(str, frame.columns))}.",
            remedy="Give a file with labelled rows.",
        )
    return frame


def _plain_column(path: Path, column: pd.Series[Any]) -> list[Any]:
    """A column as JSON values, None where one is missing."""
    return [_plain(path, str(column.name), value) for value in column.tolist()]


def _plain(path: Path, name: str, value: object) -> object:
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if hasattr(value, "tolist"):  # a list of numbers: pandas gives it as an array
        return value.tolist()
    if isinstance(value, list):
        return value
    kind = type(value).__name__
    if value is None or kind in {"NAType", "NaTType"}:
        return None
    raise DataError(
        f"The column '{name}' of {path.name} holds {kind}, which a JSON row cannot carry.",
        remedy="Turn the column into numbers or text, or leave it out.",
        column=name,
    )
