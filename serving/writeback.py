"""The outcome written back where the person looks: tags and description of versions in MLflow.

What stands there already is not written again: each write is an event of MLflow's.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from homeostat.errors import UnknownVersion
from registry.routing import Routing
from registry.version_info import VersionInfo
from registry.versions import MlflowVersions
from serving.described import outcome_text, with_outcome
from serving.moves import MLFLOW_ACTOR

TAG = "lifecycle."
STATE, REASON, SINCE = f"{TAG}state", f"{TAG}reason", f"{TAG}since"
GENERATION, NOTICE = f"{TAG}generation", f"{TAG}notice"
IN_PLAY = frozenset({"loading", "serving", "standby", "shadow", "canary"})
LONGEST = 1000  # characters of a reason in a tag

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a version.

    Args:
        state: As `serving.described.WORDS` lists them; `canary:25` for a share in percent.
        reason: Why.
        since: Since when.
        generation: The routing in force; 0 before the first.
    """

    state: str
    reason: str
    since: datetime
    generation: int


class Writeback:
    """Tags versions with their state, why, since when, and by which routing; describes them.

    Args:
        store: MLflow's registry.
        page: Where the page of on-call is, which descriptions link.
    """

    def __init__(self, store: MlflowVersions, page: str) -> None:
        self._store, self._page = store, page

    def is_written(self, routing: Routing) -> bool:
        """Whether a routing was written back whole: its champion carries its generation.

        Raises:
            Unavailable: MLflow is away.
        """
        try:
            tags = self._store.version_tags(routing.model, routing.champion)
        except UnknownVersion:
            return False
        written = tags.get(GENERATION) == str(routing.generation)
        return written and tags.get(STATE) == "serving"

    def write(self, routing: Routing, before: Routing | None) -> None:
        """Tell of every version of a routing, and of those that it dropped.

        Raises:
            UnknownVersion: the champion is gone from MLflow.
            Unavailable: MLflow is away.
        """
        found = {info.version: info for info in self._store.list_versions(routing.model)}
        outcomes = outcomes_of(routing, before)
        for version, info in found.items():  # what routings before that one left, if not written
            if version not in outcomes and _state(info).partition(":")[0] in IN_PLAY:
                outcomes[version] = _since(routing, "retired", _took_over(routing))
        # The champion last: it says that all of it is written.
        for version in sorted(outcomes, key=lambda one: one == routing.champion):
            known = found.get(version)
            if known is None and version == routing.champion:
                raise UnknownVersion(
                    f"MLflow has no version {version} of '{routing.model}'.",
                    remedy="List the versions to find one.",
                    model=routing.model,
                    version=version,
                )
            if known is not None:  # one that is gone needs no tags
                self._write(known, _kept(known, outcomes[version], routing, before))

    def tell(self, model: str, version: int, outcome: Outcome) -> None:
        """Tell of one version; one that is gone needs no tags.

        Raises:
            Unavailable: MLflow is away.
        """
        if (info := self._find(model, version)) is not None:
            self._write(info, outcome)

    def explain(self, model: str, version: int, outcome: Outcome) -> None:
        """Say why nothing was changed about a version: a state that it has stays. As `tell`."""
        if (info := self._find(model, version)) is not None:
            state = _state(info) or outcome.state
            self._write(info, Outcome(state, outcome.reason, outcome.since, outcome.generation))

    def notice(self, model: str, version: int, text: str) -> None:
        """Say something about a version besides its state; an empty text takes it away. As `tell`.

        Raises:
            Unavailable: MLflow is away.
        """
        info = self._find(model, version)
        if info is None or info.tags.get(NOTICE, "") == text:
            return
        tags = {REASON: "", SINCE: "", STATE: ""} | info.tags
        self._describe(info, tags[STATE], tags[REASON], tags[SINCE], text)
        if text:
            self._store.tag(model, version, {NOTICE: text})
        else:
            self._store.delete_tag(model, version, NOTICE)

    def _find(self, model: str, version: int) -> VersionInfo | None:
        try:
            return self._store.version(model, version)
        except UnknownVersion:
            logger.info("%s:%d is gone from MLflow; it needs no tags", model, version)
            return None

    def _write(self, info: VersionInfo, outcome: Outcome) -> None:
        tags = {
            REASON: outcome.reason[:LONGEST],
            SINCE: outcome.since.isoformat(timespec="seconds"),
            STATE: outcome.state,
            GENERATION: str(outcome.generation),
        }
        notice = info.tags.get(NOTICE, "")
        self._describe(info, outcome.state, outcome.reason, tags[SINCE], notice)
        changed = {key: value for key, value in tags.items() if info.tags.get(key) != value}
        self._store.tag(info.model, info.version, changed)

    def _describe(
        self, info: VersionInfo, state: str, reason: str, since: str, notice: str
    ) -> None:
        ours = outcome_text(info.model, state, reason, since, notice, self._page)
        text = with_outcome(info.description, ours)
        if text is None:
            logger.info("the description of %s:%d is full", info.model, info.version)
        elif text != info.description:
            self._store.describe(info.model, info.version, text)


def outcomes_of(routing: Routing, before: Routing | None) -> dict[int, Outcome]:
    """What a routing says of each of its versions, and of those that it dropped."""
    champion = routing.champion
    found: dict[int, Outcome] = {}
    moved = before is not None and before.champion != champion
    if before is not None:
        if before.standby is not None:
            found[before.standby] = _since(routing, "retired", _took_over(routing))
        if before.challenger is not None and moved:
            found[before.challenger] = _since(
                routing, "withdrawn", f"{_took_over(routing)} That ended its trial."
            )
        elif before.challenger is not None:
            ended = "withdrawn" if routing.actor == MLFLOW_ACTOR else "rejected"
            found[before.challenger] = _since(routing, ended)
        found[before.champion] = _since(routing, "rolled_back")
    if routing.standby is not None:
        why = f"{_took_over(routing)} {routing.reason}"
        found[routing.standby] = _since(routing, "standby", why)
    if routing.challenger is not None:
        share = f"canary:{routing.canary_share * 100:g}"
        found[routing.challenger] = _since(
            routing, share if routing.phase == "canary" else "shadow"
        )
    found[champion] = _since(routing, "serving")
    return found


def _since(routing: Routing, state: str, reason: str = "") -> Outcome:
    return Outcome(state, reason or routing.reason, routing.at, routing.generation)


def _took_over(routing: Routing) -> str:
    return f"Version {routing.champion} took over."


def _kept(info: VersionInfo, outcome: Outcome, routing: Routing, before: Routing | None) -> Outcome:
    """An outcome that the routing before had as well keeps its reason and its time."""
    role = routing.role_of(info.version)
    same = before is not None and role is not None and before.role_of(info.version) == role
    if not same or _state(info) != outcome.state:
        return outcome
    try:
        since = datetime.fromisoformat(info.tags.get(SINCE, ""))
    except ValueError:
        return outcome
    return Outcome(outcome.state, info.tags.get(REASON, ""), since, outcome.generation)


def _state(info: VersionInfo) -> str:
    return info.tags.get(STATE, "")
