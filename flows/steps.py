"""The Prefect tasks that the pipeline and the retrain share, each a few lines over plain functions.

torch is imported inside the tasks: the process that serves the deployments imports this module
too, and needs none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task

from flows.showing import LOCAL, SERVED, show_gates, show_model, show_version, whole
from homeostat.clock import utc_now
from homeostat.policy import Policy

if TYPE_CHECKING:
    from flows.candidates import Candidate
    from flows.judging import Judged
    from flows.learning import Champion, Trained
    from flows.origin import Origin
    from flows.placement import Place
    from flows.runs import Tried
    from flows.site import Site
    from monitoring.profile import Profile
    from registry.gate_evidence import Measured


@task(**SERVED)
def find_work(site: Site, model: str, key: str) -> Tried | None:
    """What a former run of the same work left in MLflow, or None."""
    return site.runs.find(model, key)


@task(**SERVED)
def fetch_champion(site: Site, model: str, policy: Policy) -> Champion | None:
    """The version that answers traffic now, with its memory, or None before the first."""
    from flows.champions import fetch

    return fetch(site, model, policy)


def judge_and_log(
    site: Site,
    folder: Path,
    origin: Origin,
    trained: Trained,
    champion: Champion | None,
    policy: Policy,
) -> Tried:
    """From a trained module to a finished MLflow run, task by task.

    Args:
        site: Where.
        folder: Empty; the candidate's files are written there.
        origin: Which work made it.
        trained: The module with its lesson.
        champion: What it is compared with.
        policy: Of the model.
    """
    judged = evaluate(whole(trained), whole(champion))
    seen = profile(whole(trained), whole(judged))
    saved = save(folder, whole(trained), whole(seen), whole(champion), policy)
    measured = probe(folder, saved, trained.reference)
    candidate = judge(
        folder,
        whole(origin),
        whole(trained),
        whole(judged),
        saved,
        measured,
        whole(champion),
        policy,
    )
    return log_run(site, whole(candidate))


@task(**LOCAL)
def evaluate(trained: Trained, champion: Champion | None) -> Judged:
    """Run candidate and champion over every regime's held-out rows."""
    from flows.judging import judge_regimes

    return judge_regimes(trained, champion)


@task(**LOCAL)
def profile(trained: Trained, judged: Judged) -> Profile:
    """Profile what the stream looks like now."""
    from flows.judging import build_profile

    return build_profile(trained, judged)


@task(**LOCAL)
def save(
    folder: Path, trained: Trained, seen: Profile, champion: Champion | None, policy: Policy
) -> str:
    """Write the candidate's files; the digest of `model/`."""
    from flows.learning import save as write

    return write(folder, trained, seen, champion, policy)


@task(**LOCAL)
def probe(folder: Path, saved: str, learner: str) -> Measured:
    """Load and measure the candidate in the real serving code, in a process of its own."""
    from flows.probing import probe as ask

    return ask(folder / "model", saved, learner)


@task(**LOCAL)
def judge(
    folder: Path,
    origin: Origin,
    trained: Trained,
    judged: Judged,
    saved: str,
    measured: Measured,
    champion: Champion | None,
    policy: Policy,
) -> Candidate:
    """Judge the candidate by every gate."""
    from flows.candidates import assemble

    return assemble(folder, origin, trained, judged, saved, measured, champion, policy)


@task(**SERVED)
def log_run(site: Site, candidate: Candidate) -> Tried:
    """Log the candidate with its figures, files and card as an MLflow run."""
    from flows.candidates import log_candidate

    return log_candidate(site, candidate)


@task(**SERVED)
def register(site: Site, model: str, key: str, tried: Tried) -> int:
    """Register the run's version, once for each work key."""
    from flows.candidates import register_candidate

    return register_candidate(site, model, key, tried)


@task(**SERVED)
def promote(site: Site, policy: Policy, model: str, version: int, tried: Tried) -> Place:
    """Record verdict and lineage of the version and give it its place."""
    from flows.candidates import settle

    return settle(site, policy, model, version, tried, utc_now())


@task(**SERVED)
def publish(site: Site, model: str, version: int, tried: Tried) -> None:
    """Show the gates' figures, the version's page and the model's on the flow run's page."""
    from flows.candidates import verdict_of
    from flows.cards import gate_rows

    verdict = verdict_of(tried)
    show_gates(model, gate_rows(verdict.figures), verdict.reason)
    show_version(model, version, site.runs.version_page(model, version))
    show_model(model, site.settings.page_address)
