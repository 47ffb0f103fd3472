"""The outcome written back where the person looks: `lifecycle.*` tags of versions in MLflow."""

from __future__ import annotations

import logging
from datetime import datetime

from homeostat.errors import UnknownVersion
from registry.routing import Routing
from registry.versions import MlflowVersions

TAG = "lifecycle."

logger = logging.getLogger(__name__)


class Writeback:
    """Tags versions with their state, why, since when, and by which routing.

    Args:
        store: MLflow's registry.
    """

    def __init__(self, store: MlflowVersions) -> None:
        self._store = store

    def is_written(self, routing: Routing) -> bool:
        """Whether a routing was written back whole: its champion carries its generation.

        Raises:
            Unavailable: MLflow is away.
        """
        try:
            tags = self._store.version_tags(routing.model, routing.champion)
        except UnknownVersion:
            return False
        written = tags.get(f"{TAG}generation") == str(routing.generation)
        return written and tags.get(f"{TAG}state") == "serving"

    def write(self, routing: Routing, before: Routing | None) -> None:
        """Tag the versions of a routing, and those that it dropped.

        Raises:
            UnknownVersion: the champion is gone from MLflow.
            Unavailable: MLflow is away.
        """
        states: dict[int, str] = {}
        if before is not None:
            if before.standby is not None:
                states[before.standby] = "retired"
            if before.challenger is not None:
                states[before.challenger] = "rejected"
            states[before.champion] = "rolled_back"
        if routing.standby is not None:
            states[routing.standby] = "standby"
        if routing.challenger is not None:
            share = f"canary:{routing.canary_share * 100:g}"
            states[routing.challenger] = share if routing.phase == "canary" else "shadow"
        states.pop(routing.champion, None)
        states[routing.champion] = "serving"  # last: it says that all of it is written
        for version, state in states.items():
            self.tag(routing.model, version, state, routing.reason, routing.at, routing)

    def tag(
        self,
        model: str,
        version: int,
        state: str,
        reason: str,
        since: datetime,
        routing: Routing | None = None,
    ) -> None:
        """Tag one version; one that is gone needs no tags, unless it is the champion.

        Raises:
            UnknownVersion: it is the routing's champion, and gone from MLflow.
            Unavailable: MLflow is away.
        """
        tags = {f"{TAG}reason": reason, f"{TAG}since": since.isoformat(), f"{TAG}state": state}
        if routing is not None:
            tags[f"{TAG}generation"] = str(routing.generation)
        try:
            self._store.tag(model, version, tags)
        except UnknownVersion:
            if routing is not None and version == routing.champion:
                raise
            logger.info("%s:%d is gone from MLflow; it needs no tags", model, version)
