"""The state folder kept small: copies of versions that nobody needs any more go.

Champion, challenger and standby are pinned and stay, whatever else is true; so does what an alias
in MLflow names and what had a role in the last 30 days, since that is what a rollback or a person
may ask for. Anything else is in MLflow and comes back when it is asked for.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Protocol

from registry.cache import ArtifactCache
from registry.custody import Pins
from registry.release_history import digests_needed
from serving.library import VERSIONS_FOLDER
from serving.parts import Parts

KEPT = timedelta(days=30)  # after its last role
FRESH = timedelta(days=1)  # a copy that a flow or a look just made

logger = logging.getLogger(__name__)


class Aliases(Protocol):
    """What is asked of MLflow: `registry.versions.MlflowVersions`."""

    def aliases(self, model: str) -> dict[str, int]:
        """Every alias of a model."""
        ...


class Housekeeper:
    """Removes copies that nobody needs.

    Args:
        parts: The gateway's.
        store: MLflow's registry.
    """

    def __init__(self, parts: Parts, store: Aliases) -> None:
        self._parts = parts
        self._store = store

    def tidy(self) -> list[str]:
        """Remove what no routing, alias or newer release needs; the folders that went.

        Raises:
            Unavailable: MLflow or the database is away, and so what is needed is not known:
                nothing goes.
        """
        now = self._parts.clock()
        cache = ArtifactCache(self._parts.settings.state_dir / VERSIONS_FOLDER)
        names = cache.names()
        with self._parts.reading() as session:
            keep = digests_needed(session, now - KEPT)
        for model in {model for model, _ in names} | set(self._parts.settings.models):
            named = self._store.aliases(model).values()
            keep |= {names[model, version] for version in named if (model, version) in names}
        # Last, as a split may have come meanwhile.
        splits = self._parts.fleet.snapshot().values()
        keep |= {loaded.digest for split in splits for loaded in split.versions}
        pins = Pins(cache)
        removed = cache.prune(keep | pins.pinned(), now - FRESH)
        pins.drop({name for name in removed if "." not in name})
        if removed:
            logger.info("removed %d copies of versions that nobody needs", len(removed))
        return removed
