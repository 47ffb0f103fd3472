"""An artifact that is not what was registered: barred, and on-call hears of it.

What serves from memory was checked when it was loaded and serves on.
"""

from __future__ import annotations

import logging

from monitoring.signals import triage
from registry.promotion import quarantine
from serving.lease import Acting
from serving.library import Suspect
from serving.parts import Parts
from serving.telling import Teller, registry_signal

ACTOR = "library"

logger = logging.getLogger(__name__)


class Suspects:
    """Acts on what the library refused to load.

    Args:
        parts: The gateway's.
        teller: Opens incidents.
        acting: Opens the transactions that write.
    """

    def __init__(self, parts: Parts, teller: Teller, acting: Acting) -> None:
        self._parts = parts
        self._teller = teller
        self._acting = acting
        self._told: set[Suspect] = set()

    def run(self, model: str) -> None:
        """Put each suspect of a model into quarantine and page, once.

        Raises:
            Unavailable: the database is away; the next look finds the same.
        """
        for suspect in self._parts.library.suspects(model):
            if suspect in self._told:
                continue
            barred = self._bar(suspect)
            reason = f"The artifact of version {suspect.version} is suspect: {suspect.reason}"
            signal = registry_signal("artifact", reason, severity="page")
            step = f"see who wrote to MLflow's artifacts, and register the version again.{barred}"
            self._teller.open(model, suspect.version, signal, triage(signal), next_step=step)
            self._told.add(suspect)

    def _bar(self, suspect: Suspect) -> str:
        split = self._parts.fleet.get(suspect.model)
        if split is not None and suspect.digest in {one.digest for one in split.versions}:
            return " What serves was checked when it was loaded and serves on."
        with self._acting() as session:
            quarantine(
                session,
                suspect.model,
                suspect.digest,
                suspect.reason,
                self._parts.clock(),
                actor=ACTOR,
                version=suspect.version,
            )
        logger.warning("%s:%d is in quarantine", suspect.model, suspect.version)
        return " It is in quarantine: a promotion with --override lifts that."
