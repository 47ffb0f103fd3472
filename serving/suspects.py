"""What is not what was registered: barred, and on-call hears of it.

An artifact: what serves from memory was checked when it was loaded and serves on. And a version in
a process of its own that came back as another model: it answers nobody any more.
"""

from __future__ import annotations

import logging

from monitoring.signals import triage
from registry.promotion import quarantine
from serving.lease import Acting
from serving.library import Suspect
from serving.parts import Parts
from serving.runtime import Loaded
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
        self._changed: set[tuple[int, str]] = set()

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
        split = self._parts.fleet.get(model)
        for loaded in split.versions if split else ():
            if loaded.fault and (loaded.version, loaded.fault) not in self._changed:
                self._take_out(loaded)
                self._changed.add((loaded.version, loaded.fault))

    def _take_out(self, loaded: Loaded) -> None:
        """The guard takes the traffic away, where there is a standby; here no way leads back."""
        reason = f"Version {loaded.version} answers no more: its process was started again, and "
        reason += f"it is another model now. {loaded.fault}"
        self._quarantine(loaded.model, loaded.version, loaded.digest, reason)
        signal = registry_signal("process", reason, severity="page")
        step = (
            "see what it reads on the gateway's machine; a promotion with --override loads it anew."
        )
        self._teller.open(loaded.model, loaded.version, signal, triage(signal), next_step=step)

    def _bar(self, suspect: Suspect) -> str:
        split = self._parts.fleet.get(suspect.model)
        if split is not None and suspect.digest in {one.digest for one in split.versions}:
            return " What serves was checked when it was loaded and serves on."
        self._quarantine(suspect.model, suspect.version, suspect.digest, suspect.reason)
        return " It is in quarantine: a promotion with --override lifts that."

    def _quarantine(self, model: str, version: int, digest: str, reason: str) -> None:
        now = self._parts.clock()
        with self._acting() as session:
            quarantine(session, model, digest, reason, now, actor=ACTOR, version=version)
        logger.warning("%s:%d is in quarantine", model, version)
