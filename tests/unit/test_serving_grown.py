"""A version with more classes than the champion, or fewer, may take its place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from homeostat.errors import ArtifactError
from models import Digits, Label
from monitoring.profile import Profile
from serving.runtime import Loaded, check_recent

ROWS = [[float(place % 17) for place in range(64)]] * 2


def loaded(version: int, classes: tuple[Label, ...]) -> Loaded:
    learner = Digits(classes=classes, channels=0, hidden=4)
    module = learner.build(torch.Generator().manual_seed(version))
    profile = Profile.from_reference(
        learner.features, "classification", np.zeros((4, 64)), np.zeros(4), np.ones(4), np.zeros(4)
    )
    return Loaded("m", version, f"d{version}", learner, module, profile, f"{version}")


def test_classes_after_those_of_the_champion_are_no_other_task() -> None:
    narrow, wide = loaded(1, (0, 1)), loaded(2, (0, 1, 7))
    check_recent(wide, ROWS, narrow)
    check_recent(narrow, ROWS, wide)


def test_other_classes_of_another_number_are_another_task() -> None:
    with pytest.raises(ArtifactError, match="gives 3 outputs a row, the champion 2"):
        check_recent(loaded(2, (1, 0, 7)), ROWS, loaded(1, (0, 1)))
