"""What MLflow knows of one version, and the tags that tie it to its artifact and its work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

DIGEST_TAG = "homeostat.digest"
WORK_TAG = "homeostat.work_key"
NUMBER_TAG = "homeostat.semver"
SCAN_TAG = "homeostat.scan"


@dataclass(frozen=True)
class VersionInfo:
    """What MLflow knows of one version."""

    model: str
    version: int
    run_id: str
    source: str
    description: str
    created_at: datetime
    tags: dict[str, str]

    @property
    def digest(self) -> str:
        """The digest that it was registered with; empty for one that is not ours."""
        return self.tags.get(DIGEST_TAG, "")


def read_version(item: Mapping[str, Any]) -> VersionInfo:
    """A version as MLflow's answer carries it."""
    return VersionInfo(
        model=item["name"],
        version=int(item["version"]),
        run_id=item.get("run_id", ""),
        source=item.get("source", ""),
        description=item.get("description", ""),
        created_at=datetime.fromtimestamp(int(item["creation_timestamp"]) / 1000, UTC),
        tags={tag["key"]: tag.get("value", "") for tag in item.get("tags", [])},
    )
