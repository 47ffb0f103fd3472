"""Prototype heads (RanPAC): class sums and one Gram matrix over a frozen encoding, solved anew.

McDonnell et al. 2023, *RanPAC: random projections and pre-trained models for continual learning*,
section 4. For the learner `prototypes`, whose head keeps the sums: `models.ridge_head` has the
equations. The new rows are added and the weights are what all rows at once would give; the memory
is not read.

    G += sum z z^T,  S += sum one_hot(y) z^T,  W = S (G + penalty I)^-1
"""

from __future__ import annotations

from homeostat.errors import SettingsError
from models.learner import FitReport
from models.prototypes import Prototypes
from models.strategies.contract import Training


def prototypes(training: Training) -> FitReport:
    """As `Strategy`.

    Raises:
        SettingsError: the learner's head keeps no sums.
    """
    if not isinstance(training.learner, Prototypes):
        raise SettingsError(
            f"The head of the learner {type(training.learner).__name__} is trained by steps, and"
            " keeps no prototypes.",
            remedy='Use replay, or train a model with the learner "prototypes".',
        )
    return training.fit(None)
