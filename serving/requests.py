"""What the routes take, as typed values, and the same as JSON schemas for OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
Hours = Annotated[float, msgspec.Meta(gt=0, le=24 * 365)]
LARGEST = 2**31 - 1  # what a column of the database holds
Number = Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
Generation = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A body that says no more than its route knows."""


class PredictBody(Strict):
    """Rows to predict: `rows` for many or `row` for one; `entity` keeps an arm in a canary."""

    rows: list[Any] | msgspec.UnsetType = msgspec.UNSET
    row: Any = msgspec.UNSET
    entity: str | list[str] | None = None


class Label(Strict):
    """The truth of one prediction, by the prediction's id.

    `revise`: it takes the place of another that came before, which is kept as what was believed.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    label: Any
    source: Annotated[str, msgspec.Meta(max_length=200)] = ""
    revise: bool = False


class LabelsBody(Strict):
    """Labels, in any order, at any time, as often as one likes."""

    labels: list[Label]


class PromoteBody(Strict):
    """Make a version champion; with `override` whatever the gates say, until it expires.

    With `expected_generation` only while that generation serves: else 409 names who was first.
    """

    version: Number
    reason: Text
    override: bool = False
    expires_hours: Hours = 24.0
    expected_generation: Generation | None = None
    actor: Text = "API"


class RollbackBody(Strict):
    """Give the traffic back to the standby; `expected_generation` as in a promotion."""

    reason: Text
    expected_generation: Generation | None = None
    actor: Text = "API"


class TrialBody(Strict):
    """Pause a trial, let it go on, skip its step or end it; `expected_generation` as above."""

    reason: Text
    expected_generation: Generation | None = None
    actor: Text = "API"


class StartTrialBody(TrialBody, kw_only=True):
    """Try a version against the champion, beginning in shadow."""

    version: Number


class AutomationBody(Strict):
    """Pause all automation, for some `hours` or until somebody ends it; or let it act again."""

    reason: Text
    hours: Hours | None = None
    actor: Text = "API"


class ReleaseBody(Strict):
    """Let a version out of quarantine; it gets no traffic by that."""

    version: Number
    reason: Text
    actor: Text = "API"


class OverrideBody(Strict):
    """Let a version pass the gates until it expires; its alias may then be moved in MLflow."""

    version: Number
    reason: Text
    expires_hours: Hours = 24.0
    actor: Text = "API"


class ApprovalBody(Strict):
    """Approve the verdict that stands on a version; `seen` begins its hash.

    Who approves is the token's holder; with the administrator's token it is `person`.
    """

    version: Number
    reason: Text
    person: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    seen: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{8,64})?$")] = ""


class RestoreBody(Strict):
    """Register what MLflow lost again; without `version` every version that has a role."""

    reason: Text
    version: Number | None = None
    actor: Text = "API"


class HeldLabelsBody(Strict):
    """Labels that are held back may be learnt from, or never.

    All of them, or those of a `source`, or those of the predictions `ids`.
    """

    decision: Literal["released", "dropped"]
    reason: Text
    source: str | None = None
    ids: Annotated[list[str], msgspec.Meta(max_length=10_000)] = []
    actor: Text = "API"


class AcknowledgeBody(Strict):
    """Somebody has seen it."""

    actor: Text = "API"


BODIES = (
    PredictBody,
    LabelsBody,
    PromoteBody,
    RollbackBody,
    TrialBody,
    StartTrialBody,
    AutomationBody,
    ReleaseBody,
    OverrideBody,
    ApprovalBody,
    RestoreBody,
    HeldLabelsBody,
    AcknowledgeBody,
)


def takes(kind: type[Strict]) -> dict[str, Any]:
    """The OpenAPI part of a route whose body is `kind`."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}
            },
        }
    }


def schemas() -> dict[str, Any]:
    """The JSON schemas of all bodies, as OpenAPI components."""
    _, components = msgspec.json.schema_components(
        BODIES, ref_template="#/components/schemas/{name}"
    )
    return components
