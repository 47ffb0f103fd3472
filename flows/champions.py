"""The version that answers traffic now, fetched with all that a candidate needs of it."""

from __future__ import annotations

from flows.learning import Champion, load_champion
from flows.site import Site
from homeostat.policy import Policy
from registry.routing import current_routing


def fetch(site: Site, model: str, policy: Policy) -> Champion | None:
    """The champion of a model, or None before the first.

    Raises:
        ArtifactError: what MLflow holds is not what was registered.
        Unavailable: MLflow or the database is away.
    """
    with site.session() as session:
        routing = current_routing(session, model)
    if routing is None:
        return None
    version = routing.champion
    folder = site.versions.fetch(model, version, site.cache)
    replay = site.versions.fetch(model, version, site.cache, part="replay")
    return load_champion(version, folder, replay, policy)
