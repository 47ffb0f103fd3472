"""Adopting a version that somebody else logged: profiled, judged and placed like any other."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.candidates import (
    assemble,
    log_candidate,
    outcome,
    register_candidate,
    settle,
    verdict_of,
)
from flows.champions import fetch
from flows.judging import build_profile, judge_regimes
from flows.learning import Champion, Trained, save
from flows.lessons import FIRST_REGIME, Lesson
from flows.origin import Origin
from flows.probing import probe
from flows.runs import Tried
from flows.site import Site
from flows.work import work_key
from homeostat.errors import DataError, Refused
from homeostat.policy import Policy
from models.data import Dataset
from models.learner import FitReport
from models.pyfunc import REFERENCE, Pyfunc
from models.pyfunc_columns import NUMBERS
from models.stored import MAX_TENSOR_BYTES
from models.torch_learner import guarded
from registry.foreign import Foreign, describe, download, parse_address
from registry.ledger import record
from registry.lineage import record_edge
from registry.packed import pack
from registry.worker import Worker

FLOW = "adopt"


def adopt(
    site: Site,
    model: str,
    address: str,
    dataset: Dataset,
    now: datetime,
    *,
    source: str,
    task: str = "",
    allow_code: bool = False,
) -> dict[str, Any]:
    """Make a version of a model out of one that somebody else logged.

    Args:
        site: Where.
        model: Of the settings: whose version it becomes.
        address: `models:/NAME/3`.
        dataset: Labelled rows that the version was not trained on: its profile and its gates.
        now: When.
        source: Where the rows come from, for its lineage.
        task: `classification` or `regression`; empty: told from the labels.
        allow_code: Whether code of whoever logged it may run, in a process of its own.

    Returns:
        As the pipeline: `model`, `version`, `digest`, `passed`, `place`, `reason`, ...

    Raises:
        Refused: its format may run code, and that was not allowed; or the policy lets none in.
        UnknownVersion: there is no such version.
        ArtifactError: it is no model that pyfunc loads, or cannot be loaded here.
        DataError: the rows lack what the model takes.
        Unavailable: MLflow or the database is away.
    """
    policy = site.settings.policy(model)
    name, number = parse_address(address)
    with tempfile.TemporaryDirectory(prefix="homeostat-adopt-") as place:
        given = download(site.settings.mlflow_address, name, number, Path(place))
        foreign = describe(given)
        refuse_unless_allowed(address, model, foreign, policy, allow_code)
        files = pack(given, MAX_TENSOR_BYTES // 2)
    worker = Worker(address, files)
    try:
        kinds = _kinds(foreign, dataset)
        options: dict[str, Any] = {"kinds": kinds, "tensor": foreign.tensor}
        options |= {"task": task, "classes": worker.classes if task != "regression" else []}
        rows = [{column: row[column] for column in kinds} for row in _whole(dataset, kinds)]
        learner = guarded(Pyfunc.from_data, rows, dataset.labels, options)
        held_out = Dataset.of(rows, dataset.labels)
        lesson = Lesson(FIRST_REGIME, held_out.digest, Dataset.of([], []), held_out)
        fit = FitReport(epochs=0, steps=0, seconds=0.0, losses=(), stopped="adopted")
        trained = Trained(REFERENCE, learner, worker, lesson, fit, 0.0)
        contents = _digest_of(files)
        key = work_key(flow=FLOW, model=model, files=contents, data=held_out.digest)
        origin = Origin(
            flow=FLOW,
            model=model,
            key=key,
            made_by=f"Adopted from {address} ({foreign}); judged on {source}.",
            at=now,
            source=source,
            facts={"adopted_from": address, "adopted_files": contents, **foreign.facts},
        )
        return _place(site, policy, origin, trained, now)
    finally:
        worker.close()


def refuse_unless_allowed(
    address: str, model: str, foreign: Foreign, policy: Policy, allow_code: bool
) -> None:
    """Two people's leave: of who adopts, and of who owns the model's policy.

    Raises:
        Refused: one of them is lacking.
    """
    lacking = []
    if foreign.runs_code and not allow_code:
        lacking.append("pass --allow-code")
    if "pyfunc" not in policy.formats:
        lacking.append(f'set formats = ["torch", "pyfunc"] in [models.{model}] of homeostat.toml')
    if not lacking:
        return
    why = (
        "to load it can run any code of whoever wrote it"
        if foreign.runs_code
        else "the model's policy lets only safetensors weights in"
    )
    raise Refused(
        f"{address} is {foreign}: {why}.",
        remedy=f"If you trust who logged it, {' and '.join(lacking)}.",
        loader=foreign.loader,
        serialization=foreign.serialization,
    )


def _place(
    site: Site, policy: Policy, origin: Origin, trained: Trained, now: datetime
) -> dict[str, Any]:
    model = origin.model
    tried = known = site.runs.find(model, origin.key)
    if tried is None:
        tried = judge_and_log(site, policy, origin, trained, fetch(site, model, policy))
    version = register_candidate(site, model, origin.key, tried)
    with site.session() as session:
        recipe = {"flow": FLOW, **origin.facts, "verdict": verdict_of(tried).to_json()}
        foreign = str(origin.facts["adopted_files"])
        record_edge(session, tried.digest, foreign, "adopted_from", recipe)
        if known is None:
            record(
                session,
                model,
                FLOW,
                actor=f"flows.{FLOW}",
                reason=origin.made_by,
                at=now,
                before=str(origin.facts["adopted_from"]),
                after=f"version {version}",
                evidence=dict(origin.facts),
                version=version,
                digest=tried.digest,
            )
    where = settle(site, policy, model, version, tried, now)
    return outcome(site, model, version, tried, where)


def judge_and_log(
    site: Site, policy: Policy, origin: Origin, trained: Trained, champion: Champion | None
) -> Tried:
    """From a module that nobody judged yet to a finished MLflow run, with no server of Prefect."""
    judged = judge_regimes(trained, champion)
    profile = build_profile(trained, judged)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        saved = save(folder, trained, profile, champion, policy)
        measured = probe(folder / "model", saved, trained.reference)
        candidate = assemble(folder, origin, trained, judged, saved, measured, champion, policy)
        return log_candidate(site, candidate)


def _kinds(foreign: Foreign, dataset: Dataset) -> Mapping[str, str]:
    """The columns that the model takes: by its signature, or as the data has them."""
    if foreign.kinds:
        return foreign.kinds
    if not all(isinstance(row, dict) for row in dataset.rows):
        raise DataError(
            "The model has no named columns and the data has none either.",
            remedy="Give a Parquet or CSV file.",
        )
    names = list(dataset.rows[0])
    if foreign.tensor:
        kind = foreign.tensor if foreign.tensor in NUMBERS else "float64"
        return dict.fromkeys(names, kind)
    return {name: _kind([row[name] for row in dataset.rows]) for name in names}


def _kind(values: list[object]) -> str:
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, bool) for value in present):
        return "bool"
    if present and all(isinstance(v, int) and not isinstance(v, bool) for v in present):
        return "int64" if len(present) == len(values) else "float64"
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in present):
        return "float64"
    return "str"


def _whole(dataset: Dataset, kinds: Mapping[str, str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [row for row in dataset.rows if isinstance(row, dict)]
    lacking = sorted(set(kinds) - set(rows[0])) if rows else sorted(kinds)
    if lacking:
        raise DataError(
            f"The model takes the column '{lacking[0]}', which the data does not have.",
            remedy=f"Give a file with these columns: {', '.join(kinds)}.",
            columns=lacking,
        )
    return rows


def _digest_of(files: Mapping[str, Any]) -> str:
    """Of a foreign folder, names and contents."""
    content = hashlib.sha256()
    for path in sorted(files):
        content.update(path.encode() + b"\0")
        content.update(hashlib.sha256(files[path].numpy().tobytes()).digest())
    return content.hexdigest()
