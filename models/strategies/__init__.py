"""Ways to learn something new without losing what was learnt, each in a file with its source."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from models.strategies.averaged_replay import averaged_replay
from models.strategies.contract import Strategy, Training
from models.strategies.der_plus_plus import der_plus_plus
from models.strategies.distillation import distillation
from models.strategies.er_ace import er_ace
from models.strategies.ewc import ewc
from models.strategies.fine_tune import fine_tune
from models.strategies.full import full
from models.strategies.head_only import head_only
from models.strategies.prototypes import prototypes
from models.strategies.renewal import renewal
from models.strategies.replay import replay
from models.strategies.weight_averaging import weight_averaging

__all__ = ["STRATEGIES", "Strategy", "Training"]

STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "replay": replay,
        "averaged-replay": averaged_replay,
        "fine-tune": fine_tune,
        "er-ace": er_ace,
        "der++": der_plus_plus,
        "distillation": distillation,
        "ewc": ewc,
        "weight-averaging": weight_averaging,
        "head-only": head_only,
        "prototypes": prototypes,
        "full": full,
        "renewal": renewal,
    }
)
