"""How a version is watched, from its copy on this disk, or from MLflow where there is none."""

from __future__ import annotations

from pathlib import Path

from homeostat.errors import ArtifactError
from homeostat.policy import Policy
from models.catalog import known_learners
from monitoring.profile import Profile
from registry.cache import ArtifactCache
from registry.explanations import Watched
from registry.runtimes import open_version
from registry.versions import MlflowVersions

PROFILE_FILE = "profile.json"


def read_watched(
    store: MlflowVersions, cache_dir: Path, policy: Policy, model: str, version: int
) -> Watched:
    """How a version is watched; MLflow is asked only where there is no whole copy here.

    Raises:
        ArtifactError: the copy is not what was registered, or has no profile.
        Unavailable: there is no copy, and MLflow is away.
        UnknownVersion: MLflow has no such version.
    """
    cache = ArtifactCache(cache_dir)
    digest = cache.digest_of(model, version)
    folder = cache.find(digest, "model") if digest else None
    if folder is None:
        folder = store.fetch(model, version, cache_dir)
    loaded = open_version(
        folder,
        f"{model}:{version}",
        allowed={policy.learner, *known_learners()},
        formats=policy.formats,
        digest=digest,
    )
    profile = loaded.files.get(PROFILE_FILE)
    if profile is None:
        raise ArtifactError(f"{model}:{version} has no profile.", remedy="Register it again.")
    return Watched(loaded.learner, Profile.from_json(profile), policy.gates.slices)
