"""The whole gateway, as the command line acts on it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import httpx

from homeostat.addresses import has_certificate
from homeostat.client.answers import Json, checked
from homeostat.errors import Unavailable

if TYPE_CHECKING:
    from homeostat.settings import Settings

_SECONDS = 30.0
_HERE = " (command line)"
RESTORE_SECONDS = 600.0  # what is pinned is uploaded, or read byte by byte


def caller() -> str:
    """Who runs this process, as the ledger names them."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = f"user {os.getuid()}"
    return f"{user}{_HERE}"


class Gateway:
    """The gateway at one address.

    Args:
        address: As in `Settings.gateway_admin_address`; of the other routes `gateway_address` too.
        token: The bearer token.
        actor: Who acts, for the ledger.
        transport: Another way to send, for tests.
    """

    def __init__(
        self,
        address: str,
        token: str,
        *,
        actor: str = "API",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._address = address
        self._actor = actor
        self._user = actor.removesuffix(_HERE)
        # Who holds a token of their own acts in its name, and in no other.
        self._named = token.startswith("hst_")
        self._http = httpx.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=_SECONDS,
            transport=transport,
            verify=has_certificate(address),
            trust_env=False,  # a proxy is never between us and our own machine
        )

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The gateway of these settings, called by the user of this process."""
        return cls(settings.gateway_admin_address, settings.known_token(), actor=caller())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def predict(
        self,
        model: str,
        rows: Sequence[Any],
        entity: str | Sequence[str] | None = None,
        version: int | None = None,
    ) -> Json:
        """Answers for the rows, each with its prediction id; of one version, if it is given.

        Raises:
            HomeostatError: as the gateway answered; Unavailable where it does not.
        """
        body: Json = {"rows": list(rows)}
        if entity is not None:
            body["entity"] = entity if isinstance(entity, str) else list(entity)
        pin = {} if version is None else {"X-Homeostat-Version": str(version)}
        return checked(self._send("POST", f"/v1/models/{model}/predict", body, headers=pin))

    def label(self, labels: Sequence[Mapping[str, Any]]) -> Json:
        """Send truths, each `{"id": ..., "label": ..., "source"?: ..., "revise"?: ...}`.

        Raises:
            HomeostatError: as `predict`; `fields["results"]` then says what became of each.
        """
        return self._post("/v1/labels", {"labels": [dict(label) for label in labels]})

    def ready(self) -> Json:
        """What the gateway says of its readiness; `ready` is added, from the status.

        Raises:
            Unavailable: it does not answer at all.
        """
        answer = self._send("GET", "/health/ready")
        try:
            said = answer.json()
        except ValueError:
            said = {}
        return {**(said if isinstance(said, dict) else {}), "ready": answer.is_success}

    def models(self) -> list[Json]:
        """All models with what answers for them."""
        return list(self._get("/v1/models")["models"])

    def metrics(self) -> str:
        """This gateway's figures, in Prometheus' text form.

        Raises:
            Unavailable: it does not answer, or not so.
        """
        answer = self._send("GET", "/metrics")
        if not answer.is_success:
            checked(answer)
        return answer.text

    def gateways(self) -> list[Json]:
        """The gateways of this one's database: who is there, and what each serves."""
        return list(self._get("/v1/gateways")["gateways"])

    def model(self, model: str) -> Json:
        """One model: routing, versions, evidence."""
        return self._get(f"/v1/models/{model}")

    def history(self, model: str) -> Json:
        """Every routing (`routings`) and the `releases` of a model, oldest first, page by page."""
        address = f"/v1/models/{model}/history?limit=1000"
        said = self._get(address)
        while (before := said.pop("before")) is not None:
            older = self._get(f"{address}&before={before}")
            for name in ("routings", "releases"):
                said[name] = [*older[name], *said[name]]
            said["before"] = older["before"]
        return said

    def labels(self, model: str, as_of: str = "") -> Json:
        """How late a model's labels come, and accuracy with its coverage and bias.

        Args:
            model: Its name.
            as_of: As it was believed at that time (ISO 8601), and of the same as it is known now.
        """
        query = f"?as_of={quote(as_of, safe='')}" if as_of else ""
        return self._get(f"/v1/models/{model}/labels{query}")

    def held_labels(self, model: str) -> list[Json]:
        """The labels that are held back from retrains, by source and reason, and decided ones."""
        return list(self._get(f"/v1/models/{model}/held-labels")["held"])

    def decide_labels(
        self,
        model: str,
        decision: str,
        reason: str,
        *,
        source: str | None = None,
        ids: Sequence[str] = (),
    ) -> Json:
        """Let labels that are held back be learnt from (`released`), or never (`dropped`)."""
        body = {"decision": decision, "reason": reason, "source": source, "ids": list(ids)}
        return self._act(f"/v1/models/{model}/held-labels", body)

    def incidents(self, *, every: bool = False) -> list[Json]:
        """The open incidents; with `every` the newest hundred, resolved ones too."""
        said = self._get(f"/v1/incidents?every={str(every).lower()}")
        return list(said["incidents"])

    def acknowledge(self, incident: str) -> Json:
        """Take an incident on."""
        return self._act(f"/v1/incidents/{incident}/acknowledge", {})

    def promote(
        self,
        model: str,
        version: int,
        reason: str,
        *,
        override: bool = False,
        expires_hours: float = 24.0,
        expected: int | None = None,
    ) -> Json:
        """Ask for a version to become champion; with an override also without its gates.

        Raises:
            StaleGeneration: another generation than `expected` serves; `winner` says whose.
        """
        body: Json = {"version": version, "reason": reason, "override": override}
        if expected is not None:
            body["expected_generation"] = expected
        if override:
            body["expires_hours"] = expires_hours
        return self._act(f"/v1/models/{model}/promote", body)

    def grant_override(self, model: str, version: int, reason: str, expires_hours: float) -> Json:
        """Allow a version to be moved without its gates for some hours."""
        body = {"version": version, "reason": reason, "expires_hours": expires_hours}
        return self._act(f"/v1/models/{model}/overrides", body)

    def approve(
        self, model: str, version: int, reason: str, *, person: str = "", seen: str = ""
    ) -> Json:
        """Approve the verdict on a version; as the user of this process where no name is given."""
        body: Json = {"version": version, "reason": reason, "seen": seen}
        if person or not self._named:
            body["person"] = person or self._user
        return self._post(f"/v1/models/{model}/approvals", body)

    def rollback(self, model: str, reason: str, expected: int | None = None) -> Json:
        """Give the traffic back to the standby.

        Raises:
            StaleGeneration: another generation than `expected` serves; `winner` says whose.
        """
        body: Json = {"reason": reason}
        if expected is not None:
            body["expected_generation"] = expected
        return self._act(f"/v1/models/{model}/rollback", body)

    def rollout(
        self, model: str, action: str, reason: str, *, version: int = 0, expected: int | None = None
    ) -> Json:
        """Steer a trial: `start` (of a version), `pause`, `resume`, `skip` or `abort`.

        Raises:
            StaleGeneration: another generation than `expected` serves; `winner` says whose.
        """
        body: Json = {"reason": reason} | ({"version": version} if version else {})
        if expected is not None:
            body["expected_generation"] = expected
        return self._act(f"/v1/models/{model}/rollout/{action}", body)

    def automation(
        self, model: str, action: str, reason: str, *, hours: float | None = None
    ) -> Json:
        """`pause` all automation of a model, for some hours or without end, or `resume` it."""
        body: Json = {"reason": reason} | ({"hours": hours} if hours is not None else {})
        return self._act(f"/v1/models/{model}/automation/{action}", body)

    def quarantine(self, model: str) -> list[Json]:
        """What may not answer, and why."""
        return list(self._get(f"/v1/models/{model}/quarantine")["quarantine"])

    def release(self, model: str, version: int, reason: str) -> Json:
        """Let a version out of quarantine, without giving it traffic."""
        body: Json = {"version": version, "reason": reason}
        return self._act(f"/v1/models/{model}/quarantine/release", body)

    def restore(self, model: str, version: int | None, reason: str) -> Json:
        """Register what MLflow lost again from the pinned copies of the gateway."""
        body: Json = {"reason": reason} | ({} if version is None else {"version": version})
        return self._act(f"/v1/models/{model}/restore", body, RESTORE_SECONDS)

    def pins(self, model: str, *, verify: bool = False) -> list[Json]:
        """What is pinned of the versions with a role; with `verify` checked now."""
        said = self._send(
            "GET", f"/v1/models/{model}/pins?verify={str(verify).lower()}", None, RESTORE_SECONDS
        )
        return list(checked(said)["pins"])

    def _get(self, path: str) -> Json:
        return checked(self._send("GET", path))

    def _post(self, path: str, body: Mapping[str, Any]) -> Json:
        return checked(self._send("POST", path, dict(body)))

    def _act(self, path: str, body: Mapping[str, Any], seconds: float = _SECONDS) -> Json:
        said = body if self._named else {**body, "actor": self._actor}
        return checked(self._send("POST", path, dict(said), seconds))

    def _send(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        seconds: float = _SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            return self._http.request(method, path, json=body, timeout=seconds, headers=headers)
        except httpx.HTTPError as error:
            cause = str(error) or type(error).__name__
            raise Unavailable(
                f"The gateway at {self._address} does not answer: {cause}.",
                remedy="Start it with `homeostat up`; if it runs, run this in the folder of its "
                "homeostat.toml, or set HOMEOSTAT_CONFIG to that file.",
            ) from None
