"""The rollback by hand: traffic goes back to the standby, the aliases follow."""

# No postponed annotations here: Prefect sends a flow to its process by value, without the names
# that its annotations would need there.
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow, task
from pydantic import Field

from flows.showing import SERVED, whole
from homeostat.clock import utc_now
from homeostat.settings import get_settings

if TYPE_CHECKING:
    from flows.site import Site
    from registry import Routing

ACTOR = "flows.rollback"


@flow(name="rollback", persist_result=False)
def rollback(
    model: Annotated[str, Field(min_length=1)], reason: Annotated[str, Field(min_length=1)]
) -> dict[str, Any]:
    """Give a model's traffic back to its standby; gateways follow within their poll.

    Args:
        model: A model of the settings.
        reason: Why, in a sentence: it is kept in the ledger and shown in MLflow.

    Returns:
        `model`, `generation`, `champion` and `withdrawn`, the version that was taken out.

    Raises:
        UnknownModel: the settings have no such model.
        NoTarget: there is no standby, or it is in quarantine.
        StaleGeneration: somebody moved the routing in the same moment.
        Unavailable: MLflow or the database stayed away.
    """
    settings = get_settings()
    settings.policy(model)
    from flows.site import open_site

    with open_site(settings) as site:
        withdrawn, routing = swap(site, model, reason)
        move_aliases(site, whole(routing), withdrawn)
        return {
            "model": model,
            "generation": routing.generation,
            "champion": routing.champion,
            "withdrawn": withdrawn,
        }


@task(**SERVED)
def swap(site: "Site", model: str, reason: str) -> "tuple[int, Routing]":
    """Write the routing that has the standby as champion."""
    from flows.placement import give_back

    return give_back(site, model, ACTOR, reason, utc_now())


@task(**SERVED)
def move_aliases(site: "Site", routing: "Routing", withdrawn: int) -> None:
    """Let MLflow's aliases and tags follow."""
    from flows.placement import follow_rollback

    follow_rollback(site, routing, withdrawn)
