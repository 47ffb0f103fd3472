"""The retrain: what changed is learnt, what was known is kept, and the gates say whether.

    rows since the change -> train with replay -> evaluate on every regime -> profile -> save
    -> MLflow run -> register -> trial

The lifecycle database holds the lock: one retrain of a model at a time, freed when this flow
ends, however it ends, and by time if nobody is left to free it.
"""

# No postponed annotations here: Prefect sends a flow to its process by value, without the names
# that its annotations would need there.
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import Flow, flow, runtime, task
from prefect.client.schemas.objects import FlowRun, State
from pydantic import Field

from flows import steps
from flows.showing import LOCAL, SERVED, whole
from flows.work import work_key
from homeostat.clock import utc_now
from homeostat.errors import HomeostatError
from homeostat.policy import Policy
from homeostat.settings import get_settings

# torch is imported inside the tasks: the process that serves the deployments needs none.
if TYPE_CHECKING:
    from flows.changes import Change
    from flows.learning import Champion, Trained
    from flows.runs import Tried
    from flows.site import Site
    from flows.trainings import Training


def free_lock(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - the signature is Prefect's
    """End the retrain of a flow run that was killed or cancelled, in the runner's process."""
    from flows.request import end_by_flow_run
    from flows.site import open_site

    with open_site(get_settings()) as site:
        reason = f"{state.type.value.lower()}: {state.message or 'it did not end by itself'}"
        model = str(flow_run.parameters.get("model", "digits"))
        end_by_flow_run(site, model, str(flow_run.id), reason)


@flow(
    name="retrain",
    persist_result=False,
    on_crashed=[free_lock],
    on_cancellation=[free_lock],
)
def retrain(
    model: Annotated[str, Field(min_length=1)] = "digits", incident_id: str = "", key: str = ""
) -> dict[str, Any]:
    """Learn what changed and put the new version on trial.

    Args:
        model: A model of the settings.
        incident_id: The incident that asks for it; empty: the newest labelled rows are learnt.
        key: Of the request in the lifecycle database; empty: it is asked for here and now.

    Returns:
        `model`, `version`, `digest`, `passed`, `place`, `reason`, `accuracy`, `run_id`, `url`.

    Raises:
        UnknownModel: the settings have no such model.
        Refused: one is running already, it is too soon, or the day's budget is spent.
        NoTarget: there is no champion to go on from.
        DataError: too few labelled rows.
        Unavailable: MLflow or the database stayed away.
    """
    settings = get_settings()
    policy = settings.policy(model)
    from flows.candidates import outcome
    from flows.changes import learnt
    from flows.request import under_way
    from flows.site import open_site, use_one_thread

    use_one_thread()
    run_id = str(runtime.flow_run.id or "")
    with (
        open_site(settings) as site,
        under_way(site, policy, model, incident_id, key, run_id, utc_now) as request,
    ):
        work = work_key(flow="retrain", model=model, request=request.key)
        tried = steps.find_work(site, model, work)
        if tried is None:
            tried = _make(site, policy, model, incident_id or request.id, incident_id, work)
        version = steps.register(site, model, work, whole(tried))
        where = steps.promote(site, policy, model, version, whole(tried))
        steps.publish(site, model, version, whole(tried))
        answer = outcome(site, model, version, tried, where)
        request.outcome = f"{where}: version {version}. {answer['reason']}"
        request.learnt = learnt(version, tried)
        return answer


def _make(
    site: "Site", policy: Policy, model: str, regime_key: str, incident_id: str, work: str
) -> "Tried":
    """Train, judge and log a candidate that nobody made yet."""
    from flows.trainings import under

    champion = steps.fetch_champion(site, model, policy)
    # Not by the request: one that was killed has ended, and the next of the same change goes on.
    goes_on = champion.digest if champion is not None else ""
    key = work_key(flow="training", model=model, change=regime_key, champion=goes_on)
    training = under(site.settings.state_dir, key)
    change = read_change(
        site, policy, model, incident_id, regime_key, whole(champion), whole(training)
    )
    trained = train(whole(change), policy, whole(training))
    origin = change.origin(work, trained, utc_now())
    with tempfile.TemporaryDirectory() as folder:
        tried = steps.judge_and_log(site, Path(folder), origin, trained, champion, policy)
    training.end()
    return tried


@task(**SERVED)
def read_change(
    site: "Site",
    policy: Policy,
    model: str,
    incident_id: str,
    regime_key: str,
    champion: "Champion | None",
    training: "Training",
) -> "Change":
    """Read the labelled rows since the change, split into a lesson."""
    from flows.changes import read

    return read(site, policy, model, incident_id, regime_key, champion, utc_now(), training)


@task(**LOCAL)
def train(change: "Change", policy: Policy, training: "Training") -> "Trained":
    """Train a copy of the champion on the change; where one was killed, go on with it."""
    from flows.learning import retrain_budget
    from flows.trials import train_by_policy

    budget = replace(retrain_budget(policy.retrain), checkpoint=training.checkpoint())
    try:
        return train_by_policy(change.lesson, policy, change.champion, budget)
    except HomeostatError:
        training.end()  # the same rows would fail again: the next one reads them anew
        raise
