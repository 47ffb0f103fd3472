"""What a person does on the page: acknowledge, promote, roll back. Each is confirmed first.

The same functions as the JSON routes', with the token's holder as actor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from homeostat.errors import InvalidRequest, NoTarget
from registry.promotion import Decision, decide
from registry.release_history import known_digest
from registry.routing import Routing, current_routing
from serving.access import Caller
from serving.gateway import Gateway
from serving.page.doors import number_of, text_of

OVERRIDE_HOURS = 24.0


@dataclass(frozen=True)
class Change:
    """A change of traffic that waits to be confirmed.

    Args:
        now: When it was looked at.
        model: Of which model.
        action: `promote` or `rollback`.
        routing: In force.
        version: That is to take all traffic.
        decision: Whether its gates let it; None for a rollback, which asks none.
        may_override: Whether who asks may set them aside.
        command: What does the same on the command line.
    """

    now: datetime
    model: str
    action: str
    routing: Routing
    version: int
    decision: Decision | None
    may_override: bool
    command: str

    @property
    def held(self) -> bool:
        """Whether it goes only past the gates."""
        return self.decision is not None and self.decision.action == "restore"


def promotion(gateway: Gateway, caller: Caller, model: str, version: int) -> Change:
    """What promoting a version would do, and whether it may be.

    Raises:
        UnknownModel, Forbidden: not for them.
        NoTarget: nothing serves, so there is nothing to replace.
        Unavailable: the database is away.
    """
    gateway.access.require(caller, "promote", model)
    parts, now = gateway.parts, gateway.parts.clock()
    with parts.reading() as session:
        routing = _present(current_routing(session, model), model)
        digest = known_digest(session, model, version)
        decision = decide(session, parts.policy(model), model, version, digest, now)
    override = " --override" if decision.action == "restore" else ""
    command = f"homeostat promote {model} --version {version}{override} --reason 'why'"
    may = "admin" in caller.verbs
    return Change(now, model, "promote", routing, version, decision, may, command)


def rollback(gateway: Gateway, caller: Caller, model: str) -> Change:
    """What rolling back would do.

    Raises:
        UnknownModel, Forbidden: not for them.
        NoTarget: there is no standby.
        Unavailable: the database is away.
    """
    gateway.access.require(caller, "rollback", model)
    with gateway.parts.reading() as session:
        routing = _present(current_routing(session, model), model)
    if routing.standby is None:
        raise NoTarget(
            f"'{model}' has no standby to give the traffic back to.",
            remedy="Promote a version that was good before.",
            model=model,
        )
    command = f"homeostat rollback {model} --reason 'why'"
    now, version = gateway.parts.clock(), routing.standby
    return Change(now, model, "rollback", routing, version, None, False, command)


def promote(gateway: Gateway, caller: Caller, model: str, fields: Mapping[str, str]) -> None:
    """Make a version champion, and wait until the answers show it.

    Raises:
        HomeostatError: as the JSON route.
    """
    gateway.access.require(caller, "promote", model)
    override = fields.get("override") == "yes"
    if override:  # past the gates and past other people's approval
        gateway.access.require(caller, "admin", model)
    routing = gateway.moves.request(
        model,
        number_of(fields, "version"),
        caller.name,
        text_of(fields, "reason"),
        override=override,
        expires_hours=OVERRIDE_HOURS,
        expected=number_of(fields, "generation"),
    )
    gateway.prover.wait(routing)


def roll_back(gateway: Gateway, caller: Caller, model: str, fields: Mapping[str, str]) -> None:
    """Give the traffic back to the standby, and wait until the answers show it.

    Raises:
        HomeostatError: as the JSON route.
    """
    gateway.access.require(caller, "rollback", model)
    reason, generation = text_of(fields, "reason"), number_of(fields, "generation")
    routing = gateway.moves.roll_back(model, caller.name, reason, generation)
    gateway.prover.wait(routing)


def version_of(said: str) -> int:
    """A version's number in an address.

    Raises:
        InvalidRequest: it is none.
    """
    if not (said.isascii() and said.isdigit() and 0 < int(said[:10]) < 2**31):
        raise InvalidRequest(f"'{said[:40]}' is no version.", remedy="Give its number.")
    return int(said)


def _present(routing: Routing | None, model: str) -> Routing:
    if routing is None:
        raise NoTarget(
            f"Nothing serves '{model}' yet.", remedy=f"homeostat train {model}", model=model
        )
    return routing
