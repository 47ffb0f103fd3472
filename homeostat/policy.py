"""One model's policy: what may happen by itself, with which budgets.

Every field has a default that works; `[models.NAME]` in homeostat.toml changes it.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from homeostat.hours import parse_hours

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0.0)]
Line = Annotated[str, Field(max_length=200, pattern=r"^[^\r\n]*$")]
Text = Annotated[str, Field(max_length=4000)]


class _Table(BaseModel):
    # The text below each field is its description in docs/settings.md.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SlicePolicy(_Table):
    """How one column cuts the held-out rows into slices: by its values, or by cut points."""

    values: tuple[str, ...] = ()
    """Each of these values is a slice; a number or truth value is written as JSON writes it."""
    cuts: tuple[float, ...] = ()
    """A numeric column is cut here: `[30, 60]` gives below 30, 30 to 60, and 60 and more."""
    budget: Share = 0.1
    """How much worse than the champion a candidate may be on each of the slices."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.values) == bool(self.cuts):
            raise ValueError("give either values or cuts")
        if any(a >= b for a, b in itertools.pairwise(self.cuts)):
            raise ValueError("cuts must ascend")
        return self


class GatePolicy(_Table):
    """What a candidate must show before it may take traffic."""

    min_accuracy: Share = 0.8
    """1 - mean loss that a candidate must reach on its own newest held-out rows."""
    forgetting: Share = 0.03
    """How much worse than the champion a candidate may be on the newest regime, or any earlier."""
    former_forgetting: Share | None = None
    """The same for earlier regimes, where another bound is meant: 1 where the truth of the same
    rows turns round and what was right there is wrong now. Not set: `forgetting`.
    """
    error_rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    """How often a candidate that is worse than the champion by `forgetting` or more on a regime
    may pass the tests; and how often, over all slices together, one that keeps their
    budgets may be refused.
    """
    class_budget: Share = 0.1
    """How much worse than the champion a candidate may be on the rows of any one class; 1: as much
    as it likes.
    """
    slices: dict[str, SlicePolicy] = Field(default_factory=dict)
    """More slices: one table for each column, `[models.NAME.gates.slices.COLUMN]`.
    `homeostat explain` says of each whether the loss grew more there.
    """
    slice_rows: Count = 30
    """Held-out rows that a slice needs to be judged; with fewer it is only reported."""
    max_latency_ms: Annotated[float, Field(gt=0.0)] | None = 500.0
    """What 99 of 100 single rows must be answered within by the serving code, in milliseconds."""
    max_memory_mb: Annotated[float, Field(gt=0.0)] | None = 2048.0
    """Resident memory that the version may add to the gateway, in MiB."""
    extra: tuple[str, ...] = ()
    """More gates, as module:function, besides those of the entry-point group homeostat.gates."""
    approvals: Annotated[int, Field(ge=0, le=100)] = 0
    """How many people must approve a version's verdict before it may take traffic."""


class MonitorPolicy(_Table):
    """False-alarm budgets and tolerances."""

    budget_predictions: Count = 100_000
    """At most one false input alarm in so many predictions."""
    budget_labels: Count = 100_000
    """At most one false accuracy alarm in so many labels."""
    tolerance_inputs: Share = 0.1
    """A shift of one feature (total variation) that is not worth a page."""
    tolerance_loss: Share = 0.02
    """A rise of the mean loss that is not worth a page."""
    label_delay_seconds: Annotated[float, Field(ge=0.0)] | None = None
    """How old a prediction must be for its label to count as evidence. Not set: labels count in the
    order of their predictions, once nine of ten of these are labelled, or as old as labels were
    seen to take; see docs/labels.md. 0: they count as they come, which breaks the budget where
    those of wrong answers come sooner.
    """
    silent_predictions_seconds: Annotated[float, Field(ge=0.0)] | None = None
    """Pages when no prediction was asked for in so long. Not set: twice the longest pause of the
    last 14 days, once 8 days are known; 0: never.
    """
    silent_labels_seconds: Annotated[float, Field(ge=0.0)] | None = None
    """Opens a ticket when predictions go on and no label came in so long. Not set: twice the
    longest pause of the last 14 days, once 8 days are known; 0: never.
    """
    unwatched_seconds: Annotated[float, Field(ge=0.0)] = 60.0
    """Pages when a tenth or more of what was answered for so long was counted by no monitor;
    0: never.
    """


