"""A version in another environment's MLflow, with the same digest proven at both ends."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from registry.cache import ArtifactCache
from registry.custody import pin_version
from registry.restoring import register_again, whole_pin
from registry.versions import MlflowVersions


@dataclass(frozen=True)
class Copied:
    """A version there: `version` is its number in the other MLflow."""

    model: str
    version: int
    digest: str


def copy_version(
    source: MlflowVersions,
    target: MlflowVersions,
    model: str,
    version: int,
    origin: str,
    now: datetime,
) -> Copied:
    """Register a version in another MLflow, with all that its run holds beside the model.

    Here every part is downloaded and held to the digest it was registered with; there every file
    of the model is read back and compared with what was sent. The same version again is the
    same number there. It gets no alias: what it may do there is for the gates there.

    Args:
        source: The MLflow that has it.
        target: The other one.
        model: The registered model's name, at both ends.
        version: Its number here.
        origin: Where it comes from, for the people there; no password in it.
        now: When.

    Raises:
        UnknownVersion: there is no such version here.
        ArtifactError: it is not what was registered, here or there.
        Unavailable: one of the two is away.
    """
    digest = source.digest(model, version)
    with tempfile.TemporaryDirectory() as folder:
        cache = ArtifactCache(Path(folder))
        pin_version(source, cache, model, version, digest, "", 0, now)
        pin = whole_pin(cache, model, version)
        number = register_again(target, cache, pin, 0, f"It comes from {origin}.", "copy")
    return Copied(model, number, target.digest(model, number))
