"""A candidate: what a training leaves behind, whichever flow made it, on its way to a version.

Plain functions over the rooms below; the flows' tasks are a few lines over these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.bom import bom
from flows.cards import Story, card, describe
from flows.judging import Judged
from flows.learning import Champion, Trained
from flows.lineage import trace
from flows.origin import Origin
from flows.placement import Place, place
from flows.probing import FIGURES
from flows.runs import LINEAGE_FILE, ROWS_FILE, SUMMARY_FILE, VERDICT_FILE, Tried, as_text
from flows.site import Site
from flows.trials import stricter
from homeostat.policy import Policy
from models.scan import scan
from monitoring.recovery import gained
from registry.documents import BOM_FILE, CARD_FILE
from registry.gate_evidence import Contender, Evidence, Measured
from registry.gates import judge
from registry.lineage import open_regime, record_edge
from registry.lineage_record import Cost
from registry.lineage_records import bind_lineage, keep_lineage
from registry.verdicts import Verdict, record_verdict, verdict_for, verdict_tags
from registry.version_info import NUMBER_TAG, SCAN_TAG


@dataclass(frozen=True)
class Candidate:
    """A candidate on disk, judged.

    Args:
        folder: Holds `model/` and `replay/`.
        origin: Which work made it.
        ids: Of the predictions that it learnt or is judged by; empty for a data set.
        story: What there is to tell of it; its lineage is not yet numbered.
        verdict: Of the gates.
        params: What it was made with.
        metrics: Its figures.
        curves: Its figures by epoch.
        gained: Whether it loses less than the champion on the newest rows, by more than chance.
    """

    folder: Path
    origin: Origin
    ids: Sequence[str]
    story: Story
    verdict: Verdict
    params: Mapping[str, object]
    metrics: Mapping[str, float]
    curves: Mapping[str, Sequence[float]]
    gained: bool = False


def assemble(
    folder: Path,
    origin: Origin,
    trained: Trained,
    judged: Judged,
    saved: str,
    measured: Measured,
    champion: Champion | None,
    policy: Policy,
) -> Candidate:
    """Judge a candidate whose files are under `folder`, and gather its figures.

    Args:
        folder: Holds `model/` and `replay/`.
        origin: Which work made it.
        trained: The module with its lesson.
        judged: Its losses and the champion's.
        saved: Digest of `model/`.
        measured: What the serving code says of it.
        champion: What it was compared with, or None.
        policy: Of the model.
    """
    lesson, bounds = trained.lesson, stricter(policy.gates, trained)
    story = Story(
        lineage=trace(folder, origin, trained, judged, champion, policy, saved),
        task=trained.learner.task,
        accuracy={n: 1.0 - float(losses.mean()) for n, losses in judged.candidate.items()},
        facts=policy.card,
    )
    evidence = Evidence(
        candidate=Contender(saved, judged.candidate, folder / "model"),
        champion=_contender(champion, judged),
        policy=bounds,
        task=trained.learner.task,
        regime=lesson.regime,
        rows=lesson.held_out.rows,
        labels=lesson.held_out.labels,
        measured=measured,
        documents=documents_of(story),
    )
    verdict = judge(evidence, origin.at)
    story = replace(story, verdict=verdict)
    params: dict[str, object] = {
        "learner": trained.reference,
        "seed": policy.seed,
        "epochs": trained.fit.epochs,
        "steps": trained.fit.steps,
        "stopped": trained.fit.stopped,
        "resumed_at_step": trained.fit.resumed_at,
        "regime": lesson.regime,
        **{f"config.{name}": value for name, value in policy.learner_config.items()},
        **origin.facts,
    }
    curves = {"train_loss": trained.fit.losses}
    if trained.fit.watched:
        curves["watched_loss"] = trained.fit.watched
    metrics = {
        **figures(trained, judged),
        **cost(story.lineage.cost),
        **measures(measured),
        "parameters": float(story.lineage.weights),
    }
    ids = (*lesson.train_ids, *lesson.held_out_ids)
    better = judged.champion is not None and gained(
        judged.candidate[judged.regime], judged.champion[judged.regime], bounds.error_rate
    )
    return Candidate(folder, origin, ids, story, verdict, params, metrics, curves, better)


def documents_of(story: Story) -> dict[str, str]:
    """Card and bill of materials by file name: before the gates as drafted, then with all."""
    return {CARD_FILE: card(story), BOM_FILE: as_text(bom(story))}


def _contender(champion: Champion | None, judged: Judged) -> Contender | None:
    if champion is None or judged.champion is None:
        return None
    return Contender(champion.digest, judged.champion, champion.folder)


def cost(spent: Cost) -> dict[str, float]:
    """The metrics of what the training took, and of a full retrain's share where it was none.

    `full_cpu_seconds` is an estimate: what a step took here, times the steps of the pipeline's
    passes over all rows that were ever learnt.
    """
    known = {
        "train_cpu_seconds": spent.cpu_seconds,
        "train_rows_read": float(spent.rows_read),
        "train_steps": float(spent.steps),
        "full_cpu_seconds": spent.full_cpu_seconds,
        "full_share": spent.share,
        "train_cost": spent.money,
    }
    return {name: value for name, value in known.items() if value is not None}


def figures(trained: Trained, judged: Judged) -> dict[str, float]:
    """The metrics of a candidate: accuracies by regime, what was gained and what forgotten.

    `gain` is how much less it loses than the champion on the newest regime, `forgetting` how
    much more on that earlier regime where it forgot most.
    """
    found = {
        "accuracy": judged.newest.accuracy,
        "train_rows": float(len(trained.lesson.train)),
        "held_out_rows": float(len(trained.lesson.held_out)),
        "skipped_rows": float(trained.fit.skipped),
        "train_seconds": trained.fit.seconds,
    }
    if trained.unseen is not None:
        found["unseen_share"] = trained.unseen
    for number, losses in judged.candidate.items():
        found[f"regime_{number}_accuracy"] = 1.0 - float(losses.mean())
    for number, own in judged.measures.items():
        found |= {f"regime_{number}_{name}": value for name, value in own.items()}
    found |= judged.measures.get(judged.regime, {})
    if judged.champion is None:
        return found
    worse = {}
    for number, losses in judged.champion.items():
        found[f"regime_{number}_champion_accuracy"] = 1.0 - float(losses.mean())
        worse[number] = float(judged.candidate[number].mean() - losses.mean())
    found["gain"] = -worse.pop(judged.regime)
    if worse:
        found["forgetting"] = max(worse.values())
    return found | transfer(judged)


def transfer(judged: Judged) -> dict[str, float]:
    """What learning the newest regime did to the others, and they to it.

    `backward_transfer` is the mean over earlier regimes of the candidate's accuracy less that of
    the version that learnt the regime; `forward_transfer` the champion's accuracy on the newest
    regime, which it has not learnt, less that of an untrained module (Lopez-Paz and Ranzato 2017,
    *Gradient episodic memory*, section 2, for one step).
    """
    found = {}
    since = [
        1.0 - float(judged.candidate[number].mean()) - accuracy
        for number, accuracy in judged.learnt.items()
        if number != judged.regime
    ]
    if since:
        found["backward_transfer"] = sum(since) / len(since)
    if judged.champion is not None and judged.untrained is not None:
        before = 1.0 - float(judged.champion[judged.regime].mean())
        found["forward_transfer"] = before - judged.untrained
    return found


def measures(measured: Measured) -> dict[str, float]:
    """The metrics of what the serving code measured; none where it could not."""
    if measured.failure:
        return {}
    found = asdict(measured)
    return {name: float(found[name]) for name in FIGURES}


def log_candidate(site: Site, candidate: Candidate) -> Tried:
    """Log a candidate as a finished MLflow run that a version can be registered from.

    Raises:
        Unavailable: MLflow is away.
    """
    origin, parent = candidate.origin, candidate.origin.parent
    with site.session() as session:
        lineage = keep_lineage(session, origin.key, candidate.story.lineage, origin.at)
    story = replace(candidate.story, lineage=lineage)
    verdict = candidate.verdict
    tags = {"homeostat.flow": origin.flow, **verdict_tags(verdict)}
    if parent is not None:
        run_id = site.versions.version(origin.model, parent.version).run_id
        # MLflow's page then shows the retrain below the run that it goes on from.
        tags |= {"mlflow.parentRunId": run_id} if run_id else {}
        tags["homeostat.parent_version"] = str(parent.version)
    summary = {
        "schema": 1,
        "work_key": origin.key,
        "number": lineage.number,
        "flow": origin.flow,
        "made_by": origin.made_by,
        "description": describe(story),
        "accuracy": story.newest,
        "verdict": verdict.to_json(),
        "scan": scan(candidate.folder / "model", lineage.digest).to_json(),
        "parent": {"version": parent.version, "digest": parent.digest} if parent else None,
        "facts": dict(origin.facts),
        "loss": 1.0 - candidate.metrics["accuracy"],
        "gain": candidate.metrics.get("gain", 0.0),
        "gained": candidate.gained,
        "regime_key": origin.regime_key,
    }
    return site.runs.keep(
        origin.model,
        origin.key,
        name=f"{origin.flow} {origin.at:%Y-%m-%d %H:%M:%S}",
        folder=candidate.folder,
        digest=lineage.digest,
        documents={
            SUMMARY_FILE: as_text(summary),
            VERDICT_FILE: as_text(verdict.to_json()),
            **documents_of(story),
            LINEAGE_FILE: as_text(lineage.to_json()),
            ROWS_FILE: as_text({"schema": 1, "ids": list(candidate.ids)}),
        },
        params=candidate.params,
        metrics=candidate.metrics,
        curves=candidate.curves,
        tags=tags,
    )


def register_candidate(site: Site, model: str, key: str, tried: Tried) -> int:
    """The version of a finished run; the same work key gives the same version.

    Raises:
        Unavailable: MLflow is away.
    """
    tags = {"homeostat.flow": str(tried.summary["flow"]), **verdict_tags(verdict_of(tried))}
    if scanned := tried.summary.get("scan"):
        tags[SCAN_TAG] = str(scanned["summary"])
    if number := tried.summary.get("number"):
        tags[NUMBER_TAG] = str(number)
    if (parent := tried.summary["parent"]) is not None:
        tags["homeostat.parent_version"] = str(parent["version"])
    return site.versions.register(
        model,
        tried.run_id,
        "model",
        tried.digest,
        key,
        tags,
        str(tried.summary["description"]),
    )


def settle(
    site: Site, policy: Policy, model: str, version: int, tried: Tried, now: datetime
) -> Place:
    """Record the verdict and the lineage of a version and give it its place; twice is once.

    A version that a gate refused is kept, without an alias: its page says why.

    Raises:
        Unavailable: the database or MLflow is away.
    """
    verdict, summary = verdict_of(tried), tried.summary
    with site.session() as session:
        if verdict_for(session, model, version) != verdict:
            record_verdict(session, model, version, verdict, now)
        if work_key := summary.get("work_key"):
            bind_lineage(session, model, str(work_key), version)
        if summary["parent"] is not None:
            recipe = {"flow": summary["flow"], **summary["facts"], "verdict": verdict.to_json()}
            parent = str(summary["parent"]["digest"])
            record_edge(session, tried.digest, parent, "continual_of", recipe)
        if verdict.passed:
            open_regime(session, model, str(summary["regime_key"]), version, now)
    actor, reason = f"flows.{summary['flow']}", str(summary["made_by"])
    return place(site, policy, model, version, verdict, actor=actor, reason=reason, now=now)


def verdict_of(tried: Tried) -> Verdict:
    """What the gates said of a finished run's candidate."""
    return Verdict.from_json(tried.summary["verdict"])


def outcome(site: Site, model: str, version: int, tried: Tried, where: Place) -> dict[str, Any]:
    """What a flow answers: plain JSON."""
    verdict = verdict_of(tried)
    return {
        "model": model,
        "version": version,
        "digest": tried.digest,
        "passed": verdict.passed,
        "place": where,
        "reason": verdict.reason,
        "accuracy": tried.summary["accuracy"],
        "run_id": tried.run_id,
        "url": site.runs.version_page(model, version),
    }
