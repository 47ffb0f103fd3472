"""A version registered again from its pinned copy, with the same digest, under a new number."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from homeostat.errors import ArtifactError, NoCopy, Refused, Unavailable, UnknownVersion
from registry.cache import MANIFEST, MAX_BYTES, MAX_MANIFEST_BYTES, ArtifactCache
from registry.custody import MODEL, PAPERS, Pin, Pins, papers_of
from registry.mlflow_api import MlflowApi, MlflowRefused
from registry.version_info import WORK_TAG
from registry.versions import MlflowVersions

# What is done, as the tags, the run's name and the description say it.
ACTS = MappingProxyType(
    {"restore": ("restored", "Restored from the pinned copy"), "copy": ("copied", "A copy")}
)
ORIGINS = tuple(f"homeostat.{word}_" for word, _ in ACTS.values())  # of tags on where it came from
RUN_NAME = "mlflow.runName"  # MLflow sets it from the name of a run
TAKEN_BACK = "lifecycle."  # tags that our controller writes, for the version as it then is
MOST_NUMBERS = 10_000  # that a model made again may have to pass over


def find_loss(store: MlflowVersions, model: str, version: int, digest: str) -> str:
    """What MLflow lost of a version, in a sentence; empty where it has all of it.

    Raises:
        Unavailable: MLflow is away.
    """
    try:
        info = store.version(model, version)
        manifest = store.api.download(info.run_id, f"{MODEL}/{MANIFEST}", MAX_MANIFEST_BYTES)
    except UnknownVersion:
        return f"Version {version} of {model} is not in MLflow."
    except (ArtifactError, MlflowRefused) as error:
        return f"The artifact of version {version} of {model} cannot be read: {error.message}"
    if hashlib.sha256(manifest).hexdigest() != digest:
        return f"The artifact of version {version} of {model} is not the one that was registered."
    return ""


def whole_pin(cache: ArtifactCache, model: str, version: int) -> Pin:
    """The pin of a version, with every part checked.

    Raises:
        NoCopy: there is none, or a part of it is spoilt.
    """
    pins = Pins(cache)
    pin = pins.find(model, version)
    if pin is None:
        kept = ", ".join(str(one.version) for one in pins.of(model)) or "none"
        raise NoCopy(
            f"Version {version} of '{model}' has no pinned copy here; pinned: {kept}.",
            remedy="Ask the gateway of another machine, or train again from its lineage.",
            model=model,
            version=version,
        )
    if faults := pins.faults(pin):
        told = " ".join(f"{part}: {why}" for part, why in faults.items())
        raise NoCopy(
            f"The pinned copy of version {version} of '{model}' is spoilt. {told}",
            remedy="Ask the gateway of another machine, or train again from its lineage.",
            model=model,
            version=version,
            parts=sorted(faults),
        )
    return pin


def register_again(
    store: MlflowVersions,
    cache: ArtifactCache,
    pin: Pin,
    above: int,
    why: str,
    act: Literal["restore", "copy"] = "restore",
) -> int:
    """Log the pinned parts as a new run and make a version of it; its number.

    It may be cut off anywhere and asked for again: the same loss gives the same version. The
    artifact is downloaded again and compared byte for byte before the number is answered.

    Args:
        store: MLflow's registry; of a copy, another one than the version's own.
        cache: Where the copies are.
        pin: Whole, as `whole_pin` answers it.
        above: The highest number that the model ever had: where the model itself is made again
            MLflow would count from 1, and a number must not stand for two artifacts.
        why: What was lost, or where it was copied from: for the description.
        act: What this is.

    Raises:
        ArtifactError: what MLflow answers is not what was sent.
        Unavailable: MLflow is away.
    """
    facts, papers = papers_of(cache, pin)
    word, opening = ACTS[act]
    origin = f"homeostat.{word}_"
    key = f"{act}/{pin.model}/{pin.version}/{pin.digest}"
    own = {WORK_TAG: key, f"{origin}from": str(pin.version)}
    run_id = _run_of(store.api, cache, pin, facts, papers, own, f"{word} {facts['run_name']}")
    _prove(store.api, cache, pin, run_id)
    kept = {
        name: value
        for name, value in facts["version_tags"].items()
        if not name.startswith((TAKEN_BACK, *ORIGINS))
    }
    text = f"{opening} of version {pin.version}, same digest. {why}"
    number = _register_above(
        store,
        pin,
        above,
        run_id=run_id,
        work_key=key,
        tags=kept | {f"{origin}from": str(pin.version), f"{origin}because": why},
        description=f"{text}\n\n{facts['description']}".strip(),
    )
    if act == "restore":
        # At once, from what was whole here: MLflow may lose it again before it could be fetched.
        Pins(cache).keep(msgspec.structs.replace(pin, version=number, run_id=run_id, role=""))
    return number


def _run_of(
    api: MlflowApi,
    cache: ArtifactCache,
    pin: Pin,
    facts: Mapping[str, Any],
    papers: Mapping[str, bytes],
    own: Mapping[str, str],
    name: str,
) -> str:
    """The finished run that holds the parts: of an earlier try, or made now."""
    experiment = _experiment(api, pin.model)
    work = own[WORK_TAG]
    query = {"experiment_ids": [experiment], "filter": f"tags.`{WORK_TAG}` = '{work}'"}
    for run in api.post("runs/search", query | {"max_results": 100}).get("runs", []):
        if run["info"]["status"] == "FINISHED" and _has_parts(api, pin, run["info"]["run_id"]):
            return str(run["info"]["run_id"])
    tags = {key: value for key, value in facts["tags"].items() if key != RUN_NAME} | dict(own)
    body = {
        "experiment_id": experiment,
        "run_name": name.strip(),
        "start_time": _now(),
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }
    run = api.post("runs/create", body)["run"]
    run_id = str(run["info"]["run_id"])
    _log(api, run_id, facts)
    files = dict(papers)
    for part in pin.seals:
        if part != PAPERS:
            folder = cache.folder / (pin.digest if part == MODEL else f"{pin.digest}.{part}")
            files |= {f"{part}/{path.name}": path.read_bytes() for path in folder.iterdir()}
    api.upload(run, files)
    api.post("runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": _now()})
    return run_id


def _has_parts(api: MlflowApi, pin: Pin, run_id: str) -> bool:
    """Whether a run of an earlier try still holds the model: it may have been lost as well."""
    try:
        found = api.download(run_id, f"{MODEL}/{MANIFEST}", MAX_MANIFEST_BYTES)
    except (ArtifactError, MlflowRefused):
        return False
    return hashlib.sha256(found).hexdigest() == pin.digest


def _log(api: MlflowApi, run_id: str, facts: Mapping[str, Any]) -> None:
    now = _now()
    body = {
        "run_id": run_id,
        "metrics": [
            {"key": name, "value": value, "timestamp": now, "step": 0}
            for name, value in facts["metrics"].items()
        ],
        "params": [{"key": name, "value": value} for name, value in facts["params"].items()],
    }
    api.post("runs/log-batch", body)


def _prove(api: MlflowApi, cache: ArtifactCache, pin: Pin, run_id: str) -> None:
    """Read every file of the model back and compare it with the copy here."""
    for path in sorted((cache.folder / pin.digest).iterdir()):
        content = path.read_bytes()
        if api.download(run_id, f"{MODEL}/{path.name}", min(len(content), MAX_BYTES)) != content:
            raise ArtifactError(
                f"MLflow answers another '{path.name}' than it was sent.",
                remedy="See that its artifact store is whole, and restore again.",
                model=pin.model,
                version=pin.version,
            )


def _register_above(store: MlflowVersions, pin: Pin, above: int, **version: Any) -> int:  # noqa: ANN401 - the store's fields
    """Register, passing over the numbers that the model has used before it was lost itself.

    MLflow gives no number twice within a model: those in between are taken and deleted at once.
    """
    number = store.register(pin.model, artifact=MODEL, digest=pin.digest, **version)
    if number > above:
        return number
    if above - number > MOST_NUMBERS:
        raise Refused(
            f"'{pin.model}' has had {above} versions: too many numbers to pass over.",
            remedy="Rename the model back in MLflow, if it was renamed.",
            model=pin.model,
        )
    store.drop(pin.model, number)
    while number < above:
        number = store.pass_over(pin.model, version["run_id"])
    return store.register(pin.model, artifact=MODEL, digest=pin.digest, **version)


def _experiment(api: MlflowApi, model: str) -> str:
    """The experiment of a model; one that was deleted as well is made again."""
    try:
        found = api.get("experiments/get-by-name", experiment_name=model)["experiment"]
    except MlflowRefused as error:
        if not error.missing:
            raise
        try:
            return str(api.post("experiments/create", {"name": model})["experiment_id"])
        except (MlflowRefused, Unavailable):  # another was quicker
            found = api.get("experiments/get-by-name", experiment_name=model)["experiment"]
    if found.get("lifecycle_stage") == "deleted":
        api.post("experiments/restore", {"experiment_id": found["experiment_id"]})
    return str(found["experiment_id"])


def _now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)
