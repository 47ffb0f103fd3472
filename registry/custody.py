"""Custody: the versions that have a role are pinned on this disk, whole.

    CACHE/pins/MODEL/N.json   what version N of MODEL is kept for, and the seal of each part

Whole means all that it takes to register the version again where MLflow lost it: `model`, the
other sealed folders of its run (`replay`), and its papers: the run's other files with its
parameters, figures, tags and description. A seal is the SHA-256 of a part's manifest, so a pin
holds every byte of every part. A version keeps its pin when it loses its role, without one, until
nobody needs its copies any more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from homeostat.errors import ArtifactError, UnknownVersion
from registry.cache import MANIFEST, ArtifactCache, Download, is_plain, write_whole
from registry.json_text import canonical
from registry.mlflow_api import MlflowApi, MlflowRefused
from registry.version_info import WORK_TAG, VersionInfo
from registry.versions import MlflowVersions

MODEL, PAPERS = "model", "papers"
RUN_FILE = "run.json"  # of the papers: what MLflow knows of the run and the version
MAX_PAPERS = 64  # files of a run beside its sealed folders; what is beyond is named, not kept
MAX_PAPER_BYTES = 4 * 1024 * 1024
PINS = "pins"


class Pin(msgspec.Struct, frozen=True):
    """What a version is kept for.

    Args:
        model: The registered model's name.
        version: Its number.
        digest: SHA-256 of its model's manifest.
        run_id: The MLflow run that held it.
        role: `champion`, `challenger` or `standby`; empty once it has none.
        generation: Of the routing that gave it the role: its release.
        seals: For each part the SHA-256 of its manifest.
        at: Since when it is whole here.
    """

    model: str
    version: int
    digest: str
    run_id: str
    role: str
    generation: int
    seals: dict[str, str]
    at: datetime


@dataclass(frozen=True)
class Papers:
    """What a run holds beside its sealed folders, and the names of those."""

    files: dict[str, bytes]
    sealed: tuple[str, ...]


class Pins:
    """The pins of one cache folder.

    Args:
        cache: Where the copies are.
    """

    def __init__(self, cache: ArtifactCache) -> None:
        self._cache = cache

    def find(self, model: str, version: int) -> Pin | None:
        """The pin of a version, if it has one that can be read."""
        try:
            pin = msgspec.json.decode(self._path(model, version).read_bytes(), type=Pin)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        return pin if (pin.model, pin.version) == (model, version) else None

    def of(self, model: str) -> list[Pin]:
        """Every pin of a model, by version."""
        numbers = (path.stem for path in self._path(model, 0).parent.glob("*.json"))
        found = (self.find(model, int(number)) for number in numbers if number.isdecimal())
        return sorted((pin for pin in found if pin), key=lambda pin: pin.version)

    def pinned(self) -> set[str]:
        """The digests that have a role: their copies never go."""
        found = set()
        for path in (self._cache.folder / PINS).glob("*/*.json"):
            try:
                pin = msgspec.json.decode(path.read_bytes(), type=Pin)
            except (OSError, msgspec.MsgspecError):
                continue
            if pin.role:
                found.add(pin.digest)
        return found

    def keep(self, pin: Pin) -> Pin:
        """Write a pin down."""
        path = self._path(pin.model, pin.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.encode(pin))
        return pin

    def release(self, model: str, version: int) -> None:
        """A version lost its role: its copies stay until nobody needs them."""
        pin = self.find(model, version)
        if pin is not None and pin.role:
            self.keep(msgspec.structs.replace(pin, role=""))

    def drop(self, digests: set[str]) -> None:
        """Forget the pins of copies that went."""
        for path in (self._cache.folder / PINS).glob("*/*.json"):
            try:
                pin = msgspec.json.decode(path.read_bytes(), type=Pin)
            except (OSError, msgspec.MsgspecError):
                continue
            if pin.digest in digests and not pin.role:
                path.unlink(missing_ok=True)

    def faults(self, pin: Pin) -> dict[str, str]:
        """The parts that are not what they were sealed as, and why; empty: it is whole."""
        found = {
            part: self._cache.check(pin.digest, part, seal) for part, seal in pin.seals.items()
        }
        return {part: why for part, why in found.items() if why}

    def _path(self, model: str, version: int) -> Path:
        # A dot is left alone by `quote`, and two of them would lead out of the folder.
        folder = self._cache.folder / PINS / quote(model, safe="").replace(".", "%2E")
        return folder / f"{version}.json"


def pin_version(
    store: MlflowVersions,
    cache: ArtifactCache,
    model: str,
    version: int,
    digest: str,
    role: str,
    generation: int,
    at: datetime,
) -> Pin:
    """Keep all parts of a version on this disk and write down what they are kept for.

    What is there already is not downloaded again.

    Args:
        store: MLflow's registry.
        cache: Where copies go.
        model: The registered model's name.
        version: Its number.
        digest: Of its model, as the routing's release has it.
        role: That it has.
        generation: Of the routing that gave it the role.
        at: Now.

    Raises:
        UnknownVersion: MLflow has no such version.
        ArtifactError: a part is not what was registered.
        Unavailable: MLflow is away.
        OSError: this disk cannot keep it: it is full, say.
    """
    pins = Pins(cache)
    known = pins.find(model, version)
    if known is not None and known.digest == digest:
        if (known.role, known.generation) != (role, generation):
            pins.keep(msgspec.structs.replace(known, role=role, generation=generation))
        return msgspec.structs.replace(known, role=role, generation=generation)
    info = store.version(model, version)
    papers = read_papers(store.api, info)
    seals = {MODEL: digest}
    for part in {MODEL, *papers.sealed}:
        if cache.find(digest, part) is None:
            cache.store(digest, part, download_of(store.api, info.run_id, part))
        seals[part] = cache.seal(digest, part) or ""
    seals[PAPERS] = _store_papers(cache, digest, papers.files)
    cache.remember(model, version, digest)
    return pins.keep(Pin(model, version, digest, info.run_id, role, generation, seals, at))


def mend(store: MlflowVersions, cache: ArtifactCache, pin: Pin) -> dict[str, str]:
    """Fetch again the parts of a pin that are spoilt; those that stay so, and why.

    Raises:
        Unavailable: MLflow is away.
    """
    left = {}
    for part, why in Pins(cache).faults(pin).items():
        try:
            if part == PAPERS:  # as they are by now: tags and figures come later than the model
                files = read_papers(store.api, store.version(pin.model, pin.version)).files
                cache.renew(pin.digest, part, _from(files))
                seals = pin.seals | {part: cache.seal(pin.digest, part) or ""}
                Pins(cache).keep(msgspec.structs.replace(pin, seals=seals))
            else:
                download = download_of(store.api, pin.run_id, part)
                cache.renew(pin.digest, part, download, pin.seals[part])
        except (ArtifactError, UnknownVersion, MlflowRefused) as error:
            left[part] = f"{why} MLflow has no good one: {error.message}"
    return left


def download_of(api: MlflowApi, run_id: str, part: str) -> Download:
    """The files of a part of a run."""
    return lambda path, limit: api.download(run_id, f"{part}/{path}", limit)


def read_papers(api: MlflowApi, info: VersionInfo) -> Papers:
    """What MLflow has of a version beside its sealed folders, and which folders are sealed.

    Raises:
        ArtifactError: a file cannot be read.
        Unavailable: MLflow is away.
    """
    run = api.get("runs/get", run_id=info.run_id)["run"]
    files: dict[str, bytes] = {}
    sealed: list[str] = []
    left_out: list[str] = []
    for item in list_files(api, info.run_id, ""):
        name = str(item["path"])
        if not is_plain(name):
            left_out.append(name)
        elif item.get("is_dir"):
            inner = {Path(each["path"]).name for each in list_files(api, info.run_id, name)}
            (sealed if MANIFEST in inner else left_out).append(name)
        elif len(files) >= MAX_PAPERS or int(item.get("file_size", 0)) > MAX_PAPER_BYTES:
            left_out.append(name)
        elif name not in (MANIFEST, RUN_FILE):
            files[name] = api.download(info.run_id, name, MAX_PAPER_BYTES)
    files[RUN_FILE] = canonical(_facts(run, info, left_out)).encode()
    return Papers(files, tuple(sorted(sealed)))


def papers_of(cache: ArtifactCache, pin: Pin) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The facts and the files that a pin keeps of a version's run."""
    folder = cache.folder / f"{pin.digest}.{PAPERS}"
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}
    facts: dict[str, Any] = json.loads(files.pop(RUN_FILE))
    return facts, files


