"""What a person does to a trial: begin it, pause it, let it go on, skip a step, end it.

Any gateway may be asked. Each act is a line of the ledger with who and why; of two at once the
first wins, and the other is told by whom.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from homeostat.errors import GateRefused, HomeostatError, Refused
from registry.incident_signals import subject_of
from registry.incidents import note, open_incidents
from registry.routing import Routing, current_routing, expect
from registry.trials import PAUSED, RUNNING, no_trial, steer_trial
from serving.moves import Moves
from serving.parts import Parts
from serving.runtime import Loaded

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What somebody wants of a trial.

    Args:
        model: The model's name.
        actor: Who.
        reason: Why.
        expected: Only while this generation serves; None: whichever does.
        version: That is to be tried, of a beginning.
    """

    model: str
    actor: str
    reason: str
    expected: int | None = None
    version: int = 0


class Steering:
    """Steers trials.

    Args:
        parts: The gateway's.
        moves: Changes the routing.
    """

    def __init__(self, parts: Parts, moves: Moves) -> None:
        self._parts = parts
        self._moves = moves

    def start(self, wanted: Wanted) -> Routing:
        """Try a version against the champion; one on trial gives way, and is judged no more.

        Raises:
            GateRefused: gates or a quarantine forbid it.
            Refused: it answers already, or no version does.
            HomeostatError: it cannot be loaded, or another generation serves.
        """
        model, version = wanted.model, wanted.version
        before = self._present(wanted)
        if before is None or version in (before.champion, before.challenger):
            role = before.role_of(version) if before is not None else None
            raise Refused(
                f"Version {version} of '{model}' is {role} already."
                if role
                else f"No version of '{model}' answers yet: there is nothing to try it against.",
                remedy="Try another version." if role else "Promote a first version.",
                model=model,
            )
        loaded = self._moves.prepare(model, version)
        self._check_gates(model, loaded)
        return self._moves.start_trial(loaded, before, wanted.actor, wanted.reason)

    def pause(self, wanted: Wanted) -> Routing:
        """Hold a trial where it is: its evidence grows on, its time stands still.

        Raises:
            Refused: there is no trial, or it is paused.
            StaleGeneration: another generation serves.
        """
        return self._steer(wanted, PAUSED)

    def resume(self, wanted: Wanted) -> Routing:
        """Let a paused trial go on. Raises as `pause`."""
        return self._steer(wanted, RUNNING)

    def skip(self, wanted: Wanted) -> Routing:
        """Take the next step without the test's word for it: to canary, or to all traffic.

        Raises:
            Refused: there is no trial, or the challenger is not loaded here.
            GateRefused: gates or a quarantine forbid it by now.
            StaleGeneration: another generation serves.
        """
        before = self._trial(wanted)
        assert before.challenger is not None
        loaded = self._moves.prepare(wanted.model, before.challenger)
        self._check_gates(wanted.model, loaded)
        trial = self._parts.watches[wanted.model].trial
        figures = {"skipped": before.phase} | (vars(trial) if trial is not None else {})
        step = self._moves.start_canary if before.phase == "shadow" else self._moves.finish_trial
        return step(loaded, before, wanted.reason, figures, wanted.actor)

    def abort(self, wanted: Wanted) -> Routing:
        """End a trial with the champion as it was. Raises as `pause`."""
        before = self._trial(wanted)
        trial = self._parts.watches[wanted.model].trial
        figures = dict(vars(trial)) if trial is not None else {}
        return self._moves.abort_trial(before, wanted.actor, wanted.reason, figures, bar=False)

    def _steer(self, wanted: Wanted, state: str) -> Routing:
        parts = self._parts
        with parts.writing() as session:
            routing = steer_trial(
                session,
                wanted.model,
                state,
                wanted.actor,
                wanted.reason,
                parts.clock(),
                expected=wanted.expected,
            )
        parts.wake.set()
        return routing

    def _present(self, wanted: Wanted) -> Routing | None:
        with self._parts.reading() as session:
            if wanted.expected is not None:
                expect(session, wanted.model, wanted.expected)
            return current_routing(session, wanted.model)

    def _trial(self, wanted: Wanted) -> Routing:
        before = self._present(wanted)
        if before is None or before.challenger is None:
            raise no_trial(wanted.model)
        return before

    def _check_gates(self, model: str, loaded: Loaded) -> None:
        decision = self._moves.judge(model, loaded.version, loaded.digest)
        if decision.action == "restore":
            raise GateRefused(
                f"Version {loaded.version} of '{model}' may not take traffic. {decision.reason}",
                remedy="Mend the version, or grant an override with a reason and an end.",
                model=model,
                version=loaded.version,
            )


ACTIONS: dict[str, Callable[[Steering, Wanted], Routing]] = {
    "start": Steering.start,
    "pause": Steering.pause,
    "resume": Steering.resume,
    "skip": Steering.skip,
    "abort": Steering.abort,
}
DONE = {
    "start": "began a trial",
    "pause": "paused the trial",
    "resume": "let the trial go on",
    "skip": "skipped a step of the trial",
    "abort": "ended the trial",
}


def steer(parts: Parts, steering: Steering, action: str, wanted: Wanted) -> Routing:
    """Do what somebody wants of a trial, and say so in the story of what is open.

    Raises:
        HomeostatError: as the action.
    """
    routing = ACTIONS[action](steering, wanted)
    tell_story(parts, wanted.model, f"{wanted.actor} {DONE[action]}: {wanted.reason}")
    return routing


def tell_story(parts: Parts, model: str, text: str) -> None:
    """A line in the story of every open incident of a model; what was done stands without it."""
    try:
        with parts.writing() as session:
            for incident in open_incidents(session, model):
                if not subject_of(incident.details):
                    note(session, incident.id, text, parts.clock())
    except HomeostatError as error:  # it is in the ledger
        logger.warning("a note on %s was lost: %s", model, error)
