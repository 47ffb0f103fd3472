"""Making a version again from its lineage, to see whether the same bits come out.

Nothing is registered and nothing that serves is touched. Where other bits come out, the lineage
and what is here now are laid side by side: data, code, libraries, machine.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flows.judging import build_profile, judge_regimes
from flows.learning import (
    Champion,
    Trained,
    load_champion,
    retrain_budget,
    save,
    train_afresh,
    train_further,
)
from flows.lessons import Lesson, first_lesson, next_lesson
from flows.provenance import code_facts, environment_facts
from flows.rows import as_dataset
from flows.runs import ROWS_FILE
from flows.site import Site
from homeostat.errors import ArtifactError, Refused
from homeostat.policy import Policy
from models.artifact import MANIFEST_FILE, verify
from models.catalog import known_learners
from models.data import Dataset, read_dataset
from models.learner import Budget
from models.pyfunc import REFERENCE as ADOPTED
from models.stored import parse_object
from registry.labels import labelled_rows_of
from registry.lineage_record import CodeFacts, EnvironmentFacts, Lineage
from registry.lineage_records import find_lineage, lineages

MAX_ROWS_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Difference:
    """One thing that is not now as it was when the version was made."""

    what: str
    then: str
    now: str


@dataclass(frozen=True)
class Reproduction:
    """What came of making a version again.

    Args:
        model: The registered model's name.
        version: Its number in MLflow.
        digest: Of the version.
        made: Of what was made now; empty where its data is not there any more.
        memory: Of the version's `replay/`.
        made_memory: Of the `replay/` made now.
        files: Of the artifact, those with other bytes.
        differences: What was not as it was then, whether or not it mattered.
    """

    model: str
    version: int
    digest: str
    made: str
    memory: str
    made_memory: str
    files: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        """Whether the same bits came out, of the artifact and of its memory."""
        return (self.digest, self.memory) == (self.made, self.made_memory)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"same": self.same, **asdict(self)}


def reproduce(site: Site, model: str, version: int, folder: Path) -> Reproduction:
    """Make a version again under `folder`, which is empty.

    Raises:
        UnknownVersion: no lineage of it is known.
        Refused: it was adopted, or its learner is neither the policy's nor an installed one.
        DataError: its data cannot be read.
        ArtifactError: the version that it was judged beside is not what it was.
        Unavailable: MLflow or the database is away.
    """
    with site.session() as session:
        record = find_lineage(session, model, version).record
        if record.make.learner == ADOPTED:
            raise Refused(
                f"Version {version} of '{model}' was adopted: it was made elsewhere, by"
                " whoever logged it.",
                remedy=f"Its files are those of its artifact; see `homeostat lineage {model}`.",
            )
        memories = {each.version: each.record.memory.digest for each in lineages(session, model)}
    policy = _policy(site, record)
    torch.set_num_threads(record.environment.threads)
    differences = surroundings(record)
    dataset, ids = _data(site, record, version)
    if dataset.digest != record.data.digest:
        then = f"{record.data.rows} rows, {record.data.digest}"
        changed = Difference("data", then, f"{len(dataset)} rows, {dataset.digest}")
        return _result(record, version, "", "", (), [changed, *differences])
    champion = _champion(site, record, policy, memories)
    trained = _train(record, policy, champion, dataset, ids)
    profile = build_profile(trained, judge_regimes(trained, champion))
    made = save(folder, trained, profile, champion, policy)
    if trained.fit.steps != record.cost.steps:
        then, now = str(record.cost.steps), str(trained.fit.steps)
        differences = [Difference("steps of the training", then, now), *differences]
    memory = hashlib.sha256((folder / "replay" / MANIFEST_FILE).read_bytes()).hexdigest()
    files = _other_files(record, folder / "model")
    return _result(record, version, made, memory, files, differences)


def surroundings(record: Lineage) -> list[Difference]:
    """Where code, environment and libraries are not what they were; in a fixed order."""
    reference = record.make.learner
    then = _named(record.code, record.environment)
    now = _named(code_facts(reference), environment_facts(reference))
    return [
        Difference(what, then.get(what, "none"), now.get(what, "none"))
        for what in {**then, **now}
        if then.get(what) != now.get(what)
    ]


def _named(code: CodeFacts, environment: EnvironmentFacts) -> dict[str, str]:
    libraries = {f"library {name}": version for name, version in environment.packages.items()}
    return {
        "source of learner and training": code.source,
        "git commit": f"{code.revision or 'none'}{' with changes' if code.modified else ''}",
        "homeostat": code.package,
        "Python": environment.python,
        "platform": environment.platform,
        "instruction set": environment.vector,
        "threads": str(environment.threads),
        **libraries,
        "everything installed": environment.digest,
    }


def _policy(site: Site, record: Lineage) -> Policy:
    """The policy as it was; a learner is imported only where this installation allows it."""
    reference = record.make.learner
    if reference not in {site.settings.policy(record.model).learner, *known_learners()}:
        raise Refused(
            f"The version was made by the learner '{reference}', which is not allowed here.",
            remedy=f"Set it as the learner of [models.{record.model}] to make the version again.",
            learner=reference,
        )
    retrain = {"patience": 0, **record.parameters["retrain"]}  # earlier releases had none
    return Policy.model_validate({**record.parameters, "retrain": retrain})


def _data(site: Site, record: Lineage, version: int) -> tuple[Dataset, tuple[str, ...]]:
    """Its rows: from where the pipeline read them, or by their predictions from the log."""
    if record.data.begins is None:
        return read_dataset(record.data.source, str(record.parameters["label"])), ()
    content = site.versions.document(record.model, version, ROWS_FILE, MAX_ROWS_BYTES)
    wanted = parse_object(content, ROWS_FILE).get("ids")
    if not isinstance(wanted, list) or not all(isinstance(each, str) for each in wanted):
        raise ArtifactError(
            f"{ROWS_FILE} of version {version} names no predictions.",
            remedy="Restore the artifacts of its run in MLflow.",
        )
    with site.session() as session:
        rows = labelled_rows_of(session, wanted)
    return as_dataset(rows), tuple(row.id for row in rows)


def _champion(
    site: Site, record: Lineage, policy: Policy, memories: Mapping[int | None, str]
) -> Champion | None:
    """The version that it was judged beside, its memory held to that version's lineage."""
    if record.champion is None:
        return None
    version, digest = record.champion.version, record.champion.digest
    folder = site.versions.fetch(record.model, version, site.cache, digest=digest)
    replay = site.versions.fetch(record.model, version, site.cache, part="replay", digest=digest)
    verify(replay, memories.get(version))
    return load_champion(version, folder, replay, policy)


