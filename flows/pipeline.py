"""The pipeline: a data set becomes a version, judged and placed.

    read -> train -> evaluate -> profile -> save -> MLflow run -> register -> promote

The work has a key made of the model, the data, the configuration and the caller's own key. A run
that was killed and is started again looks for what the first one left under that key: a finished
MLflow run is registered without training, a registered version is only placed, and a training goes
on from its checkpoint. So one piece of work never makes two versions.
"""

# No postponed annotations here: Prefect sends a flow to its process by value, without the names
# that its annotations would need there.
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow, task
from pydantic import Field

from flows import steps
from flows.showing import LOCAL, whole
from flows.work import work_key
from homeostat.clock import utc_now
from homeostat.policy import Policy
from homeostat.settings import get_settings

# torch is imported inside the tasks: the process that serves the deployments needs none.
if TYPE_CHECKING:
    from flows.learning import Champion, Trained
    from flows.runs import Tried
    from flows.site import Site
    from flows.trainings import Training
    from models import Dataset


@flow(name="pipeline", persist_result=False)
def pipeline(
    model: Annotated[str, Field(min_length=1)] = "digits", data: str = "", key: str = ""
) -> dict[str, Any]:
    """Train, judge, register and place a version of a model.

    Args:
        model: A model of the settings.
        data: `builtin:digits` or the path of a Parquet or CSV file; empty: as the policy says.
        key: The same key resumes the same work; another one makes another version of the same
            data and configuration.

    Returns:
        `model`, `version`, `digest`, `passed`, `place`, `reason`, `accuracy`, `run_id`, `url`.

    Raises:
        UnknownModel: the settings have no such model.
        DataError: the data cannot be learnt from.
        LearnerError: the learner's own code failed.
        Unavailable: MLflow or the database stayed away.
    """
    settings = get_settings()
    policy = settings.policy(model)
    from flows.candidates import outcome
    from flows.site import open_site, use_one_thread

    use_one_thread()
    with open_site(settings) as site:
        source = data or policy.data
        dataset = read(source, policy.label)
        work = name_work(model, dataset, policy, key)
        tried = steps.find_work(site, model, work)
        if tried is None:
            tried = _make(site, model, policy, dataset, work, source)
        version = steps.register(site, model, work, whole(tried))
        where = steps.promote(site, policy, model, version, whole(tried))
        steps.publish(site, model, version, whole(tried))
        return outcome(site, model, version, tried, where)


def name_work(model: str, dataset: "Dataset", policy: Policy, key: str) -> str:
    """The key of making `model` from these rows by this policy."""
    return work_key(
        flow="pipeline",
        model=model,
        data=dataset.digest,
        learner=policy.learner,
        config=policy.learner_config,
        seed=policy.seed,
        epochs=policy.epochs,
        holdout=policy.retrain.holdout,
        key=key,
    )


def _make(
    site: "Site", model: str, policy: Policy, dataset: "Dataset", work: str, source: str
) -> "Tried":
    """Train, judge and log a candidate that nobody made yet."""
    from flows.origin import Origin
    from flows.trainings import under

    champion = steps.fetch_champion(site, model, policy)
    origin = Origin(
        flow="pipeline",
        model=model,
        key=work,
        made_by=f"Trained on {source}.",
        at=utc_now(),
        source=source,
        facts={"data": source, "data_digest": dataset.digest},
    )
    training = under(site.settings.state_dir, work)
    trained = train(whole(dataset), policy, whole(champion), whole(training))
    with tempfile.TemporaryDirectory() as folder:
        tried = steps.judge_and_log(site, Path(folder), origin, trained, champion, policy)
    training.end()
    return tried


@task(**LOCAL)
def read(source: str, label: str) -> "Dataset":
    """Read the data set."""
    from models import read_dataset

    return read_dataset(source, label)


@task(**LOCAL)
def train(
    dataset: "Dataset", policy: Policy, champion: "Champion | None", training: "Training"
) -> "Trained":
    """Train a new module on the data set; where a training of it was killed, go on with it."""
    from flows.learning import train_afresh
    from flows.lessons import first_lesson
    from models import Budget

    budget = Budget(epochs=policy.epochs, checkpoint=training.checkpoint())
    return train_afresh(first_lesson(dataset, policy), policy, champion, budget)
