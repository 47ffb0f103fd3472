"""A version in memory: loaded from its verified files, warmed, and asked batch by batch.

Shapes: N rows, D encoded columns, C classes (1 for a regression).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homeostat.errors import ArtifactError, HomeostatError, LearnerError
from models.learner import Learner, Row
from models.plain import FEW, Plain
from models.pyfunc import Apart
from models.torch_learner import guarded
from monitoring.profile import Profile
from registry.runtimes import open_version

Outputs = NDArray[np.float32]

PROFILE_FILE = "profile.json"
GOLDEN_FILE = "golden.json"
GOLDEN_TOLERANCE = 1e-3

logger = logging.getLogger(__name__)


class Golden(msgspec.Struct):
    """Rows with the outputs that the version gave when it was judged."""

    rows: list[msgspec.Raw]
    outputs: list[list[float]]


@dataclass(frozen=True)
class Loaded:
    """One version, ready to answer.

    Args:
        model: The model's name.
        version: Its number in the registry.
        digest: SHA-256 of its manifest, as verified.
        learner: Encodes, predicts, scores.
        module: Its weights, in evaluation mode.
        profile: Its reference distributions and losses.
        encoding: Equal for versions whose learners encode rows alike.
        quick: How it answers few rows without torch; None: it does not.
    """

    model: str
    version: int
    digest: str
    learner: Learner
    module: nn.Module
    profile: Profile
    encoding: str = field(repr=False)
    quick: Plain | None = field(default=None, repr=False, compare=False)

    @property
    def apart(self) -> bool:
        """Whether it runs in a process of its own, and so may keep its caller waiting."""
        return isinstance(self.module, Apart)

    @property
    def fault(self) -> str:
        """Why it may not answer any more, as its process was started again; empty: it may."""
        return self.module.fault if isinstance(self.module, Apart) else ""

    def encode(self, rows: Sequence[Row]) -> Tensor:
        """Rows as (N, D).

        Raises:
            InvalidRow: a row that cannot be used, named by its index.
            LearnerError: the learner failed otherwise.
        """
        return self._encoded(self.learner.encode, rows)

    def encode_array(self, values: NDArray[np.floating[Any]]) -> Tensor:
        """As `encode`, of rows that are `learner.row_size` numbers each (N, D)."""
        return self._encoded(self.learner.encode_array, values)

    def _encoded(self, encode: Callable[[Any], Tensor], rows: Sized) -> Tensor:
        try:
            x = encode(rows)
        except HomeostatError:
            raise
        except Exception as error:
            raise self._failed("encode", error) from error
        if x.shape[0] != len(rows):
            raise LearnerError(
                f"The learner of {self.model}:{self.version} encoded {len(rows)} rows as "
                f"{x.shape[0]}.",
                model=self.model,
                version=self.version,
            )
        return x

    def predict(self, x: Tensor) -> Outputs:
        """Outputs (N, C), finite or not, of encoded rows (N, D).

        Raises:
            LearnerError: the learner failed, or gave something of another shape.
        """
        try:
            if self.quick is not None and len(x) <= FEW:
                with np.errstate(all="ignore"):  # as torch: what is not finite is seen to below
                    outputs = self.quick(x.numpy())
            else:
                with torch.inference_mode():
                    outputs = np.asarray(self.learner.predict(self.module, x), dtype=np.float32)
        except HomeostatError:
            raise
        except Exception as error:
            raise self._failed("predict", error) from error
        if outputs.ndim != 2 or outputs.shape[0] != x.shape[0]:
            raise LearnerError(
                f"{self.model}:{self.version} gave outputs of shape {outputs.shape} for "
                f"{x.shape[0]} rows.",
                remedy="`predict` must return an array of one line per row.",
                model=self.model,
                version=self.version,
            )
        return outputs

    def not_finite(self) -> LearnerError:
        """The error of a request whose outputs hold NaN or infinity."""
        return LearnerError(
            f"{self.model}:{self.version} gave an output that is not a finite number.",
            remedy="Look at the row, and at the version's training.",
            model=self.model,
            version=self.version,
        )

    def _failed(self, what: str, error: Exception) -> LearnerError:
        return LearnerError(
            f"The learner of {self.model}:{self.version} failed in {what}: "
            f"{type(error).__name__}: {error}",
            remedy="Mend the learner, or roll back to a version that works.",
            model=self.model,
            version=self.version,
        )


def load(
    folder: Path,
    model: str,
    version: int,
    digest: str,
    allowed: Collection[str],
    formats: Collection[str] = ("torch",),
) -> Loaded:
    """Load a version from its `model/` files, verified against `digest`, and warm it.

    Raises:
        ArtifactError: the files are not what was registered, or its golden rows are answered
            otherwise than when it was judged.
        LearnerError: it cannot answer at all.
    """
    found = open_version(
        folder, f"{model}:{version}", allowed=allowed, formats=formats, digest=digest or None
    )
    if PROFILE_FILE not in found.files:
        raise ArtifactError(
            f"{model}:{version} has no {PROFILE_FILE}.", remedy="Register it through the pipeline."
        )
    loaded = Loaded(
        model=model,
        version=version,
        digest=found.digest,
        learner=found.learner,
        module=found.model,
        profile=Profile.from_json(found.files[PROFILE_FILE]),
        encoding=f"{found.reference}:{json.dumps(found.learner.config(), sort_keys=True)}",
    )
    if GOLDEN_FILE in found.files:
        check_golden(loaded, found.files[GOLDEN_FILE])
        _prove_returns(loaded, found.files[GOLDEN_FILE])
        return quickened(loaded, found.files[GOLDEN_FILE])
    return loaded


def quickened(loaded: Loaded, golden: bytes) -> Loaded:
    """The version with its quick way, where it has one that answers the golden rows alike."""
    try:
        quick = guarded(loaded.learner.quick, loaded.module)
        if quick is None:
            return loaded
        found = replace(loaded, quick=quick)
        check_golden(found, golden)
    except HomeostatError as error:
        logger.warning("few rows of %s:%d go by torch: %s", loaded.model, loaded.version, error)
        return loaded
    return found


def _prove_returns(loaded: Loaded, golden: bytes) -> None:
    """Have a process that is started again asked the same before it answers anybody."""
    if isinstance(loaded.module, Apart):
        bare = replace(loaded, module=nn.Identity())  # a module must not hold itself
        loaded.module.proof = lambda back: check_golden(replace(bare, module=back), golden)


def check_golden(loaded: Loaded, content: bytes) -> None:
    """Ask the version for the rows that it was judged by.

    Args:
        loaded: The version.
        content: Its `golden.json`.

    Raises:
        ArtifactError: the answers differ from the recorded ones.
        LearnerError: it cannot answer.
    """
    try:
        golden = msgspec.json.decode(content, type=Golden)
        rows = [msgspec.json.decode(row) for row in golden.rows]
        expected = np.asarray(golden.outputs, dtype=np.float32)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{GOLDEN_FILE} of {loaded.model}:{loaded.version} cannot be read: {error}.",
            remedy="Register the version again.",
        ) from error
    outputs = loaded.predict(loaded.encode(rows))
    if outputs.shape != expected.shape or not np.allclose(
        outputs, expected, atol=GOLDEN_TOLERANCE, rtol=GOLDEN_TOLERANCE
    ):
        raise ArtifactError(
            f"{loaded.model}:{loaded.version} answers its golden rows otherwise than when it "
            "was judged.",
            remedy="Register it again on a host of this kind.",
            model=loaded.model,
            version=loaded.version,
        )


def check_recent(loaded: Loaded, rows: Sequence[Row], like: Loaded | None) -> None:
    """Warm a version with rows of live traffic, and hold it to the shape of the present one.

    Raises:
        ArtifactError: its outputs have another width than those of `like`, and not because one
            of the two has classes after those that both have.
        LearnerError: it cannot answer, or not with finite numbers.
    """
    if not rows:
        return
    for batch in (rows[:1], rows):  # one row and many: both paths are warm afterwards
        outputs = loaded.predict(loaded.encode(batch))
    if not np.isfinite(outputs).all():
        raise loaded.not_finite()
    if like is not None:
        width = like.predict(like.encode(rows[:1])).shape[1]
        if outputs.shape[1] != width and not _one_is_grown(loaded.learner, like.learner):
            raise ArtifactError(
                f"{loaded.model}:{loaded.version} gives {outputs.shape[1]} outputs a row, the "
                f"champion {width}.",
                remedy="A version of another task needs a model name of its own.",
                model=loaded.model,
                version=loaded.version,
            )


def _one_is_grown(one: Learner, other: Learner) -> bool:
    """Whether the first classes of one are all those of the other."""
    ours, theirs = (tuple(getattr(each, "classes", ())) for each in (one, other))
    both = min(len(ours), len(theirs))
    return both > 0 and ours[:both] == theirs[:both]
