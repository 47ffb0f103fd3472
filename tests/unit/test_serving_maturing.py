from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from registry.losses import LabelledLoss
from serving.maturing import Maturing

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ROWS = [LabelledLoss(NOON + timedelta(seconds=n), {1: float(n % 2)}) for n in range(50)]


def test_losses_ripen_by_age_in_the_order_of_their_predictions() -> None:
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    maturing = Maturing()
    maturing.add("digits", 1, shuffled[:30])
    maturing.add("digits", 1, shuffled[30:])
    assert maturing.ripe("digits", NOON - timedelta(seconds=1)) == []
    assert maturing.ripe("digits", NOON + timedelta(seconds=9)) == [(1, ROWS[:10])]
    assert maturing.ripe("digits", NOON + timedelta(seconds=9)) == []
    maturing.add("digits", 1, ROWS[:3])  # labels later than the policy foresaw count at once
    assert maturing.ripe("digits", NOON + timedelta(seconds=10)) == [(1, [*ROWS[:3], ROWS[10]])]


def test_models_are_held_apart_and_forgotten_apart() -> None:
    maturing = Maturing()
    maturing.add("digits", 1, ROWS[:2])
    maturing.add("table", 1, ROWS[2:4])
    maturing.forget("digits")
    maturing.forget("unheard-of")
    late = NOON + timedelta(days=1)
    assert maturing.ripe("digits", late) == []
    assert maturing.ripe("table", late) == [(1, ROWS[2:4])]


def test_ripe_losses_say_under_which_routing_their_labels_came() -> None:
    maturing = Maturing()
    maturing.add("digits", 1, ROWS[:4])
    maturing.add("digits", 2, ROWS[4:6])
    late = NOON + timedelta(days=1)
    assert maturing.ripe("digits", late) == [(1, ROWS[:4]), (2, ROWS[4:6])]
