"""What MLflow has lost of the versions that have a role: looked for, and named exactly.

Nothing is believed that was not read: no timestamp, no event. An alias that points at a version
shows that the version is there, so the usual look at a model is one call; the artifacts are read
on a slower beat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from homeostat.errors import UnknownVersion
from registry.mlflow_api import MlflowRefused
from registry.restoring import find_loss
from registry.versions import MlflowVersions

MODEL, VERSION, COPY = "model", "version", "copy"
POINTER, TRAFFIC, AWAY = "pointer", "traffic", "mlflow"

DOES: dict[str, str] = {
    "champion": "which answers traffic",
    "challenger": "which is on trial",
    "standby": "which is kept to roll back to",
}


@dataclass(frozen=True)
class Held:
    """A version with a role, as the routing and its release have it."""

    version: int
    role: str
    digest: str
    run_id: str = ""

    @property
    def grave(self) -> str:
        """How loud a loss of it is: the one that answers, or may have to, pages."""
        return "ticket" if self.role == "challenger" else "page"


@dataclass(frozen=True)
class Fault:
    """Something that is not as it should be, and stands until it is mended.

    Args:
        subject: What about: of one subject and version there is one incident at a time.
        version: Which version it is about.
        text: What happened, in a sentence that stays the same while it stands.
        severity: `page` or `ticket`.
        next_step: What somebody can do.
    """

    subject: str
    version: int
    text: str
    severity: str
    next_step: str

    @property
    def key(self) -> tuple[str, int]:
        """What tells its incident from others of the model."""
        return self.subject, self.version


def find_faults(
    store: MlflowVersions,
    model: str,
    held: Sequence[Held],
    aliases: Mapping[str, int] | None,
    *,
    deep: bool,
) -> list[Fault]:
    """What MLflow lost of a model's versions.

    Args:
        store: MLflow's registry.
        model: The registered model's name.
        held: Its versions with a role, the champion first.
        aliases: As `store.registered` just answered.
        deep: Also read artifacts and runs, not only the registry.

    Raises:
        Unavailable: MLflow is away: nothing is known.
    """
    if aliases is None:
        return [_model_gone(store, model, held[0])] if held else []
    seen = set(aliases.values())
    faults = []
    for one in held:
        if one.version not in seen and not store.exists(model, one.version):
            text = f"Version {one.version} of {model}, {DOES[one.role]}, was deleted in MLflow."
            faults.append(_lost(model, one, text))
        elif deep and (fault := _unreadable(store, model, one)) is not None:
            faults.append(fault)
    return faults


def restore_command(model: str, version: int) -> str:
    """The command that brings a version back into MLflow."""
    return f"homeostat restore {model} --version {version}"


def _model_gone(store: MlflowVersions, model: str, champion: Held) -> Fault:
    others = [name for name in store.models_of(champion.run_id) if name != model]
    how = f"it was renamed to {others[0]} there" if others else "it was deleted or renamed there"
    mend = f"rename {others[0]} back in MLflow, or: " if others else ""
    return Fault(
        MODEL,
        champion.version,
        f"The model {model} is gone from MLflow: {how}.",
        "page",
        f"{mend}homeostat restore {model}",
    )


def _unreadable(store: MlflowVersions, model: str, one: Held) -> Fault | None:
    who = f"version {one.version} of {model}, {DOES[one.role]},"
    try:
        info = store.version(model, one.version)
        run = store.api.get("runs/get", run_id=info.run_id)["run"] if info.run_id else None
    except UnknownVersion:
        text = f"Version {one.version} of {model}, {DOES[one.role]}, was deleted in MLflow."
        return _lost(model, one, text)
    except MlflowRefused:
        return _lost(model, one, f"The run that holds {who} is gone from MLflow, and its files.")
    if one.digest and find_loss(store, model, one.version, one.digest):
        return _lost(model, one, f"The artifact of {who} cannot be read in MLflow.")
    if run is not None and run["info"].get("lifecycle_stage") == "deleted":
        text = f"The run that holds {who} was deleted in MLflow: `mlflow gc` will remove its files."
        return Fault(
            VERSION,
            one.version,
            text,
            "ticket",
            f"restore the run {info.run_id} in MLflow before that; afterwards: "
            f"{restore_command(model, one.version)}",
        )
    return None


def _lost(model: str, one: Held, text: str) -> Fault:
    return Fault(VERSION, one.version, text, one.grave, restore_command(model, one.version))
