"""How a challenger earns its traffic: shadow, canary, all; or its trial ends.

The sequential test decides, by labelled rows that both versions answered; the clock alone only
ends a trial, or leaves it to a person. A trial that somebody paused goes no further and has no
deadline; what does harm is ended all the same. Only a policy in mode `act` has anything moved here.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from homeostat.errors import HomeostatError, StaleGeneration
from monitoring.allocation import next_share
from registry.incidents import note, open_incidents
from registry.routing import Routing
from registry.trials import PAUSED, TrialRecord, steer_trial, trial_of
from serving.advice import promote_command, rollout_commands
from serving.detectors import Trial
from serving.fleet import Split
from serving.lease import Acting
from serving.moves import ROLLOUT_ACTOR, Moves
from serving.parts import Parts
from serving.telling import Teller

TOLERATED_FAILURES = 3  # requests that a challenger may fail before its trial ends

SHARE_REST = timedelta(seconds=60)  # between two moves of a canary's share

logger = logging.getLogger(__name__)


class Rollout:
    """Moves trials on.

    Args:
        parts: The gateway's.
        moves: Changes the routing.
        teller: Tells on-call.
        acting: Opens the transactions that write.
    """

    def __init__(self, parts: Parts, moves: Moves, teller: Teller, acting: Acting) -> None:
        self._parts = parts
        self._moves = moves
        self._teller = teller
        self._acting = acting
        self._recommended: set[tuple[str, int, str]] = set()

    def step(self, model: str, routing: Routing) -> None:
        """Move the trial of a model on by one step, if it is time.

        Raises:
            Unavailable: the database is away; the next step finds the same.
        """
        split = self._parts.fleet.get(model)
        if routing.challenger is None or split is None or split.generation != routing.generation:
            return
        watch = self._parts.watches[model]
        trial = watch.trial
        if trial is None or split.challenger is None:
            self._give_up(routing, "The challenger could not be loaded.", None)
            return
        try:
            self._move(model, routing, split, trial)
        except StaleGeneration as error:
            logger.info("%s: %s", model, error)

    def _move(self, model: str, routing: Routing, split: Split, trial: Trial) -> None:
        watch, rules = self._parts.watches[model], self._parts.policy(model).rollout
        assert split.challenger is not None
        failures = watch.challenger_failures
        if failures >= TOLERATED_FAILURES:
            self._abort(routing, f"The challenger failed {failures} requests.", trial, failed=True)
            return
        if trial.decision == "worse":
            self._abort(routing, f"The challenger is worse than the champion{_said(trial)}.", trial)
            return
        course = self._course(routing)
        if course.paused_at is not None:
            return
        # While automation is paused its deadline waits, as what follows it would.
        late = course.took > timedelta(seconds=rules.deadline_seconds)
        if late and self._parts.pause(model) is None:
            text = f"No verdict after {course.took.total_seconds():.0f} s{_said(trial)}."
            if rules.inconclusive == "hold":
                self._hold(routing, text)
            else:
                self._abort(routing, text, trial)
            return
        if routing.phase == "canary" and self._reshare(routing, split, trial):
            return
        if trial.decision != "not-worse":
            return
        if self._parts.policy(model).mode != "act":
            text = f"Version {routing.challenger} has earned its traffic{_said(trial)}."
            assert routing.challenger is not None
            self._recommend(routing, text, promote_command(model, routing.challenger))
            return
        if routing.phase == "shadow":
            reason = f"Not worse than the champion in shadow{_said(trial)}."
            self._moves.start_canary(split.challenger, routing, reason, _figures(trial, 0))
            self._story(model, f"Version {routing.challenger} goes into canary. {reason}")
        elif watch.challenger_answers >= rules.canary_predictions:
            answered = watch.challenger_answers
            reason = (
                f"Not worse than the champion{_said(trial)}, and {answered} callers' rows "
                "answered in canary."
            )
            self._moves.finish_trial(split.challenger, routing, reason, _figures(trial, answered))

    def _reshare(self, routing: Routing, split: Split, trial: Trial) -> bool:
        """Let the share of a canary follow what is known, where the policy says so."""
        policy, now = self._parts.policy(routing.model), self._parts.clock()
        if policy.mode != "act" or policy.rollout.allocation != "thompson":
            return False
        if now - routing.at < SHARE_REST:
            return False
        share = round(next_share(routing.canary_share, trial.better), 2)
        if share == routing.canary_share:
            return False
        assert split.challenger is not None
        reason = (
            f"It gets {share:.0%} of the traffic: the better one with a probability of "
            f"{trial.better:.1%}{_said(trial)}."
        )
        figures = _figures(trial, self._parts.watches[routing.model].challenger_answers)
        self._moves.start_canary(split.challenger, routing, reason, figures, share=share)
        return True

    def _abort(
        self, routing: Routing, reason: str, trial: Trial | None, *, failed: bool = False
    ) -> None:
        """End a trial, if that may be; `failed`: it harms callers, so that no pause keeps it."""
        model, version = routing.model, routing.challenger
        assert version is not None
        parts = self._parts
        if not (parts.acts_on_failure(model) if failed else parts.policy(model).mode == "act"):
            wish = f"take the alias challenger of {model} away in MLflow"
            self._recommend(routing, f"The trial of version {version} should end: {reason}", wish)
            return
        figures = _figures(trial, 0) if trial is not None else {}
        self._moves.abort_trial(routing, ROLLOUT_ACTOR, reason, figures, bar=False)
        self._teller.tell(
            model,
            version,
            f"The trial of version {version} ended: {reason}",
            done=f"Version {routing.champion} answers all traffic.",
            next_step=f"a new candidate, or to promote this one after all: "
            f"{promote_command(model, version)}",
        )
        logger.warning("%s: the trial of version %d ended: %s", model, version, reason)

    def _give_up(self, routing: Routing, reason: str, trial: Trial | None) -> None:
        """End the trial of a version that cannot be loaded, unless MLflow is only away."""
        assert routing.challenger is not None
        try:
            self._moves.prepare(routing.model, routing.challenger)
        except HomeostatError as error:
            if error.code != "unavailable":
                self._abort(routing, f"{reason} {error}", trial)

    def _hold(self, routing: Routing, reason: str) -> None:
        """Leave a trial without a verdict to a person: that is what its policy wants."""
        model, version, now = routing.model, routing.challenger, self._parts.clock()
        assert version is not None
        with self._acting() as session:
            steer_trial(
                session,
                model,
                PAUSED,
                ROLLOUT_ACTOR,
                reason,
                now,
                expected=routing.generation,
                at_deadline=True,
            )
        self._teller.tell(
            model,
            version,
            f"The trial of version {version} is held: {reason}",
            done="The traffic stays as it is.",
            next_step=f"somebody has to say how it goes on: {rollout_commands(model)}",
        )
        logger.warning("%s: the trial of version %d is held: %s", model, version, reason)

    def _course(self, routing: Routing) -> TrialRecord:
        with self._parts.reading() as session:
            found = trial_of(session, routing, self._parts.clock())
        assert found is not None  # there is a challenger
        return found

    def _story(self, model: str, text: str) -> None:
        with self._acting() as session:
            for incident in open_incidents(session, model):
                note(session, incident.id, text, self._parts.clock())

    def _recommend(self, routing: Routing, text: str, wish: str) -> None:
        """Say once what the policy leaves to a person; `observe` only watches."""
        model, mode = routing.model, self._parts.policy(routing.model).mode
        key = (model, routing.generation, wish)
        if mode == "observe" or key in self._recommended:
            return
        self._recommended.add(key)
        assert routing.challenger is not None
        step = f"it is left to you: {wish}"
        self._teller.tell(model, routing.challenger, text, next_step=step)


def _said(trial: Trial) -> str:
    return f" (loss difference {trial.low:+.3f} to {trial.high:+.3f} on {trial.rows} labelled rows)"


def _figures(trial: Trial, answered: int) -> dict[str, Any]:
    return {
        "decision": trial.decision,
        "rows": trial.rows,
        "low": trial.low,
        "high": trial.high,
        "better": trial.better,
        "canary_rows": answered,
    }
