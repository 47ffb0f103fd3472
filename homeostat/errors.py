"""The tree of errors, one root for all rooms.

    HomeostatError
    ├── InputError            the caller sent something that cannot be used
    │   ├── InvalidRow            a row of the wrong shape, type or range
    │   ├── InvalidLabel          a label that this model cannot be judged by
    │   ├── InvalidRequest        a body that is not what the route takes
    │   ├── TooLarge              beyond a stated limit
    │   ├── DataError             a file or table that lacks what training needs
    │   ├── UnknownModel          no such model here
    │   ├── UnknownVersion        no such version of the model
    │   ├── UnknownPrediction     a label for an id that was never given out
    │   ├── NothingServed         a moment before the first routing
    │   └── ConflictingLabel      a second label that contradicts the first
    ├── Unauthorized          no token, or one that does not work
    ├── Forbidden             the token, or the person's grants, are not for that
    ├── SignInRefused         what came of signing in elsewhere cannot be relied on
    ├── RateLimited           more requests than the token's holder may make
    ├── LearnerError          a learner's own code failed or broke its contract
    ├── ArtifactError         a stored version cannot be used
    │   ├── SuspectArtifact       it is not what was registered: changed, cut or forged
    │   └── WrongEncoder          the frozen encoder that it needs is not here, or is another
    ├── LedgerBroken          a line of the ledger is not what was written
    ├── Refused               the policy or the state forbids it
    │   ├── StaleGeneration       somebody else moved the routing first
    │   ├── GateRefused           the version has no passing verdict
    │   ├── NoTarget              nothing to roll back to
    │   ├── NoCopy                no whole copy of the version on this disk
    │   └── NothingToRestore      MLflow has the version, whole
    ├── Unavailable           a part is away; what was loaded serves on
    │   └── NotProven             the routing is written, but the answers do not show it
    └── SettingsError         settings that cannot be meant
        └── StartError            a part could not be started here

Every message names the value and what was wrong with it; `remedy` says what to do.
`code` is stable: it is the problem type over HTTP and is documented in docs/errors.md.
"""

from __future__ import annotations

from typing import ClassVar


class HomeostatError(Exception):
    """The root: a cause, a remedy, and the fields that a program may read.

    Args:
        message: What went wrong, with the value that was wrong.
        remedy: What the reader can do about it.
        fields: Plain JSON values carried to the answer.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, remedy: str = "", **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class InputError(HomeostatError):
    """The caller sent something that cannot be used."""

    code = "invalid-input"


class InvalidRow(InputError):
    """A row of the wrong shape, type or range; `row` is its index."""

    code = "invalid-row"


class InvalidLabel(InputError):
    """A label that this model cannot be judged by."""

    code = "invalid-label"


class InvalidRequest(InputError):
    """A body that is not what the route takes."""

    code = "invalid-request"


class TooLarge(InputError):
    """Beyond a stated limit; `limit` says which."""

    code = "too-large"


class DataError(InputError):
    """A file or table that lacks what training needs."""

    code = "invalid-data"


class UnknownModel(InputError):
    """No such model here."""

    code = "unknown-model"


class UnknownVersion(InputError):
    """No such version of the model."""

    code = "unknown-version"


class UnknownPrediction(InputError):
    """A label for an id that was never given out."""

    code = "unknown-prediction"


class NothingServed(InputError):
    """A moment before a model's first routing, or a model that never had one."""

    code = "nothing-served"


class ConflictingLabel(InputError):
    """A second label that contradicts the first; the first stands."""

    code = "conflicting-label"


class Unauthorized(HomeostatError):
    """No token, or one that is unknown, revoked or at its end."""

    code = "unauthorized"


class Forbidden(HomeostatError):
    """The token, or the person's grants, are not for that; `verb` says what it would need."""

    code = "forbidden"


class SignInRefused(HomeostatError):
    """What came of signing in at the OpenID Connect provider cannot be relied on."""

    code = "sign-in-refused"


class RateLimited(HomeostatError):
    """More requests than the token's holder may make; `retry_after` says in how many seconds."""

    code = "rate-limited"


class LearnerError(HomeostatError):
    """A learner's own code failed or broke its contract."""

    code = "learner-failed"


class ArtifactError(HomeostatError):
    """A stored version cannot be used."""

    code = "artifact-refused"


class SuspectArtifact(ArtifactError):
    """It is not what was registered: changed, cut or forged; its digest goes into quarantine."""

    code = "artifact-suspect"


class WrongEncoder(ArtifactError):
    """The frozen encoder that a version needs is not on this host, or is another."""

    code = "wrong-encoder"


class LedgerBroken(HomeostatError):
    """A line of the ledger is not what was written; `line` says which, `good` up to where it is."""

    code = "ledger-broken"


class Refused(HomeostatError):
    """The policy or the state forbids it."""

    code = "refused"


class StaleGeneration(Refused):
    """Somebody else moved the routing first; `winner` says who, `generation` the present one."""

    code = "stale-generation"


class GateRefused(Refused):
    """The version has no passing verdict."""

    code = "gate-refused"


class NoTarget(Refused):
    """Nothing to roll back to."""

    code = "no-target"


class NoCopy(Refused):
    """There is no whole copy of the version on this disk."""

    code = "no-copy"


class NothingToRestore(Refused):
    """MLflow has the version, whole."""

    code = "nothing-to-restore"


class Unavailable(HomeostatError):
    """A part is away; what was loaded serves on."""

    code = "unavailable"


class NotProven(Unavailable):
    """The routing is written, but the answers do not show it."""

    code = "not-proven"


class SettingsError(HomeostatError):
    """Settings that cannot be meant."""

    code = "invalid-settings"


class StartError(SettingsError):
    """A part could not be started here."""

    code = "cannot-start"
