"""One model: how good its answers are, what its detectors say, what serves, what served when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from sqlalchemy.orm import Session

from homeostat.errors import HomeostatError, InputError
from homeostat.settings import Settings
from monitoring.guilt import FeatureEvidence
from monitoring.sequential import mean_interval
from registry.losses import newest_losses
from registry.matrix import Standing, matrix
from registry.promotion import Override, active_overrides
from registry.retrains import Retrain, retrain_running
from registry.served import Served, served_at
from serving.gateway import Gateway
from serving.open_set import Strange, strange_rows
from serving.page.fleet import ModelLine, model_line

ERROR_RATE = 0.05  # of each interval
NEWEST = 200  # labels that say how it is now
NAMED = 5  # columns that are told in words


@dataclass(frozen=True)
class Accuracy:
    """Accuracy by labels: of how many, and the interval that misses with chance `ERROR_RATE`."""

    labels: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ModelView:
    """All that a model's page tells at once; its timeline and its versions come later.

    Args:
        now: When it was gathered.
        line: As on the fleet's page.
        whole: Of the champion, by every label since it serves; None before the first. Valid
            however often one looks.
        newest: By its newest labels alone.
        strange: Rows of no known class.
        features: How far each column is from the reference, in the profile's order.
        tolerance: The total variation that is not worth an alarm.
        clearest: Those columns that say most, the first first.
        overrides: In force.
        retrain: The one that has not ended.
        mlflow: The address of the model in MLflow's page.
        prefect: The address of Prefect's page.
        retrain_page: And of that retrain there.
    """

    now: datetime
    line: ModelLine
    whole: Accuracy | None
    newest: Accuracy | None
    strange: Strange
    features: tuple[FeatureEvidence, ...]
    tolerance: float
    clearest: tuple[FeatureEvidence, ...]
    overrides: tuple[Override, ...]
    retrain: Retrain | None
    mlflow: str
    prefect: str
    retrain_page: str

    @property
    def drifts(self) -> bool:
        """Whether the evidence on inputs has reached its alarm."""
        return any(
            one.detector == "input-drift" and one.value >= one.threshold
            for one in self.line.evidence
        )

    @property
    def top(self) -> float:
        """The total variation at the top of the strip."""
        highest = max((one.total_variation for one in self.features), default=0.0)
        return max(highest, 3 * self.tolerance)


@dataclass(frozen=True)
class ThenView:
    """What served at a moment."""

    at: datetime
    served: tuple[Served, ...]
    trouble: str


def model_view(gateway: Gateway, name: str) -> ModelView:
    """Gather a model.

    Raises:
        Unavailable: the database is away.
    """
    parts, watch = gateway.parts, gateway.watches[name]
    now = parts.clock()
    with parts.reading() as session:
        line = model_line(gateway, session, name)
        newest = _newest(session, line)
        strange = strange_rows(gateway, session, name)
        overrides = active_overrides(session, name, now)
        retrain = retrain_running(session, name)
    features = watch.features()
    by_evidence = sorted(features, key=lambda one: (-one.evidence, -one.total_variation))
    return ModelView(
        now=now,
        line=line,
        whole=accuracy_of_sum(*watch.losses_seen()),
        newest=newest,
        strange=strange,
        features=tuple(features),
        tolerance=parts.policy(name).monitor.tolerance_inputs,
        clearest=tuple(by_evidence[:NAMED]),
        overrides=tuple(overrides),
        retrain=retrain,
        mlflow=mlflow_page(gateway.settings, name),
        prefect=prefect_page(gateway.settings),
        retrain_page=prefect_page(gateway.settings, retrain.flow_run_id if retrain else ""),
    )


def then_view(gateway: Gateway, name: str, said: str) -> ThenView:
    """What served at a moment that somebody wrote.

    Raises:
        InputError: it is no moment.
        Unavailable: the database is away.
    """
    try:
        at = datetime.fromisoformat(said.strip())
    except ValueError:
        raise InputError(
            f"'{said[:40]}' is no moment.", remedy="Write it so: 2026-11-26T03:00:00, in UTC."
        ) from None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    with gateway.parts.reading() as session:
        try:
            return ThenView(at, tuple(served_at(session, name, at)), "")
        except HomeostatError as error:
            if error.code != "nothing-served":
                raise
            return ThenView(at, (), error.message)


def versions_view(gateway: Gateway, name: str) -> list[Standing]:
    """The matrix of a model's versions, the newest first.

    Raises:
        Unavailable: MLflow or the database is away.
    """
    listed = gateway.store.list_versions(name)
    metrics = {one.version: gateway.store.metrics(one.run_id) for one in listed}
    with gateway.parts.reading() as session:
        return matrix(session, name, listed, metrics)[::-1]


def accuracy_of_sum(labels: int, total: float) -> Accuracy | None:
    """Accuracy from the number of losses and their sum alone.

    As if each loss were 0 or 1 with the same mean, which only widens the interval: the logarithm
    of a bet's gain is concave in the loss.
    """
    if not labels:
        return None
    low, high = mean_interval([0.0, 1.0], ERROR_RATE, [labels - total, total])
    return _accuracy(labels, total / labels, low, high)


def mlflow_page(settings: Settings, model: str, version: int | None = None) -> str:
    """The address of a model, or of one version of it, in MLflow's page."""
    place = f"{public(settings.mlflow_address)}/#/models/{quote(model, safe='')}"
    return place if version is None else f"{place}/versions/{version}"


def prefect_page(settings: Settings, run: str = "") -> str:
    """The address of a flow run, or of all of them, in Prefect's page."""
    place = f"{public(settings.prefect_address).removesuffix('/api')}/runs"
    return f"{place}/flow-run/{quote(run, safe='')}" if run else place


def places_of(settings: Settings) -> tuple[str, ...]:
    """Where MLflow's and Prefect's pages begin."""
    prefect = public(settings.prefect_address).removesuffix("/api")
    return f"{public(settings.mlflow_address)}/", f"{prefect}/"


def public(address: str) -> str:
    """An address without the name and password that may be in it."""
    whole = urlsplit(address)
    return whole._replace(netloc=whole.netloc.rpartition("@")[2]).geturl().rstrip("/")


def _newest(session: Session, line: ModelLine) -> Accuracy | None:
    if line.routing is None:
        return None
    losses = newest_losses(session, line.name, line.routing.champion, NEWEST)
    return accuracy_of(losses)


def accuracy_of(losses: Sequence[float]) -> Accuracy | None:
    """Accuracy by some losses; None without any."""
    if not losses:
        return None
    low, high = mean_interval(losses, ERROR_RATE)
    return _accuracy(len(losses), sum(losses) / len(losses), low, high)


def _accuracy(labels: int, loss: float, low: float, high: float) -> Accuracy:
    return Accuracy(labels, 1.0 - loss, 1.0 - max(high, loss), 1.0 - min(low, loss))
