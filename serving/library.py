"""Versions on disk and in memory: fetched once, verified at every load, kept for bad days.

What serves is written down in `routing.json` with the digests of its versions, so that a gateway
that starts while MLflow and the database are away serves what it served before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec

from homeostat.errors import ArtifactError, HomeostatError, SuspectArtifact, Unavailable
from homeostat.settings import Settings
from models.catalog import known_learners
from models.learner import Learner
from monitoring.inputs import InputDetector
from registry.cache import write_whole
from registry.routing import Routing
from serving.fleet import Phase, Split
from serving.runtime import Loaded, load

ROUTING_FILE = "routing.json"
VERSIONS_FOLDER = "versions"
SUSPECT_SECONDS = 30.0  # before the files of a suspect are read again

logger = logging.getLogger(__name__)


class Store(Protocol):
    """Where versions come from: `registry.versions.MlflowVersions`."""

    def fetch(
        self,
        model: str,
        version: int,
        cache_dir: Path,
        part: str = "model",
        digest: str | None = None,
    ) -> Path:
        """The verified folder of a version's part, downloaded unless it is there already."""
        ...


class KeptVersion(msgspec.Struct, frozen=True):
    """A version that served."""

    version: int
    digest: str


class KeptSplit(msgspec.Struct, frozen=True):
    """A routing as it served last."""

    generation: int
    champion: KeptVersion
    challenger: KeptVersion | None
    standby: KeptVersion | None
    phase: Phase
    canary_share: float


@dataclass(frozen=True)
class Suspect:
    """A version whose artifact is not what was registered, and why it is thought so."""

    model: str
    version: int
    digest: str
    reason: str