class RetrainPolicy(_Table):
    """When and how to learn from what changed."""

    strategy: Literal[
        "replay",
        "averaged-replay",
        "fine-tune",
        "er-ace",
        "der++",
        "distillation",
        "ewc",
        "weight-averaging",
        "head-only",
        "prototypes",
        "full",
        "renewal",
        "auto",
    ] = "averaged-replay"
    """How a retrain learns without losing what was learnt: docs/continual.md compares them.
    `auto` tries several and keeps the best by the gates' measures.
    """
    min_labels: Count = 300
    """Labelled rows since the change that a retrain waits for."""
    memory_rows: Count = 600
    """Examples that the replay memory keeps, of all regimes together."""
    memory_bytes: Count | None = None
    """What those examples may take, in bytes: fewer are kept where rows are large. Not set:
    `memory_rows` alone bounds them.
    """
    epochs: Count = 15
    """Passes of a retrain over the new rows, at most."""
    seconds: Seconds = 300.0
    """Wall time of a retrain's training, at most."""
    rows_read: Count | None = None
    """Rows that a retrain's training reads, new and replayed, each as often as it is read, at most.
    Not set: as many as its passes and its time allow.
    """
    patience: Annotated[int, Field(ge=0)] = 0
    """Where it is not 0, a retrain of 500 new rows to learn, or more, sets a tenth of them apart,
    and ends after so many passes in a row without a new lowest loss on those.
    """
    hourly_cost: Annotated[float, Field(ge=0.0)] = 0.0
    """What an hour of training costs, in your money; each version then says what it cost."""
    max_cost: Annotated[float, Field(gt=0.0)] | None = None
    """What one retrain's training may cost by `hourly_cost`, at most."""
    cool_down_seconds: Annotated[float, Field(ge=0.0)] = 300.0
    """Rest between the end of one retrain and the start of the next."""
    max_per_day: Count = 12
    """Retrains started by themselves in 24 hours, at most."""
    max_in_vain: Count = 3
    """After so many in a row that failed, or whose version does not answer, none starts by itself
    for 24 hours, or until somebody retrains by hand; on-call is told.
    """
    holdout: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """Share of the new rows that is frozen to judge by."""
    screen_labels: bool = True
    """Whether labels that are contested, of a source that repeats the model's answers, or of a new
    source that contradicts the others are held back from a retrain until a person has looked.
    """
    new_class_rows: Count = 10
    """Labelled rows since the change that a class never seen before needs to be taken up."""