def _train(
    record: Lineage,
    policy: Policy,
    champion: Champion | None,
    dataset: Dataset,
    ids: tuple[str, ...],
) -> Trained:
    lesson = _lesson(record, policy, dataset, ids)
    # By steps where time ran out then: the clock of another day stops it elsewhere.
    steps = record.cost.steps if record.cost.stopped == "seconds" else None
    if record.parent is None:
        budget = Budget(epochs=policy.epochs, seconds=math.inf, steps=steps)
        return train_afresh(lesson, policy, champion, budget)
    assert champion is not None  # what a retrain goes on from is what it was judged beside
    budget = replace(retrain_budget(policy.retrain), seconds=math.inf, steps=steps)
    return train_further(lesson, policy, champion, budget)


def _lesson(record: Lineage, policy: Policy, dataset: Dataset, ids: tuple[str, ...]) -> Lesson:
    if record.data.begins is None:
        return first_lesson(dataset, policy)
    return next_lesson(dataset, ids, policy, record.data.regime)


def _other_files(record: Lineage, model: Path) -> tuple[str, ...]:
    manifest = json.loads((model / MANIFEST_FILE).read_bytes())
    made = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    then = {name: file.sha256 for name, file in record.files.items()}
    return tuple(sorted(name for name in {**then, **made} if then.get(name) != made.get(name)))


def _result(
    record: Lineage,
    version: int,
    made: str,
    memory: str,
    files: tuple[str, ...],
    differences: list[Difference],
) -> Reproduction:
    return Reproduction(
        record.model,
        version,
        record.digest,
        made,
        record.memory.digest,
        memory,
        files,
        tuple(differences),
    )
