"""How a challenger earns its traffic: shadow, canary, all; or its trial ends.

The sequential test decides, by labelled rows that both versions answered; never the clock alone.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from homeostat.errors import HomeostatError, StaleGeneration
from registry.incidents import note, open_incidents
from registry.release_history import releases
from registry.routing import Routing
from serving.fleet import Split
from serving.moves import ROLLOUT_ACTOR, Moves
from serving.parts import Parts
from serving.watch import Trial

TOLERATED_FAILURES = 3  # requests that a challenger may fail before its trial ends

logger = logging.getLogger(__name__)


class Rollout:
    """Moves trials on.

    Args:
        parts: The gateway's.
        moves: Changes the routing.
    """

    def __init__(self, parts: Parts, moves: Moves) -> None:
        self._parts = parts
        self._moves = moves
        self._ready: set[tuple[str, int]] = set()

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
            self._abort(routing, f"The challenger failed {failures} requests.", trial)
            return
        if trial.decision == "worse":
            self._abort(routing, f"The challenger is worse than the champion{_said(trial)}.", trial)
            return
        age = self._parts.clock() - self._begun(routing)
        if age > timedelta(seconds=rules.deadline_seconds):
            text = f"No verdict after {age.total_seconds():.0f} s{_said(trial)}."
            self._abort(routing, text, trial)
            return
        if trial.decision != "not-worse":
            return
        if self._parts.policy(model).mode != "act":
            self._recommend(model, routing)
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

    def _abort(self, routing: Routing, reason: str, trial: Trial | None) -> None:
        figures = _figures(trial, 0) if trial is not None else {}
        self._moves.abort_trial(routing, ROLLOUT_ACTOR, reason, figures, bar=False)
        text = f"The trial of version {routing.challenger} ended: {reason}"
        self._story(routing.model, text)
        logger.warning("%s: %s", routing.model, text)

    def _give_up(self, routing: Routing, reason: str, trial: Trial | None) -> None:
        """End the trial of a version that cannot be loaded, unless MLflow is only away."""
        assert routing.challenger is not None
        try:
            self._moves.prepare(routing.model, routing.challenger)
        except HomeostatError as error:
            if error.code != "unavailable":
                self._abort(routing, f"{reason} {error}", trial)

    def _begun(self, routing: Routing) -> datetime:
        with self._parts.reading() as session:
            every = releases(session, routing.model)
        trials = [one for one in every if one.role == "challenger" and one.to_at is None]
        return trials[-1].from_at if trials else routing.at

    def _story(self, model: str, text: str) -> None:
        with self._parts.writing() as session:
            for incident in open_incidents(session, model):
                note(session, incident.id, text, self._parts.clock())

    def _recommend(self, model: str, routing: Routing) -> None:
        key = (model, routing.generation)
        if key not in self._ready:
            self._ready.add(key)
            self._story(
                model,
                f"Version {routing.challenger} has earned its traffic; the policy leaves it to "
                f"you: homeostat promote {model} --version {routing.challenger}",
            )


def _said(trial: Trial) -> str:
    return f" (loss difference {trial.low:+.3f} to {trial.high:+.3f} on {trial.rows} labelled rows)"


def _figures(trial: Trial, answered: int) -> dict[str, Any]:
    return {
        "decision": trial.decision,
        "rows": trial.rows,
        "low": trial.low,
        "high": trial.high,
        "canary_rows": answered,
    }
