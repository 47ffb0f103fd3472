"""Rows of the log that lie beside versions: replay memories and frozen held-out rows.

Each run of a model in MLflow holds a folder `replay/`, sealed by a manifest of its own, whether a
version was made of it or not; gateways keep copies of those that have a role. Encoded rows have no
names, so they are known by the ids of their predictions; rows of a data set have none. Taking rows
out writes the folder anew, in MLflow and on this disk, and seals it again: the digest of a version
is that of its `model/`, and does not change.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from homeostat.errors import ArtifactError, DataError
from registry.cache import MANIFEST, ArtifactCache
from registry.custody import MODEL, Pins, download_of, list_files
from registry.mlflow_api import MlflowRefused
from registry.version_info import DIGEST_TAG
from registry.versions import MlflowVersions

REPLAY = "replay"
LEARNT_FILE, GOLDEN_FILE = "rows.json", "golden.json"
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
_OURS = {"memory.json", "memory.safetensors", "regimes.json", "regimes.safetensors", MANIFEST}
_ANY = "0" * 64  # a name for what is kept for a moment only

IsOf = Callable[[object], bool]  # whether a row as JSON carried it is the subject's


@dataclass(frozen=True)
class Run:
    """A run of MLflow that may hold rows of a model; `digest` is of its `model/`."""

    id: str
    digest: str
    versions: tuple[int, ...]

    @property
    def name(self) -> str:
        """As people know it."""
        numbers = " and ".join(map(str, self.versions))
        return f"version {numbers}" if numbers else f"the run {self.id}, of which no version is"


@dataclass(frozen=True)
class Holding:
    """What a run holds of some predictions.

    Args:
        run: Which one.
        memory: Rows of the replay memory.
        snapshots: Frozen held-out rows.
        copies: Rows of both in the copy on this disk.
        golden: Golden rows: a part of the sealed model, which cannot be taken out of it.
        unnamed: Rows without an id: of a data set.
        learnt: Whether the predictions are among those that it was made from.
        trouble: Why it could not be looked at, or cleaned; empty: it could.
    """

    run: Run
    memory: int = 0
    snapshots: int = 0
    copies: int = 0
    golden: int = 0
    unnamed: int = 0
    learnt: bool = False
    trouble: str = ""

    @property
    def rows(self) -> int:
        """Rows that `clean` can take out."""
        return self.memory + self.snapshots + self.copies

    @property
    def seen(self) -> bool:
        """Whether it was made from, or judged by, any of them."""
        return self.learnt or self.rows + self.golden > 0


def runs_of(store: MlflowVersions, model: str) -> list[Run]:
    """The runs of a model's experiment, deleted ones too, and those of its versions.

    Raises:
        Unavailable: MLflow is away.
    """
    versions: dict[str, list[int]] = {}
    digests: dict[str, str] = {}
    for info in store.list_versions(model):
        versions.setdefault(info.run_id, []).append(info.version)
        digests[info.run_id] = info.digest or ""
    for run in _experiment_runs(store, model):
        tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
        digests.setdefault(str(run["info"]["run_id"]), tags.get(DIGEST_TAG, ""))
    runs = [Run(key, digest, tuple(versions.get(key, ()))) for key, digest in digests.items()]
    return sorted(runs, key=lambda run: (run.versions or (2**31,), run.id))


def look(
    store: MlflowVersions, cache: ArtifactCache, run: Run, ids: Collection[str], is_of: IsOf
) -> Holding:
    """What a run, and its copy on this disk, hold of some predictions; read, not remembered.

    Raises:
        Unavailable: MLflow is away.
    """
    found = Holding(run)
    try:
        if run.digest and (copy := cache.find(run.digest, REPLAY)) is not None:
            found = replace(found, copies=sum(_count(copy, ids)[:2]))
        parts = {Path(each["path"]).name for each in list_files(store.api, run.id, "")}
        if MODEL in parts:
            found = replace(found, golden=_golden(store, run, is_of))
        if LEARNT_FILE in parts:
            content = store.api.download(run.id, LEARNT_FILE, MAX_DOCUMENT_BYTES)
            learnt = json.loads(content).get("ids") or []
            found = replace(found, learnt=not set(ids).isdisjoint(learnt))
        if REPLAY in parts:
            with tempfile.TemporaryDirectory() as place:
                folder = ArtifactCache(Path(place)).store(
                    run.digest or _ANY, REPLAY, download_of(store.api, run.id, REPLAY)
                )
                memory, frozen, unnamed = _count(folder, ids)
            found = replace(found, memory=memory, snapshots=frozen, unnamed=unnamed)
    except (ArtifactError, MlflowRefused, ValueError, AttributeError) as error:
        return replace(found, trouble=f"It cannot be read: {' '.join(str(error).split())}")
    return found


def clean(
    store: MlflowVersions, cache: ArtifactCache, run: Run, ids: Collection[str]
) -> tuple[str, str]:
    """Take predictions out of a run's memory and frozen rows, in MLflow and on this disk.

    The copy on this disk is written last: a clean that was cut off starts from it again.

    Returns:
        The new seal of the folder; and why nothing was written, or empty.

    Raises:
        Unavailable: MLflow is away.
    """
    with tempfile.TemporaryDirectory() as place:
        try:
            source = cache.find(run.digest, REPLAY) if run.digest else None
            if source is None:
                source = ArtifactCache(Path(place)).store(
                    run.digest or _ANY, REPLAY, download_of(store.api, run.id, REPLAY)
                )
            files, seal = _without(source, Path(place) / "clean", ids)
            told = store.api.get("runs/get", run_id=run.id)["run"]
        except (ArtifactError, DataError, MlflowRefused) as error:
            return "", f"It cannot be cleaned: {' '.join(str(error).split())}"
    manifest = files.pop(MANIFEST)
    store.api.upload(told, {f"{REPLAY}/{name}": each for name, each in files.items()})
    store.api.upload(told, {f"{REPLAY}/{MANIFEST}": manifest})
    if run.digest and cache.seal(run.digest, REPLAY) is not None:
        whole = {**files, MANIFEST: manifest}
        cache.renew(run.digest, REPLAY, lambda name, _: whole[name], seal)
        _seal_pins(cache, run.digest, seal)
    return seal, ""


def _without(source: Path, target: Path, ids: Collection[str]) -> tuple[dict[str, bytes], str]:
    """The files of a replay folder without the rows of these predictions, and its new seal."""
    from models.artifact import write_manifest  # torch comes with it: only who needs it pays
    from models.memory import Memory
    from models.regimes import Regimes

    if strange := {path.name for path in source.iterdir()} - _OURS:
        raise ArtifactError(
            f"{REPLAY} holds {', '.join(sorted(strange))}, which nobody here wrote.",
            remedy="Take the rows out by hand.",
        )
    memory, regimes = Memory.load(source), Regimes.load(source)
    memory.forget(ids)
    regimes.forget(ids)
    memory.save(target)
    regimes.save(target)
    seal = write_manifest(target)
    return {path.name: path.read_bytes() for path in target.iterdir()}, seal


def _count(folder: Path, ids: Collection[str]) -> tuple[int, int, int]:
    """Rows of some predictions in the memory and in the frozen rows; and rows without an id."""
    from models.memory import Memory
    from models.regimes import Regimes

    memory, frozen = Memory.load(folder).ids, Regimes.load(folder).ids
    named = set(ids) - {""}
    counts = (sum(one in named for one in memory), sum(one in named for one in frozen))
    return *counts, sum(not one for one in (*memory, *frozen))


def _golden(store: MlflowVersions, run: Run, is_of: IsOf) -> int:
    """How many of a version's golden rows are the subject's: known by what they are."""
    model = {Path(each["path"]).name for each in list_files(store.api, run.id, MODEL)}
    if GOLDEN_FILE not in model:
        return 0
    path = f"{MODEL}/{GOLDEN_FILE}"
    rows = json.loads(store.api.download(run.id, path, MAX_DOCUMENT_BYTES)).get("rows") or []
    return sum(is_of(row) for row in rows)


def _experiment_runs(store: MlflowVersions, model: str) -> list[Mapping[str, Any]]:
    try:
        found = store.api.get("experiments/get-by-name", experiment_name=model)["experiment"]
    except MlflowRefused as error:
        if error.missing:
            return []
        raise
    query = {"experiment_ids": [found["experiment_id"]], "run_view_type": "ALL"}
    runs: list[Mapping[str, Any]] = []
    token = ""
    while True:
        body = {**query, "max_results": 1000} | ({"page_token": token} if token else {})
        answer = store.api.post("runs/search", body)
        runs += answer.get("runs", [])
        if not (token := answer.get("next_page_token", "")):
            return runs


def _seal_pins(cache: ArtifactCache, digest: str, seal: str) -> None:
    """Let the pins of a version hold the folder as it is now."""
    pins = Pins(cache)
    for model in {model for (model, _), known in cache.names().items() if known == digest}:
        for pin in pins.of(model):
            if pin.digest == digest and REPLAY in pin.seals:
                pins.keep(msgspec.structs.replace(pin, seals=pin.seals | {REPLAY: seal}))
