"""One model's policy: what may happen by itself, with which budgets.

Every field has a default that works; `[models.NAME]` in homeostat.toml changes it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0.0)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GatePolicy(_Table):
    """What a candidate must show before it may take traffic."""

    min_accuracy: Share = 0.8  # 1 - mean loss on its own newest held-out rows
    forgetting: Share = 0.03  # how much worse than the champion on any earlier regime
    error_rate: Share = 0.05  # of each paired test


class MonitorPolicy(_Table):
    """False-alarm budgets and tolerances."""

    budget_predictions: Count = 100_000  # at most one false input alarm in so many predictions
    budget_labels: Count = 100_000  # at most one false accuracy alarm in so many labels
    tolerance_inputs: Share = 0.1  # total variation of one feature that is not worth a page
    tolerance_loss: Share = 0.02  # rise of the mean loss that is not worth a page


class RetrainPolicy(_Table):
    """When and how to learn from what changed."""

    strategy: Literal["replay", "fine-tune"] = "replay"
    min_labels: Count = 300  # labelled rows since the change before it is worth learning
    memory_rows: Count = 600
    epochs: Count = 15
    seconds: Seconds = 300.0
    cool_down_seconds: Annotated[float, Field(ge=0.0)] = 300.0
    max_per_day: Count = 12
    holdout: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3  # of the new rows, frozen to judge by


class RolloutPolicy(_Table):
    """How a challenger earns its traffic: shadow, then canary, then all."""

    margin: Share = 0.02  # how much worse than the champion still counts as not worse
    error_rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    canary_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    canary_predictions: Count = 200  # answers given by the challenger before it may take all
    deadline_seconds: Seconds = 86_400.0  # without a verdict by then: aborted, said so


class RollbackPolicy(_Table):
    """When traffic goes back to the standby."""

    budget_labels: Count = 100_000  # at most one false rollback in so many labels
    tolerance: Share = 0.02  # how much worse than the standby is not worth a move
    standby_share: Share = 1.0  # of the traffic that the standby answers in shadow


class Policy(_Table):
    """All that one model's owner decides."""

    learner: str = "digits"  # a name of the entry-point group homeostat.learners, or module:Class
    learner_config: dict[str, object] = Field(default_factory=dict)
    data: str = "builtin:digits"  # or a path to Parquet or CSV
    label: str = "label"  # the column of the data that holds the truth
    seed: int = 0
    epochs: Count = 30
    schedule: str = ""  # cron of the pipeline; empty: by hand
    mode: Literal["observe", "recommend", "act"] = "act"
    alias_moves: Literal["enforce", "warn", "override"] = "enforce"
    gates: GatePolicy = GatePolicy()
    monitor: MonitorPolicy = MonitorPolicy()
    retrain: RetrainPolicy = RetrainPolicy()
    rollout: RolloutPolicy = RolloutPolicy()
    rollback: RollbackPolicy = RollbackPolicy()
    alerts: tuple[str, ...] = ()  # http(s) addresses take CloudEvents; others go through Apprise