class Library:
    """Loads versions and builds splits of them.

    Args:
        settings: The state folder, and each model's policy.
        store: Where versions come from.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._cache = settings.state_dir / VERSIONS_FOLDER
        self._kept_path = settings.state_dir / ROUTING_FILE
        self._loaded: dict[tuple[str, int], Loaded] = {}
        self._learners: dict[tuple[str, int], Learner] = {}
        self._suspects: dict[tuple[str, int], tuple[Suspect, float]] = {}
        self._lock = threading.RLock()

    def load(self, model: str, version: int, digest: str = "") -> Loaded:
        """A version in memory.

        Args:
            model: The model's name.
            version: Its number.
            digest: Of its files, where known: then a kept copy serves with MLflow away.

        Raises:
            SuspectArtifact: its files are not what was registered; asked again, this is said
                for a while without another look at them.
            ArtifactError: it cannot be served here.
            LearnerError: its learner failed.
            UnknownVersion: there is no such version.
            Unavailable: MLflow is away and there is no copy.
        """
        # Not behind the lock: another version's process may take seconds to start.
        present = self._loaded.get((model, version))
        if present is not None and not present.fault and digest in ("", present.digest):
            return present
        with self._lock:
            present = self._loaded.get((model, version))
            if present is not None and not present.fault and digest in ("", present.digest):
                return present
            if (twin := self._find(model, digest)) is not None:  # restored: a new number for it
                self._loaded[model, version] = renumbered = replace(twin, version=version)
                self._learners[model, version] = renumbered.learner
                return renumbered
            self._refuse_known(model, version, digest)
            try:
                loaded = self._read(model, version, digest)
            except SuspectArtifact as error:
                found = Suspect(model, version, str(error.fields["digest"]), error.message)
                self._suspects[model, version] = found, time.monotonic()
                raise
            self._suspects.pop((model, version), None)
            self._loaded[model, version] = loaded
            self._learners[model, version] = loaded.learner
            return loaded

    def suspects(self, model: str) -> list[Suspect]:
        """The versions of a model whose artifact was not what was registered, when last read."""
        with self._lock:
            return [one for one, _ in self._suspects.values() if one.model == model]

    def _find(self, model: str, digest: str) -> Loaded | None:
        return next(
            (
                loaded
                for (name, _), loaded in self._loaded.items()
                if name == model and loaded.digest == digest and not loaded.fault
            ),
            None,
        )

    def learner(self, model: str, version: int) -> Learner | None:
        """The learner of a version that was loaded here at some time; it is configuration only."""
        return self._learners.get((model, version))

    def drop_unused(self, splits: dict[str, Split]) -> None:
        """Let versions go that no split uses; their learners stay, to score late labels."""
        used = {(s.model, one.version) for s in splits.values() for one in s.versions}
        with self._lock:
            for key in set(self._loaded) - used:
                del self._loaded[key]

    def split(self, routing: Routing, standby_share: float, digests: Mapping[int, str]) -> Split:
        """A routing with its versions loaded, verified against `digests` where those are known.

        A standby or challenger that cannot be loaded is left out, so that it never keeps the
        champion from serving.

        Raises:
            HomeostatError: the champion cannot be loaded.
        """
        model = routing.model

        def optional(version: int | None) -> Loaded | None:
            return self._load_if_possible(model, version, digests.get(version or 0, ""))

        return Split(
            model=model,
            generation=routing.generation,
            champion=self.load(model, routing.champion, digests.get(routing.champion, "")),
            challenger=optional(routing.challenger),
            standby=optional(routing.standby),
            phase=routing.phase,
            canary_share=routing.canary_share,
            standby_share=standby_share,
        )

    def keep(self, splits: dict[str, Split]) -> None:
        """Write down what serves, for a start with everything away."""
        kept = {model: _keep(split) for model, split in splits.items()}
        write_whole(self._kept_path, msgspec.json.encode(kept))

    def kept(self) -> dict[str, Split]:
        """What served last, loaded from the copies on disk; what cannot be loaded is left out."""
        try:
            found = msgspec.json.decode(self._kept_path.read_bytes(), type=dict[str, KeptSplit])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("%s cannot be read: %s", self._kept_path, error)
            return {}
        splits = {}
        for model, kept in found.items():
            if model not in self._settings.models:
                continue
            try:
                splits[model] = self._restore(model, kept)
            except HomeostatError as error:
                logger.warning("the kept version of %s cannot serve: %s", model, error)
        return splits

    def _read(self, model: str, version: int, digest: str) -> Loaded:
        policy = self._settings.policy(model)
        folder = self._folder(model, version, digest)
        try:
            allowed = {*known_learners(), policy.learner}
            loaded = load(folder, model, version, digest, allowed, policy.formats)
        except SuspectArtifact as error:
            error.fields["digest"] = folder.name  # what the copy was kept as
            raise
        # Its bets are designed now: when it takes traffic there is no time for that.
        rules = policy.monitor
        try:
            InputDetector(loaded.profile, rules.budget_predictions, rules.tolerance_inputs)
        except Exception as error:
            raise ArtifactError(
                f"{model}:{version} cannot be watched by its profile: {error}.",
                remedy="Register the version again with a profile made by this release.",
            ) from error
        return loaded

    def _refuse_known(self, model: str, version: int, digest: str) -> None:
        """A look at every poll would fetch gigabytes for nothing, and be an attack by itself."""
        known, at = self._suspects.get((model, version), (None, 0.0))
        if known is None or time.monotonic() > at + SUSPECT_SECONDS:
            return
        if digest in ("", known.digest):
            raise SuspectArtifact(
                known.reason,
                remedy="Register the version again from a run that you trust.",
                digest=known.digest,
                model=model,
                version=version,
            )

    def _restore(self, model: str, kept: KeptSplit) -> Split:
        def optional(one: KeptVersion | None) -> Loaded | None:
            return self._load_if_possible(model, one.version, one.digest) if one else None

        return Split(
            model=model,
            generation=kept.generation,
            champion=self.load(model, kept.champion.version, kept.champion.digest),
            challenger=optional(kept.challenger),
            standby=optional(kept.standby),
            phase=kept.phase,
            canary_share=kept.canary_share,
            standby_share=self._settings.policy(model).rollback.standby_share,
        )

    def _load_if_possible(self, model: str, version: int | None, digest: str = "") -> Loaded | None:
        if version is None:
            return None
        try:
            return self.load(model, version, digest)
        except HomeostatError as error:
            logger.warning("%s:%s is left out of the routing: %s", model, version, error)
            return None

    def _folder(self, model: str, version: int, digest: str) -> Path:
        try:
            return self._store.fetch(model, version, self._cache, digest=digest or None)
        except OSError as error:  # a full disk, say
            raise Unavailable(
                f"{model}:{version} cannot be kept on this disk: {error}.",
                remedy="Free space under the state folder.",
            ) from error


def _keep(split: Split) -> KeptSplit:
    def version(one: Loaded | None) -> KeptVersion | None:
        return KeptVersion(one.version, one.digest) if one else None

    return KeptSplit(
        generation=split.generation,
        champion=KeptVersion(split.champion.version, split.champion.digest),
        challenger=version(split.challenger),
        standby=version(split.standby),
        phase=split.phase,
        canary_share=split.canary_share,
    )
