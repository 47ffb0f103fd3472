"""The detectors of one model, each taken up where a gateway saved it, or made afresh."""

from __future__ import annotations

import logging
from typing import TypeVar

from homeostat.errors import HomeostatError
from homeostat.policy import Policy
from monitoring.inputs import InputDetector
from monitoring.losses import LossDetector
from monitoring.profile import Profile
from monitoring.sequential import GuardDetector, PairedTest

Kept = TypeVar("Kept", InputDetector, LossDetector, GuardDetector, PairedTest)

logger = logging.getLogger(__name__)


def input_detector(profile: Profile, policy: Policy, state: str | None = None) -> InputDetector:
    """Whether the inputs of a version left its profile."""
    rules = policy.monitor
    return _read(InputDetector, state) or InputDetector(
        profile, rules.budget_predictions, rules.tolerance_inputs
    )


def loss_detector(profile: Profile, policy: Policy, state: str | None = None) -> LossDetector:
    """Whether the losses of a version left its profile."""
    rules = policy.monitor
    return _read(LossDetector, state) or LossDetector(
        profile.loss_reference, rules.budget_labels, rules.tolerance_loss
    )


def guard_detector(policy: Policy, state: str | None = None) -> GuardDetector:
    """Whether the champion is worse than its standby."""
    rules = policy.rollback
    return _read(GuardDetector, state) or GuardDetector(rules.budget_labels, rules.tolerance)


def paired_test(policy: Policy, state: str | None = None) -> PairedTest:
    """Whether the challenger is not worse than the champion, or worse."""
    rules = policy.rollout
    return _read(PairedTest, state) or PairedTest(rules.margin, rules.error_rate)


def _read(kind: type[Kept], state: str | None) -> Kept | None:
    """A saved detector, or None where there is none that fits."""
    if state is None:
        return None
    try:
        return kind.from_json(state)
    except HomeostatError as error:
        logger.warning("a saved detector is left out: %s", error)
        return None
