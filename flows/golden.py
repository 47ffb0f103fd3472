"""Golden rows: a few held-out rows with the outputs that the candidate gave when it was judged.

They lie in the artifact. Whoever loads the version asks them again: a host whose libraries or
processor make other numbers of the same weights refuses it before it takes traffic.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from torch import nn

from models.learner import Learner, Row
from models.torch_learner import guarded

GOLDEN_FILE = "golden.json"
GOLDEN_ROWS = 8
_DECIMALS = 6  # beyond the tolerance that they are compared with


def golden(learner: Learner, module: nn.Module, rows: Sequence[Row]) -> bytes:
    """The first rows with their outputs (N, C), as JSON.

    Raises:
        LearnerError: the learner failed on them.
    """
    chosen = list(rows[:GOLDEN_ROWS])
    outputs = guarded(learner.predict, module.eval(), guarded(learner.encode, chosen))
    values = np.asarray(outputs, dtype=np.float64).round(_DECIMALS).tolist()
    return json.dumps({"rows": chosen, "outputs": values}, sort_keys=True).encode()
