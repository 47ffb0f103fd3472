"""Trainings under way: their checkpoints in the state folder, found again by their work's key.

    STATE/trainings/KEY/    the checkpoint of one piece of work (`models.checkpoint`)
        rows.json           of a retrain: the predictions whose rows it learns

A folder is removed when its work is done. What nobody came back to is removed after `FORGOTTEN`,
and beyond the newest `MOST` at once.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from homeostat.errors import SuspectArtifact
from models.checkpoint import Checkpoint, settled
from models.stored import MAX_JSON_BYTES, canonical, parse_object, read_bounded

FOLDER = "trainings"
FORGOTTEN = 2 * 86_400.0  # seconds
MOST = 8
_ROWS = "rows.json"


@dataclass(frozen=True)
class Training:
    """One piece of work that trains.

    Args:
        folder: Its own.
    """

    folder: Path

    def checkpoint(self) -> Checkpoint:
        """Its checkpoint, for one process."""
        return Checkpoint(self.folder)

    def keep_rows(self, ids: Sequence[str], held_back: int) -> None:
        """Keep which rows it learns, so that it goes on with the very same ones.

        Raises:
            OSError: the disk is full or gone.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {"schema": 1, "ids": list(ids), "held_back": held_back}
        settled(self.folder / _ROWS, canonical(about))

    def rows(self) -> tuple[tuple[str, ...], int]:
        """The predictions whose rows an earlier process began to learn, and how many it left out.

        None where there was no such process.
        """
        if not (self.folder / _ROWS).exists():
            return (), 0
        try:
            about = parse_object(read_bounded(self.folder / _ROWS, MAX_JSON_BYTES), _ROWS)
        except SuspectArtifact:
            return (), 0
        ids, held = about.get("ids"), about.get("held_back")
        if not isinstance(ids, list) or not isinstance(held, int):
            return (), 0
        return tuple(map(str, ids)), held

    def end(self) -> None:
        """The work is done: its checkpoint goes."""
        self.checkpoint().clear()


def under(state_dir: Path, key: str) -> Training:
    """The training of this key; what was forgotten meanwhile is removed.

    Args:
        state_dir: Of the installation.
        key: Of the work, as `flows.work` makes it.
    """
    root = state_dir / FOLDER
    _sweep(root, keep=key, now=time.time())
    return Training(root / key)


def _sweep(root: Path, keep: str, now: float) -> None:
    if not root.is_dir():
        return
    others = [path for path in root.iterdir() if path.name != keep and path.is_dir()]
    aged = sorted(((_age(path, now), path) for path in others), key=lambda each: each[0])
    for place, (age, path) in enumerate(aged, start=1):
        if age > FORGOTTEN or place >= MOST:
            shutil.rmtree(path, ignore_errors=True)


def _age(path: Path, now: float) -> float:
    """Seconds since something was kept there; one that is going just now is as old as can be."""
    try:
        return now - path.stat().st_mtime
    except OSError:
        return FORGOTTEN
