"""What a person does on the page: promote, roll back, steer a trial. Each is confirmed first.

The same functions as the JSON routes', with the token's holder as actor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from shlex import quote

from homeostat.errors import InvalidRequest, NoTarget
from registry.promotion import Decision, decide
from registry.release_history import known_digest
from registry.routing import Routing, current_routing
from registry.trials import no_trial
from serving.access import Caller
from serving.gateway import Gateway
from serving.handlers import NotFound
from serving.page.doors import number_of, text_of
from serving.steering import ACTIONS, Wanted

OVERRIDE_HOURS = 24.0


@dataclass(frozen=True)
class Change:
    """A change of traffic, or of a trial, that waits to be confirmed.

    Args:
        now: When it was looked at.
        model: Of which model.
        title: What is asked.
        button: What does it.
        told: What it would do, in sentences.
        routing: In force; None: it is about no routing.
        version: That it is about; 0: about none.
        decision: Whether its gates let it; None where none are asked.
        overridable: Whether gates can be set aside for it.
        may_override: Whether who asks may do that.
        command: What does the same on the command line.
    """

    now: datetime
    model: str
    title: str
    button: str
    told: tuple[str, ...]
    routing: Routing | None
    version: int
    decision: Decision | None
    overridable: bool
    may_override: bool
    command: str
    lasts: bool = False
    """Whether it is asked how long."""

    @property
    def held(self) -> bool:
        """Whether its gates keep it back."""
        return self.decision is not None and self.decision.action == "restore"


@dataclass(frozen=True)
class Steer:
    """What a person may do to a trial: who may, what it is called, what it does."""

    verb: str
    button: str
    does: str
    gated: bool = False


STEERS = {
    "start": Steer("promote", "Try", "It answers unseen first, then earns its share.", True),
    "pause": Steer("rollback", "Pause", "It stays where it is and its time stands still."),
    "resume": Steer("rollback", "Resume", "It goes on from where it was held."),
    "skip": Steer("promote", "Skip", "It takes its next step without the test's word.", True),
    "abort": Steer("rollback", "Abort", "It ends, and the champion answers as before."),
}


def promotion(gateway: Gateway, caller: Caller, model: str, version: int) -> Change:
    """What promoting a version would do, and whether it may be.

    Raises:
        UnknownModel, Forbidden: not for them.
        NoTarget: nothing serves, so there is nothing to replace.
        Unavailable: the database is away.
    """
    gateway.access.require(caller, "promote", model)
    routing, decision = _looked(gateway, model, version)
    old = routing.champion
    told = [
        f"Version {old} serves already."
        if old == version
        else f"Version {version} takes all traffic from version {old} with the next batch, which "
        "stays warm as standby. No request is lost."
    ]
    if routing.challenger not in (None, version):
        told.append(f"The trial of version {routing.challenger} ends.")
    override = " --override" if decision.action == "restore" else ""
    return Change(
        now=gateway.parts.clock(),
        model=model,
        title=f"Promote version {version} of {model}?",
        button="Promote",
        told=tuple(told),
        routing=routing,
        version=version,
        decision=decision,
        overridable=True,
        may_override="admin" in caller.of(model),
        command=f"homeostat promote {quote(model)} --version {version}{override} --reason 'why'",
    )


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
    told = [
        f"Version {routing.standby} takes all traffic from version {routing.champion} with the "
        "next batch. No request is lost."
    ]
    if routing.challenger is not None:
        told.append(f"The trial of version {routing.challenger} ends.")
    return Change(
        now=gateway.parts.clock(),
        model=model,
        title=f"Roll {model} back to version {routing.standby}?",
        button="Roll back",
        told=tuple(told),
        routing=routing,
        version=routing.standby,
        decision=None,
        overridable=False,
        may_override=False,
        command=f"homeostat rollback {quote(model)} --reason 'why'",
    )


def steering(gateway: Gateway, caller: Caller, model: str, action: str, version: int = 0) -> Change:
    """What an act upon a trial would do.

    Raises:
        NotFound: there is no such act.
        UnknownModel, Forbidden: not for them.
        NoTarget: nothing serves.
        Refused: there is no trial.
        Unavailable: the database is away.
    """
    steer = steer_of(action)
    gateway.access.require(caller, steer.verb, model)
    with gateway.parts.reading() as session:
        routing = _present(current_routing(session, model), model)
    tried = version if action == "start" else routing.challenger
    if tried is None:
        raise no_trial(model)
    told = [f"{steer.does} Version {routing.champion} is champion meanwhile."]
    if action == "start" and routing.challenger is not None:
        told.append(f"Version {routing.challenger}, on trial now, gives way.")
    if action == "skip":
        goes = "into canary" if routing.phase == "shadow" else "to all traffic"
        told.append(f"From {routing.phase} {goes}.")
    of = f" --version {version}" if action == "start" else ""
    return Change(
        now=gateway.parts.clock(),
        model=model,
        title=f"{steer.button} the trial of version {tried} of {model}?"
        if action != "start"
        else f"Try version {tried} of {model} against version {routing.champion}?",
        button=steer.button,
        told=tuple(told),
        routing=routing,
        version=tried,
        decision=_looked(gateway, model, tried)[1] if steer.gated else None,
        overridable=False,
        may_override=False,
        command=f"homeostat rollout {action} {quote(model)}{of} --reason 'why'",
    )


def steer_of(action: str) -> Steer:
    """An act upon a trial.

    Raises:
        NotFound: there is none of that name.
    """
    if action not in STEERS:
        raise NotFound("There is no such act.", remedy=f"Acts are {', '.join(STEERS)}.")
    return STEERS[action]


def steer(
    gateway: Gateway, caller: Caller, model: str, action: str, fields: Mapping[str, str]
) -> None:
    """Act upon a trial, and wait until the answers show it.

    Raises:
        HomeostatError: as the JSON route.
    """
    gateway.access.require(caller, steer_of(action).verb, model)
    wanted = Wanted(
        model,
        caller.name,
        text_of(fields, "reason"),
        number_of(fields, "generation"),
        number_of(fields, "version"),
    )
    routing = ACTIONS[action](gateway.steering, wanted)
    if action not in ("pause", "resume"):  # these move no traffic
        gateway.prover.wait(routing)


def _looked(gateway: Gateway, model: str, version: int) -> tuple[Routing, Decision]:
    """The routing in force, and whether gates and quarantine let a version take traffic."""
    parts = gateway.parts
    with parts.reading() as session:
        routing = _present(current_routing(session, model), model)
        digest = known_digest(session, model, version)
        policy = parts.policy(model)
        return routing, decide(session, policy, model, version, digest, parts.clock())


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
