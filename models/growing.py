"""A model that takes up classes it never had: which ones, and a head with outputs for them.

Shapes: C classes known, K new, H inputs of the last layer.

The new classes stand after the known ones, so that what was stored as a class index (memory, frozen
rows, logged outputs) goes on meaning what it meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from homeostat.errors import LearnerError
from models.learner import Label

MARGIN = 2.0  # what the bias of a new class starts below the mean of the known ones


def new_classes(
    known: Mapping[str, Label], named: Sequence[tuple[str, Label]], least: int
) -> tuple[Label, ...]:
    """The classes to take up, in order: numbers by size, then text.

    Known classes decide the kind, as callers read it: whole numbers get whole numbers only, text
    gets text, and truth values get nothing.

    Args:
        known: The C classes by name.
        named: Labels with their names, as plain values.
        least: Labels that a class needs; fewer may be slips of the pen.
    """
    counts = Counter(name for name, _ in named)
    kinds = {type(label) for label in known.values()}
    found: dict[str, Label] = {}
    for name, label in named:
        if name in known or name in found or counts[name] < least:
            continue
        if kinds == {str}:
            found[name] = name
        elif kinds == {int}:
            if _is_whole(name):
                found[name] = int(name)
        elif kinds != {bool}:
            found[name] = label
    return tuple(sorted(found.values(), key=lambda value: (isinstance(value, str), value)))


def widen(module: nn.Module, fresh: nn.Module, known: int, now: int) -> nn.Module:
    """Give a fresh module with C + K outputs all that a module with C outputs has learnt.

    Weights of one shape are copied bit for bit, of the head the C known rows. A new row stays as
    it was drawn, with a bias `MARGIN` below the mean of the known ones: beside the greatest logit
    of a trained net it is low, so that old rows go on to be answered as before, and near enough
    to be learnt in few steps. (Rows that start as the mean of the known ones can never win, but
    are learnt slower, as all their logits are far below.)

    Args:
        module: Left as it is.
        fresh: Of the same build but for its outputs; it is written to and returned.
        known: C.
        now: C + K.

    Raises:
        LearnerError: the two differ in more than rows for the new classes.
    """
    before, after = module.state_dict(), fresh.state_dict()
    if set(before) != set(after):
        raise _unlike("they do not have the same weights")
    merged: dict[str, Tensor] = {}
    heads = 0
    for name, old in before.items():
        new = after[name]
        if new.shape == old.shape:
            merged[name] = old
        elif old.ndim and (len(old), len(new)) == (known, now) and old.shape[1:] == new.shape[1:]:
            merged[name] = torch.cat([old, _new_rows(old, new[known:])])
            heads += 1
        else:
            raise _unlike(f"'{name}' is {tuple(old.shape)} in one and {tuple(new.shape)}")
    if not heads:
        raise _unlike("no weight has a row for each class")
    fresh.load_state_dict(merged)
    return fresh


def _new_rows(old: Tensor, drawn: Tensor) -> Tensor:
    """Rows (K, ...) for a head's weight (C, H), or for its bias (C,)."""
    return drawn if old.ndim > 1 else (old.mean() - MARGIN).expand_as(drawn)


def _is_whole(name: str) -> bool:
    digits = name.removeprefix("-")
    return digits.isdecimal() and digits.isascii() and str(int(name)) == name


def _unlike(reason: str) -> LearnerError:
    return LearnerError(
        f"The module cannot be given more classes: {reason}.",
        remedy="Let `build` make a last layer with a row for each class, or override `grow`.",
    )