class RolloutPolicy(_Table):
    """How a challenger earns its traffic: shadow, then canary, then all."""

    margin: Share = 0.02
    """How much worse than the champion still counts as not worse."""
    error_rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    """How often the test between challenger and champion may err."""
    canary_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Of the traffic that a challenger answers in canary."""
    allocation: Literal["fixed", "thompson"] = "fixed"
    """Who answers in a canary: `canary_share` throughout, or, beginning there, the better version
    the more the surer it is (Thompson sampling on the trial's posterior). It changes no verdict.
    """
    canary_predictions: Count = 200
    """Answers that a challenger must give in canary before it may take all."""
    deadline_seconds: Seconds = 86_400.0
    """What a rollout may take, without pauses: without a verdict by then it is inconclusive."""
    inconclusive: Literal["abort", "hold"] = "abort"
    """What becomes of a trial without a verdict at its deadline: it ends, or it is held until a
    person says how it goes on. It is never promoted for lack of data.
    """


class RollbackPolicy(_Table):
    """When traffic goes back to the standby."""

    budget_labels: Count = 100_000
    """At most one false rollback in so many labels."""
    tolerance: Share = 0.02
    """How much worse than the standby is not worth a move."""
    standby_share: Share = 1.0
    """Of the traffic that the standby answers in shadow."""


class CardPolicy(_Table):
    """What only the owner knows of a model, for each version's card and bill of materials."""

    license: Line = "unknown"
    """Of the model: an SPDX expression such as Apache-2.0, or your own words."""
    intended_use: Text = ""
    """What the model is for."""
    not_for: Text = ""
    """What it must not be used for."""
    contact: Line = ""
    """Who answers for it: a name, a team, an address."""
    data_classification: Line = "unknown"
    """How the data is classified in your house: public, internal, personal."""
    pipeline_tag: Line = ""
    """The Hugging Face name of the task; empty: tabular-classification or tabular-regression."""
    tags: tuple[Line, ...] = ()
    """More tags of the card."""


class AlertRoute(_Table):
    """An address of `alerts` that hears of some incidents only, or at some hours."""

    to: str
    """The address."""
    severity: Literal["ticket", "page"] = "ticket"
    """`page`: only of incidents that page, from then on to their end; `ticket`: of all."""
    hours: Line = ""
    """When it may be called, such as `Mon-Fri 08:00-18:00`, `22:00-06:00` or `Sat,Sun`: what arises
    at another time waits until then. Empty: at any time.
    """
    zone: Line = "UTC"
    """Whose clock `hours` are by, such as Europe/Berlin."""

    @model_validator(mode="after")
    def _meant(self) -> Self:
        if self.hours:
            parse_hours(self.hours, self.zone)
        return self


Receiver = str | AlertRoute


def _form(value: object) -> str:
    return "address" if isinstance(value, str) else "table"


# Told apart by their form, so that what is wrong with a table is said of the table.
_AddressOrTable = Annotated[
    Annotated[str, Tag("address")] | Annotated[AlertRoute, Tag("table")], Discriminator(_form)
]


def address_of(receiver: Receiver) -> str:
    """The address of one of the `alerts`."""
    return receiver if isinstance(receiver, str) else receiver.to


class Policy(_Table):
    """All that one model's owner decides."""

    learner: str = "digits"
    """A name of the entry-point group homeostat.learners, or module:Class."""
    learner_config: dict[str, object] = Field(default_factory=dict)
    """What the learner takes besides the data; see the learner."""
    formats: tuple[Literal["torch", "pyfunc"], ...] = ("torch",)
    """What versions may be made of. `torch` is weights and JSON; `pyfunc` lets in versions that
    somebody else logged (`homeostat adopt`), whose code then runs in a process of its own.
    """
    data: str = "builtin:digits"
    """`builtin:digits`, `builtin:stdlib/json,email` (source of the standard library, for the
    learner `code`), or the path of a Parquet or CSV file.
    """
    label: str = "label"
    """The column of the data that holds the truth."""
    seed: int = 0
    """Where everything random of the pipeline begins: the same seed gives the same version."""
    epochs: Count = 30
    """Passes of the pipeline's training over its data, at most."""
    schedule: str = ""
    """Cron of the pipeline; empty: by hand."""
    report_schedule: str = ""
    """Cron of the report; empty: by hand."""
    digest_schedule: str = "0 7 * * 1"
    """Cron of the weekly digest to `alerts`; empty: by hand."""
    mode: Literal["observe", "recommend", "act"] = "act"
    """What the loop may do by itself: only watch, watch and say what it would do, or act."""
    alias_moves: Literal["enforce", "warn", "override"] = "enforce"
    """What becomes of an alias moved by hand to a version whose gates did not pass: put back,
    served with a ticket, or served.
    """
    gates: GatePolicy = GatePolicy()
    """What a candidate must show."""
    monitor: MonitorPolicy = MonitorPolicy()
    """False-alarm budgets and tolerances."""
    retrain: RetrainPolicy = RetrainPolicy()
    """When and how to learn from what changed."""
    rollout: RolloutPolicy = RolloutPolicy()
    """How a challenger earns its traffic."""
    rollback: RollbackPolicy = RollbackPolicy()
    """When traffic goes back to the standby."""
    card: CardPolicy = CardPolicy()
    """What only the owner knows of a model."""
    alerts: tuple[_AddressOrTable, ...] = ()
    """Where alerts go: addresses, or tables of `to`, `severity`, `hours` and `zone`. http(s) takes
    CloudEvents, `alertmanager+http(s)://`, `prefect+http(s)://` and `pagerduty://KEY` speak those,
    others go through Apprise: docs/alerting.md.
    """
