"""Rows with their truths, ids and regimes: taken, joined, written and read back.

What is read back is checked as if an enemy had written it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from homeostat.errors import DataError
from models.learner import Examples
from models.stored import (
    MAX_JSON_BYTES,
    MAX_TENSOR_BYTES,
    canonical,
    parse_object,
    parse_tensors,
    read_bounded,
    refuse,
    tensor_bytes,
)

SCHEMA = 1


def whole(examples: Examples) -> Examples:
    """The same rows with an id and a regime each.

    Raises:
        DataError: the counts of rows, truths, ids and regimes differ.
    """
    count = len(examples)
    ids = examples.ids or ("",) * count
    regime = examples.regime if len(examples.regime) else torch.zeros(count, dtype=torch.int64)
    if not len(examples.y) == len(ids) == len(regime) == count:
        raise DataError(
            f"There are {count} rows, {len(examples.y)} truths, {len(ids)} ids and "
            f"{len(regime)} regimes.",
            remedy="Give one of each for every row.",
        )
    return Examples(examples.x, examples.y, ids, regime)


def take(examples: Examples, rows: Tensor) -> Examples:
    """The rows at these indices, in this order."""
    ids = tuple(examples.ids[row] for row in rows.tolist())
    return Examples(examples.x[rows], examples.y[rows], ids, examples.regime[rows])


def joined(one: Examples, other: Examples) -> Examples:
    """The rows of both, those of `one` first.

    Raises:
        DataError: they are of different shapes or kinds.
    """
    if one.x.shape[1:] != other.x.shape[1:] or one.y.dtype != other.y.dtype:
        raise DataError(
            f"Rows of {tuple(other.x.shape[1:])} columns with {other.y.dtype} truths do not go "
            f"with rows of {tuple(one.x.shape[1:])} and {one.y.dtype}.",
            remedy="Encode all rows with the same learner.",
        )
    return Examples(
        torch.cat([one.x, other.x]),
        torch.cat([one.y, other.y]),
        one.ids + other.ids,
        torch.cat([one.regime, other.regime]),
    )


def write_rows(folder: Path, name: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write NAME.safetensors and NAME.json."""
    (folder / f"{name}.safetensors").write_bytes(tensor_bytes(tensors))
    (folder / f"{name}.json").write_bytes(canonical(about))


def read_rows(
    folder: Path, name: str, wanted: set[str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_rows` wrote, holding exactly the wanted tensors.

    Raises:
        ArtifactError: the files are missing, too large or not such files.
    """
    about = read_about(folder, name)
    file = f"{name}.safetensors"
    tensors = parse_tensors(read_bounded(folder / file, MAX_TENSOR_BYTES), file)
    only(tensors, wanted, name)
    return tensors, about


def read_about(folder: Path, name: str) -> dict[str, Any]:
    """NAME.json, of this schema.

    Raises:
        ArtifactError: it is missing, too large or another file.
    """
    about = parse_object(read_bounded(folder / f"{name}.json", MAX_JSON_BYTES), f"{name}.json")
    if about.get("schema") != SCHEMA:
        raise refuse(f"{name}.json is not of schema {SCHEMA}.")
    return about


def only(tensors: dict[str, Tensor], wanted: set[str], name: str) -> None:
    """Refuse NAME.safetensors where it does not hold exactly the wanted tensors.

    Raises:
        ArtifactError: it does not.
    """
    if set(tensors) != wanted:
        raise refuse(f"{name}.safetensors holds {', '.join(sorted(tensors)) or 'nothing'}.")


def checked(tensors: dict[str, Tensor], ids: object, name: str) -> Examples:
    """Examples of read tensors `x`, `y` and `regime`, with their ids.

    Raises:
        ArtifactError: they do not fit one another.
    """
    x, y, regime = tensors["x"], tensors["y"], tensors["regime"]
    rows = len(x) if x.ndim else 0
    fits = x.ndim >= 2 and y.shape == regime.shape == (rows,)
    kinds = x.dtype in (torch.float32, torch.float64) and regime.dtype == torch.int64
    if not (fits and kinds and y.dtype in (torch.int64, torch.float32)):
        raise refuse(f"{name}.safetensors does not hold rows with their truths and regimes.")
    if not isinstance(ids, list) or len(ids) != rows or not all(isinstance(i, str) for i in ids):
        raise refuse(f"{name}.json has no id for each of the {rows} rows.")
    return Examples(x, y, tuple(ids), regime)
