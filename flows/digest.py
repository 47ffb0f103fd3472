"""The digest: a model's week for who reads it on Monday, and how good its alerts were."""

# No postponed annotations here: Prefect sends a flow to its process by value, without the names
# that its annotations would need there.
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow, task
from pydantic import Field

from flows.showing import SERVED, show_text
from homeostat.clock import utc_now
from homeostat.policy import Policy
from homeostat.settings import get_settings

if TYPE_CHECKING:
    from flows.site import Site


@flow(name="digest", persist_result=False)
def digest(
    model: Annotated[str, Field(min_length=1)] = "digits",
    days: Annotated[float, Field(gt=0.0, le=366.0)] = 7.0,
) -> dict[str, Any]:
    """Tell what became of a model: incidents, how good their alerts were, retrains, moves.

    It goes to the model's `alerts` but pagers, through the outbox, once a day; and to the flow
    run's page in Prefect.

    Args:
        model: A model of the settings.
        days: How far back.

    Returns:
        `text`, and `told`: how many addresses get it.

    Raises:
        UnknownModel: the settings have no such model.
        Unavailable: the database stayed away.
    """
    settings = get_settings()
    policy = settings.policy(model)
    from flows.site import open_site

    with open_site(settings) as site:
        text, told = tell(site, policy, model, days)
        show_text("digest", model, text)
        return {"model": model, "text": text, "told": told}


@task(**SERVED)
def tell(site: "Site", policy: Policy, model: str, days: float) -> tuple[str, int]:
    """Read the digest and put it out, in one transaction."""
    from registry.digests import digest as read
    from registry.digests import put_digest

    now = utc_now()
    with site.session() as session:
        found = read(session, model, now - timedelta(days=days), now)
        told = put_digest(session, found, policy.alerts)
    return found.text, len(told)
