"""What labels say of rows of no known class, whatever was sent as a label."""

from __future__ import annotations

from models import Digits
from serving.open_set import told_by

LEARNER = Digits(classes=(0, 1, 2), channels=0, hidden=4)


def test_labels_of_classes_that_the_champion_lacks_are_counted() -> None:
    told = told_by(LEARNER, [0, 1, 2.0, "2", 7, "seven"])
    assert told is not None
    assert (told.labels, told.unseen) == (6, 2)


def test_labels_that_are_no_truth_at_all_are_left_out() -> None:
    """They are kept where they came before their prediction, and must not hide the others."""
    told = told_by(LEARNER, [{"digit": 1}, None, 1, [2], 9])
    assert told is not None
    assert (told.labels, told.unseen) == (2, 1)
    assert told_by(LEARNER, [None, []]) is None
    assert told_by(LEARNER, []) is None