def work_of(cache: ArtifactCache, pin: Pin) -> str:
    """The key of the work that made a version; empty where it was registered without one."""
    facts, _ = papers_of(cache, pin)
    return str(facts["version_tags"].get(WORK_TAG, ""))


def _facts(run: Mapping[str, Any], info: VersionInfo, left_out: list[str]) -> dict[str, Any]:
    data = run["data"]
    return {
        "schema": 1,
        "run_name": run["info"].get("run_name", ""),
        "params": {one["key"]: one["value"] for one in data.get("params", [])},
        "metrics": {one["key"]: one["value"] for one in data.get("metrics", [])},
        "tags": {one["key"]: one["value"] for one in data.get("tags", [])},
        "version_tags": info.tags,
        "description": info.description,
        "created_at": info.created_at.isoformat(),
        "left_out": sorted(left_out),
    }


def _store_papers(cache: ArtifactCache, digest: str, files: Mapping[str, bytes]) -> str:
    if cache.find(digest, PAPERS) is None:
        cache.store(digest, PAPERS, _from(files))
    return cache.seal(digest, PAPERS) or ""


def _from(files: Mapping[str, bytes]) -> Download:
    """Files in memory as if downloaded, under a manifest of their own."""
    entries = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files.items()
    }
    whole = {**files, MANIFEST: canonical({"schema": 1, "files": entries}).encode()}
    return lambda name, limit: whole[name][: limit + 1]


def list_files(api: MlflowApi, run_id: str, path: str) -> list[dict[str, Any]]:
    """What lies in a folder of a run's artifacts, as MLflow answers it; empty: its root."""
    found: list[dict[str, Any]] = []
    query = {"run_id": run_id, "path": path} if path else {"run_id": run_id}
    while True:
        answer = api.get("artifacts/list", **query)
        found += answer.get("files", [])
        if not (token := answer.get("next_page_token")):
            return found
        query["page_token"] = token
